"""File systems: what is mounted where, and how full it is.

Source: statvfs(3), proc(5) on mountinfo, sysfs(5).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

O_TMPFILE = getattr(os, "O_TMPFILE", 0o20200000)


class Space(NamedTuple):
    """Of a file system: bytes and inodes, free for whoever asks."""

    size: int
    free: int
    inodes: int
    inodes_free: int


def space(path: str) -> Space:
    """How full the file system of *path* is; a root user may use what is reserved for it."""
    found = os.statvfs(path)
    free = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    inodes_free = found.f_ffree if os.geteuid() == 0 else found.f_favail
    return Space(found.f_blocks * found.f_frsize, free * found.f_frsize, found.f_files, inodes_free)


def point_of(path: str) -> tuple[str, str]:
    """Mount point and type of the file system that *path* is on."""
    real, best = os.path.realpath(path), ("/", "")
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields, _, rest = line.partition(" - ")
            point = fields.split()[4]
            inside = real == point or real.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):
                best = (point, rest.split()[0])
    return best


def namespaces(kind: str) -> list[Path]:
    """Names that namespaces of a *kind* (net) have in the file system, whoever gave them: `ip netns`, Docker, CNI."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.split()
            if fields[3].startswith(f"{kind}:["):
                found.append(Path(fields[4].replace("\\040", " ")))
    return found


def device_of(path: str) -> str:
    """The whole disk under *path*, as `major:minor`; empty when no block device is behind it."""
    number = os.stat(path).st_dev
    entry = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not entry.exists():
        return ""
    disk = entry.resolve()
    if (disk / "partition").exists():
        disk = disk.parent
    return (disk / "dev").read_text(encoding="ascii").strip()


def unlinked(directory: str, flags: int = 0) -> int:
    """A descriptor of a new file without a name in *directory*: the kernel frees it with the last descriptor."""
    try:
        return os.open(directory, O_TMPFILE | os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    except OSError as error:
        if error.errno not in (21, 95, 22):  # EISDIR, EOPNOTSUPP, EINVAL: a file system without O_TMPFILE
            raise
    name = os.path.join(directory, f".blackstart-{os.getpid()}-{os.urandom(4).hex()}")
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | flags, 0o600)
    Path(name).unlink()
    return descriptor


def sectors_written(device: str) -> int:
    """512-byte sectors that the disk `major:minor` has written since boot."""
    with open("/proc/diskstats", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if f"{fields[0]}:{fields[1]}" == device:
                return int(fields[9])
    return 0
