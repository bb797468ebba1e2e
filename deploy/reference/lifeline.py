"""What ties a process of the farm to its parent and to its files.

Invariant: no process outlives its parent, however the parent dies, and no reader ever sees half a file.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


def die_with_parent() -> None:
    """Let the kernel send SIGKILL to this process at its parent's death; leave at once if that has happened already.

    The parent's pid stands in FARM_PARENT where the parent could name it: that closes the gap before this call.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    named = os.environ.pop("FARM_PARENT", "")
    if named and os.getppid() != int(named):
        sys.exit("the parent is gone")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that none escapes the last wait."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def announce(run: Path, name: str) -> int:
    """Write *run*/*name*.pid and count this start in *run*/*name*.starts; answers how many starts came before."""
    starts = run / f"{name}.starts"
    before = int(starts.read_text()) if starts.exists() else 0
    write_atomically(starts, f"{before + 1}\n".encode())
    write_atomically(run / f"{name}.pid", f"{os.getpid()}\n".encode())
    return before


def write_atomically(path: Path, content: bytes) -> None:
    """Replace *path* by *content* in one step, through a file beside it that ends in `.tmp`."""
    beside = path.with_name(path.name + ".tmp")
    beside.write_bytes(content)
    beside.replace(path)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")
