"""Holds tasks: threads that wait, each of which takes a pid. The kernel frees them with the holder."""

from __future__ import annotations

import _thread
import os
import threading
import time
from typing import Any, Final

from agent.system import cgroup

DIES_WITH_AGENT: Final = True
_STACK: Final = 32 << 10
_never: Final = threading.Lock()


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Joins the group, if one is named, and starts `count` threads, or fewer when no more are allowed."""
    lo_ns, started = time.monotonic_ns(), 0
    if arguments["procs"]:
        cgroup.join(arguments["procs"], os.getpid())
    _never.acquire()
    threading.stack_size(_STACK)
    try:
        while started < arguments["count"] and time.monotonic_ns() < deadline_ns:
            _thread.start_new_thread(_never.acquire, ())
            started += 1
    except RuntimeError:
        pass  # no more to be had: that is the effect
    return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns(), "started": started}


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    """The end of this process ends its threads."""
    os._exit(0)  # at once: thousands of waiting threads need no orderly end
