"""The few Linux calls that the testbed needs and that Python 3.11's `os` lacks.

Invariant: each call acts on the calling thread only, and a refusal by the kernel is an `OSError`.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

CLONE_FS: Final = 0x00000200
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

HOST_NAMESPACES: Final = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET

CAP_NET_ADMIN: Final = 12
CAP_SYS_ADMIN: Final = 21

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces; with CLONE_NEWPID, its next child is pid 1 of the new one."""
    _check(_libc.unshare(flags), f"unshare({flags:#x})")


def setns(fd: int, flags: int) -> None:
    """Move the calling thread into those namespaces of the process behind the pidfd *fd* that *flags* name.

    A pid namespace is entered by the thread's children, not by the thread itself. For CLONE_NEWNS the thread must
    have its own file system context: `unshare(CLONE_FS)` first.
    """
    _check(_libc.setns(fd, flags), f"setns({fd}, {flags:#x})")


def thread_count() -> int:
    """Threads of this process, those of C libraries included."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def has_capabilities(*numbers: int) -> bool:
    """Whether this process may use all of the capabilities *numbers* now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
            return all(effective >> number & 1 for number in numbers)
    return False


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
