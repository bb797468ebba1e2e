"""The few C library calls that Python does not offer.

Source: prctl(2), ptrace(2), setns(2), signal(7).
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBC.ptrace.restype = ctypes.c_long

PR_SET_PDEATHSIG: Final = 1
CLONE_NEWNET: Final = 0x40000000
PTRACE_SEIZE: Final = 0x4206
PTRACE_INTERRUPT: Final = 0x4207


def _check(result: int, what: str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def die_with_parent(parent_pid: int, number: int = signal.SIGKILL) -> None:
    """Has the kernel send *number* to this process when the parent's thread that forked it ends.

    Call it first thing in a child. If the parent died before the call, nothing would ever be sent: then exits.
    """
    _check(_LIBC.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        os._exit(0)


def ptrace(request: int, thread: int) -> None:
    """One ptrace request without data; OSError with the thread's number in its text."""
    _check(_LIBC.ptrace(request, thread, None, None), f"ptrace({request:#x}) of thread {thread}")


def enter_network(path: str) -> None:
    """Moves the calling thread into the network namespace at *path* (/proc/PID/ns/net)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_LIBC.setns(descriptor, CLONE_NEWNET), f"setns({path})")
    finally:
        os.close(descriptor)
