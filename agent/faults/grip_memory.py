"""Holds memory: anonymous pages, each written once, in the node or in a target's control group."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import Any, Final

from agent.system import cgroup

DIES_WITH_AGENT: Final = True
_POPULATE_WRITE: Final = 23  # madvise(2), MADV_POPULATE_WRITE, Linux 5.14
_CHUNK: Final = 64 << 20
_held: list[mmap.mmap] = []


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Maps and writes `bytes`; reports the bounds of the writing."""
    if arguments["procs"]:
        cgroup.join(arguments["procs"], os.getpid())
    if arguments["killed_first"]:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    lo_ns, left = time.monotonic_ns(), arguments["bytes"]
    while left > 0 and time.monotonic_ns() < deadline_ns:
        size = min(left, _CHUNK)
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            pages.madvise(_POPULATE_WRITE)
        except OSError:
            for at in range(0, size, mmap.PAGESIZE):
                pages[at] = 1
        _held.append(pages)
        left -= size
    return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns()}


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    """The end of this process frees the pages."""
