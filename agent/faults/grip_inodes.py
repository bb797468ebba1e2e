"""Holds inodes: open files without a name. The kernel frees them with the holder."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import time
from typing import Any, Final

from agent.system import mount

DIES_WITH_AGENT: Final = True
_held: list[int] = []


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Opens `count` files in `path`, or fewer when the file system has no more; reports how many."""
    lo_ns = time.monotonic_ns()
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (arguments["count"] + 64, arguments["count"] + 64))
    try:
        while len(_held) < arguments["count"] and time.monotonic_ns() < deadline_ns:
            _held.append(mount.unlinked(arguments["path"]))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EMFILE, errno.EDQUOT):
            raise
    return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns(), "count": len(_held)}


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()
