"""The few C library calls that Python does not offer.

Source: capget(2), prctl(2), ptrace(2), setns(2), signal(7).
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_LIBC.ptrace.restype = ctypes.c_long

PR_SET_PDEATHSIG: Final = 1
CLONE_NEWNET: Final = 0x40000000
PTRACE_SEIZE: Final = 0x4206
PTRACE_INTERRUPT: Final = 0x4207
_CAPABILITIES: Final = 0x20080522  # version 3 of the structures


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


def outlive_parent() -> None:
    """Takes `die_with_parent` back."""
    _check(_LIBC.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def capabilities() -> tuple[int, int, int]:
    """Of this thread, as bits: effective, permitted, inheritable."""
    data = ctypes.create_string_buffer(24)
    _check(_LIBC.capget(struct.pack("Ii", _CAPABILITIES, 0), data), "capget")
    low, high = struct.unpack_from("III", data), struct.unpack_from("III", data, 12)
    effective, permitted, inheritable = (one | other << 32 for one, other in zip(low, high, strict=True))
    return effective, permitted, inheritable


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """Of this thread. OSError for what it is not permitted."""
    sets = (effective, permitted, inheritable)
    data = struct.pack("IIIIII", *(one & 0xFFFFFFFF for one in sets), *(one >> 32 for one in sets))
    _check(_LIBC.capset(struct.pack("Ii", _CAPABILITIES, 0), data), "capset")


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
