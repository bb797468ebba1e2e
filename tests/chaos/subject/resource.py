"""Targets of `resource.*`: small file systems and control groups of their own, and processes in them."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.system import cgroup, mount, proc
from tests.chaos.case import Case, end, holders, line, subject

DISK = Path("/var/tmp")


def needs_root() -> str:
    return "needs root" if os.getuid() else ""


def needs_disk() -> str:
    return "" if mount.device_of(str(DISK)) else f"no block device is behind {DISK}"


def needs_blkio() -> str:
    group = cgroup.find(os.getpid(), "blkio")
    return needs_root() or needs_disk() or ("" if group else "no blkio controller for control groups")


def needs_pids() -> str:
    return needs_root() or ("" if cgroup.find(os.getpid(), "pids") else "no pids controller for control groups")


@subject("resource.cpu")
def cpu() -> Iterator[Case]:
    yield Case("resource.cpu", {"load_fraction": 0.5, "workers": 1}, in_force=lambda: bool(holders()))


@subject("resource.memory")
def memory() -> Iterator[Case]:
    yield Case("resource.memory", {"size_mb": 48}, in_force=lambda: bool(holders()))


@contextlib.contextmanager
def small_disk() -> Iterator[str]:
    """A tmpfs of 8 MB and 400 inodes."""
    with tempfile.TemporaryDirectory(prefix="blackstart-test-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=400", "none", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@subject("resource.disk_fill", missing=needs_root, variants={"half": {"leave_mb": 4}})
def disk_fill() -> Iterator[Case]:
    with small_disk() as path:
        before = mount.space(path).free
        yield Case(
            "resource.disk_fill", {"path": path, "leave_mb": 0}, lambda: {"free": mount.space(path).free},
            in_force=lambda: mount.space(path).free < before,
        )  # fmt: skip


@subject("resource.inode_fill", missing=needs_root)
def inode_fill() -> Iterator[Case]:
    with small_disk() as path:
        before = mount.space(path).inodes_free
        yield Case(
            "resource.inode_fill", {"path": path}, lambda: {"free": mount.space(path).inodes_free},
            in_force=lambda: mount.space(path).inodes_free < before,
        )  # fmt: skip


@subject("resource.io_pressure", missing=needs_disk)
def io_pressure() -> Iterator[Case]:
    with tempfile.TemporaryDirectory(prefix="blackstart-test-", dir=DISK) as folder:
        yield Case(
            "resource.io_pressure", {"path": folder, "workers": 1, "size_mb": 4},
            lambda: {"files": os.listdir(folder)}, in_force=lambda: bool(holders()),
        )  # fmt: skip


OPENER = """
import sys
files = []
print("ready", flush=True)
for row in sys.stdin:
    try:
        files.append(open("/dev/null")); print(0, flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""


@contextlib.contextmanager
def opener() -> Iterator[subprocess.Popen[bytes]]:
    """A process that opens a file for every line that it reads, and answers with the error's number."""
    process = subprocess.Popen([sys.executable, "-c", OPENER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    line(process)
    try:
        yield process
    finally:
        end(process)


@subject("resource.fd_exhaust")
def fd_exhaust() -> Iterator[Case]:
    with opener() as process:
        soft = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0]

        def now() -> int:
            if proc.identify(process.pid) is None:
                return -1
            return resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0]

        yield Case(
            "resource.fd_exhaust", {"pid": process.pid}, lambda: {"limit": now()},
            in_force=lambda: now() not in (soft, -1), vanish=lambda: (process.kill(), process.wait(), None)[-1],
        )  # fmt: skip


@contextlib.contextmanager
def grouped(controller: str, **settings: Any) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A sleeping process in a control group of its own."""
    top = cgroup.find(os.getpid(), controller)
    assert top is not None
    group = top.path / f"test-{os.getpid()}-{os.urandom(3).hex()}"
    group.mkdir()
    process = subprocess.Popen(["sleep", "600"])
    try:
        for name, value in settings.items():
            (group / name.replace("_", ".")).write_text(str(value))
        cgroup.join(str(group / "cgroup.procs"), process.pid)
        yield process, group
    finally:
        end(process)
        for _ in range(100):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            subprocess.run(["sleep", "0.02"], check=True)


@subject("resource.pid_exhaust", missing=needs_pids)
def pid_exhaust() -> Iterator[Case]:
    with grouped("pids", pids_max=40) as (process, group):

        def tasks() -> int:
            number = int((group / "pids.current").read_text())
            return number if number > 2 else 1  # a dead holder counts until init reaps it

        yield Case(
            "resource.pid_exhaust", {"cgroup_of": {"pid": process.pid}}, lambda: {"tasks": tasks()},
            in_force=lambda: tasks() > 10,
        )  # fmt: skip


@subject("resource.io_throttle", missing=needs_blkio)
def io_throttle() -> Iterator[Case]:
    with grouped("blkio") as (process, group):

        def seen() -> dict[str, Any]:
            found = cgroup.find(process.pid, "blkio")
            return {"group": found and str(found.path), "below": [one.name for one in group.iterdir() if one.is_dir()]}

        yield Case(
            "resource.io_throttle", {"pid": process.pid, "path": str(DISK), "write_bps": 2_000_000}, seen,
            in_force=lambda: bool(seen()["below"]), vanish=lambda: (process.kill(), process.wait(), None)[-1],
            spent=frozenset(),
        )  # fmt: skip
