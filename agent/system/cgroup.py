"""Control groups, version 1 and 2: where a process is, and groups of Blackstart's own.

Invariant: only groups whose name starts with `blackstart_` are ever made or removed.
Source: cgroups(7), Documentation/admin-guide/cgroup-v1 and cgroup-v2.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

PREFIX = "blackstart_"


class Group(NamedTuple):
    """One group of one hierarchy."""

    path: Path
    version: int

    @property
    def procs(self) -> Path:
        return self.path / "cgroup.procs"

    def read(self, *names: str) -> str:
        """The first of the files *names* that can be read; empty when none can."""
        for name in names:
            with contextlib.suppress(OSError):
                return (self.path / name).read_text(encoding="ascii").strip()
        return ""

    def number(self, *names: str) -> int | None:
        """The same as a number; None for `max`, for nothing, and for version 1's way of saying "no limit"."""
        text = self.read(*names)
        return int(text) if text.isdecimal() and int(text) < 1 << 60 else None


def find(pid: int, controller: str) -> Group | None:
    """The group of *pid* under *controller*; None when the controller is not mounted or the process is gone."""
    version1, version2 = _mounts()
    try:
        rows = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    paths = {names: path for _, names, path in (row.split(":", 2) for row in rows)}
    for names, path in paths.items():
        if controller in names.split(",") and controller in version1:
            return Group(Path(version1[controller]) / path.lstrip("/"), 1)
    if version2 and "" in paths:
        group = Group(Path(version2) / paths[""].lstrip("/"), 2)
        if controller in group.read("cgroup.controllers").split():
            return group
    return None


def _mounts() -> tuple[dict[str, str], str]:
    """Mount point by controller (version 1), and that of version 2 or ""."""
    version1: dict[str, str] = {}
    version2 = ""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        for line in file:
            _, point, kind, options, *_ = line.split()
            if kind == "cgroup":
                version1 |= dict.fromkeys(options.split(","), point)
            elif kind == "cgroup2":
                version2 = version2 or point
    return version1, version2


def join(procs: str, pid: int) -> None:
    """Moves a process, with all its threads, into the group whose cgroup.procs is *procs*."""
    with open(procs, "w", encoding="ascii") as file:
        file.write(str(pid))


def pids(group: Path) -> list[int]:
    """Processes in the group; empty when it is gone."""
    try:
        return [int(line) for line in (group / "cgroup.procs").read_text(encoding="ascii").split()]
    except OSError:
        return []


def make(parent: Path, name: str) -> Path:
    """A group of ours below *parent*."""
    assert name.startswith(PREFIX)
    path = parent / name
    path.mkdir(exist_ok=True)
    return path


def remove(path: Path) -> None:
    """Removes an empty group of ours; harmless when it is gone. OSError while it has processes."""
    assert path.name.startswith(PREFIX)
    with contextlib.suppress(FileNotFoundError):
        path.rmdir()
