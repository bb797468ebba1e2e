"""Targets of `file.*`: a directory with files in it, and a process with a mount namespace of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.case import Case, end, line, subject


def missing() -> str:
    if os.getuid():
        return "needs root"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    return ""


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """A directory with a file and a subdirectory."""
    with tempfile.TemporaryDirectory(prefix="blackstart-files-") as folder:
        place = Path(os.path.realpath(folder), "store")
        (place / "sub").mkdir(parents=True)
        (place / "kept").write_text("kept")
        (place / "sub" / "more").write_bytes(bytes(10_000))
        try:
            yield place
        finally:
            unmount(place)


def unmount(place: Path) -> None:
    """What a failed test may have left."""
    while mounted(place):
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def mounted(place: Path, pid: int | str = "self") -> list[str]:
    """The mounts on the directory, by what the kernel lists."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    except OSError:
        return []
    return [line.partition(" - ")[2] for line in lines if line.split()[4] == str(place)]


def content(place: Path) -> list[Any]:
    """Names, owners, modes, times and content of all that is in the directory; the error if it cannot be read."""
    found: list[Any] = []
    try:
        for path in [place, *sorted(place.rglob("*"))]:
            about = path.lstat()
            body = path.read_bytes() if path.is_file() else b""
            row = (about.st_ino, about.st_mode, about.st_uid, about.st_gid, about.st_nlink, about.st_mtime_ns)
            found.append((str(path), *row, hash(body)))
    except OSError as error:
        return [str(error)]
    return found


@subject("file.io_error", missing=missing, variants={"fraction": {"fraction": 0.5}, "names": {"names": ["*.wal"]}})
def io_error() -> Iterator[Case]:
    with directory() as place:
        yield Case(
            "file.io_error", {"path": str(place), "operations": ["fsync", "create", "write"], "errno": "ENOSPC"},
            lambda: {"mounts": mounted(place), "content": content(place)}, in_force=lambda: bool(mounted(place)),
        )  # fmt: skip


@contextlib.contextmanager
def namespace() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a mount namespace of its own; it ends when its input does."""
    script = ["sh", "-c", 'echo ready; while read -r line; do eval "$line"; done']
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation=private", *script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    line(process)
    try:
        yield process
    finally:
        end(process)


@subject("file.io_slow", missing=missing)
def io_slow() -> Iterator[Case]:
    with directory() as place, namespace() as process:
        yield Case(
            "file.io_slow",
            {"path": str(place), "operations": ["read", "list"], "delay_ms": 50.0, "mounts_of": {"pid": process.pid}},
            lambda: {"mounts": mounted(place, process.pid), "ours": mounted(place), "content": content(place)},
            in_force=lambda: bool(mounted(place, process.pid)),
            vanish=lambda: (process.kill(), process.wait(), None)[-1],
        )  # fmt: skip
