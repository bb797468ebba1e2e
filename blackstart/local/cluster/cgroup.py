"""Control groups (version 1) of a node of its own: all that its kubelet and its pods make stands below one group.

Invariant: the group bears the pid of the process that made it, so that what a killed one left is known, and swept.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

from protos.error import BlackstartError

ROOT: Final = Path("/sys/fs/cgroup")
PREFIX: Final = "blackstart-node-"
_NEEDED: Final = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids", "systemd")
_EMPTY_S: Final = 5.0  # until what was killed has left its group


def missing() -> str:
    """What this machine lacks for nodes, in words."""
    lacking = [name for name in _NEEDED if not (ROOT / name / "cgroup.procs").exists()]
    return f"a kernel with control groups of version 1 (without: {', '.join(lacking)})" if lacking else ""


def made(node: str) -> str:
    """The path of a new group for *node*, as the kubelet's `cgroupRoot` names it."""
    name = f"{PREFIX}{os.getpid()}-{node}"
    for controller in _NEEDED:
        folder = ROOT / controller / name
        folder.mkdir(exist_ok=True)
        if controller == "cpuset":  # a new one has no processors, and takes no process
            for file in ("cpuset.cpus", "cpuset.mems"):
                (folder / file).write_text((ROOT / controller / file).read_text(encoding="ascii"), encoding="ascii")
    return f"/{name}"


def removed(path: str) -> None:
    """Removes the group and all below it, once its processes have ended; BlackstartError if they do not."""
    until = time.monotonic() + _EMPTY_S
    groups = [folder / path.lstrip("/") for folder in ROOT.iterdir()]  # runc makes them in version 2, too
    while left := [one for folder in groups if (one := _pruned(folder)) is not None]:
        if time.monotonic() > until:
            raise BlackstartError(f"control groups that are still in use: {', '.join(map(str, left))}")
        time.sleep(0.05)


def sweep() -> None:
    """Removes the groups of processes that have ended without removing them."""
    for name in {folder.name for folder in ROOT.glob(f"*/{PREFIX}*")}:
        pid = name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            with contextlib.suppress(BlackstartError):
                removed(f"/{name}")


def _pruned(folder: Path) -> Path | None:
    """Removes *folder* from below; what is left of it."""
    for at, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            Path(at).rmdir()
    return folder if folder.exists() else None
