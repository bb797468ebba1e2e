"""What this process may do to others and to the kernel.

Source: capabilities(7), ptrace(2) "Ptrace access mode checking", proc(5).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.system import libc

CAP_NET_ADMIN: Final = 12
CAP_SYS_PTRACE: Final = 19
CAP_SYS_NICE: Final = 23
CAP_SYS_RESOURCE: Final = 24


def has_capability(number: int) -> bool:
    return bool(int(_status(os.getpid()).get("CapEff", "0"), 16) >> number & 1)


@contextlib.contextmanager
def without(number: int) -> Iterator[None]:
    """This thread, and those that it starts meanwhile, have no such capability, if the kernel lets it go."""
    effective, permitted, inheritable = libc.capabilities()
    libc.set_capabilities(effective & ~(1 << number), permitted, inheritable)
    try:
        yield
    finally:
        libc.set_capabilities(effective, permitted, inheritable)


def tracer(pid: int) -> int:
    """Pid of the process that traces *pid*; 0 for none."""
    return int(_status(pid).get("TracerPid", "0"))


def may_trace(pid: int) -> bool:
    """Whether ptrace of *pid* will be allowed, as far as can be told without doing it."""
    if has_capability(CAP_SYS_PTRACE):
        return True
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if scope.exists() and scope.read_text(encoding="ascii").strip() != "0":
        return False
    users = _status(pid).get("Uid", "").split()
    return bool(users) and set(users) == {str(os.getuid())}


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
