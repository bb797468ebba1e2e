"""What /proc says of processes and of the node.

Invariant: a process is named by its pid *and* its start time, so that a recycled pid is never mistaken for it.
Source: proc(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """One process: pid and start time in clock ticks since boot, as /proc/PID/stat has it."""

    pid: int
    start: int
    name: str


class Stat(NamedTuple):
    name: str
    state: str  # R S D Z T t X I
    parent: int
    cpu_ticks: int  # user and system time
    start: int


def boot_id() -> str:
    """The kernel's id of this boot: a new one says that no process or rule of before is left."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def stat(pid: int, thread: int | None = None) -> Stat | None:
    """The process's (or one of its threads') state; None when it is gone."""
    path = f"/proc/{pid}/stat" if thread is None else f"/proc/{pid}/task/{thread}/stat"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold spaces and parentheses: it ends at the last one.
    opened, closed = text.index("("), text.rindex(")")
    rest = text[closed + 2 :].split()
    return Stat(text[opened + 1 : closed], rest[0], int(rest[1]), int(rest[11]) + int(rest[12]), int(rest[19]))


def identify(pid: int) -> Identity | None:
    """The identity of the process that has *pid* now; None if there is none, or only its zombie."""
    found = stat(pid)
    return None if found is None or found.state in "ZX" else Identity(pid, found.start, found.name)


def alive(identity: Identity) -> bool:
    """Whether that very process still runs (a zombie does not)."""
    found = stat(identity.pid)
    return found is not None and found.start == identity.start and found.state not in "ZX"


def pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())


def threads(pid: int) -> list[int]:
    """Thread ids of *pid*; empty when it is gone."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except (FileNotFoundError, ProcessLookupError):
        return []


def command_line(pid: int) -> str:
    """Arguments joined by spaces; empty for kernel threads and for what is gone."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def tree(root: Identity) -> list[Identity]:
    """*root* and its living descendants, parents first; empty when the root is gone."""
    if not alive(root):
        return []
    children: dict[int, list[Identity]] = {}
    for pid in pids():
        found = stat(pid)
        if found is not None and found.state not in "ZX":
            children.setdefault(found.parent, []).append(Identity(pid, found.start, found.name))
    members, at = [root], 0
    while at < len(members):
        members += children.get(members[at].pid, [])
        at += 1
    return members


def is_stopped(identity: Identity) -> bool:
    """Whether every thread of the process is stopped, by a signal (T) or by a tracer (t)."""
    states = [found.state for thread in threads(identity.pid) if (found := stat(identity.pid, thread))]
    return bool(states) and alive(identity) and all(state in "Tt" for state in states)


def cpu_busy_ticks() -> tuple[int, int]:
    """(busy, total) clock ticks of all processors since boot, from /proc/stat."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields)
