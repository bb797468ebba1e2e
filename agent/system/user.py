"""Becoming another user, for a process that serves that user's programs.

Source: setresuid(2), prctl(2) "PR_SET_DUMPABLE" and "PR_SET_PDEATHSIG".
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from agent.system import libc

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_PR_SET_DUMPABLE: Final = 4


def become(user: int, group: int) -> None:
    """Changes the user and group of this process for good; it still dies with its parent, if it did before.

    The kernel hides the /proc entries of a process that has changed its user, and forgets with whom it was to die:
    both are set again.
    """
    if (os.getuid(), os.getgid()) == (user, group):
        return
    parent = os.getppid()
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    if _LIBC.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0) == -1:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE)")
    libc.die_with_parent(parent)
