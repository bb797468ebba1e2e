"""Holds space on a file system: files without a name, grown by fallocate. The kernel frees them with the holder."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import Any, Final

from agent.system import mount

DIES_WITH_AGENT: Final = True
_PIECE: Final = 1 << 30
_SMALLEST: Final = 4096
_held: list[int] = []


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Takes `bytes` in directory `path`, or all that there is with `all`; reports how many."""
    lo_ns, taken, piece = time.monotonic_ns(), 0, _PIECE
    descriptor, end = mount.unlinked(arguments["path"]), 0
    _held.append(descriptor)
    while piece >= _SMALLEST and time.monotonic_ns() < deadline_ns:
        left = arguments["bytes"] - taken
        size = piece if arguments["all"] else min(piece, left)
        if size <= 0:
            break
        try:
            os.posix_fallocate(descriptor, end, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
                raise
            piece //= 2
            continue
        taken, end = taken + size, end + size
    if arguments["all"]:
        taken += _dregs(arguments["path"])
    return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns(), "bytes": taken}


def _dregs(path: str) -> int:
    """Writes the last blocks, which fallocate cannot have."""
    descriptor, written = mount.unlinked(path), 0
    _held.append(descriptor)
    with contextlib.suppress(OSError):
        for _ in range(4096):
            written += os.write(descriptor, bytes(_SMALLEST))
    return written


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    """The end of this process closes the files, and the kernel frees them."""
