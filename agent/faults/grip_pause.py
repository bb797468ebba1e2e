"""Holds processes still as their tracer, so that they run again the instant the tracer dies.

A thread seized and interrupted stays in a tracing stop (state `t`). When the tracer ends, by SIGKILL too, the kernel
detaches and resumes every one of them: the pause undoes itself with nobody left alive.

Source: ptrace(2), "PTRACE_SEIZE", "Attaching and detaching".
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

from agent.system import libc, proc

DIES_WITH_AGENT: Final = True
_WALL: Final = 0x40000000  # waitpid(2), __WALL: threads too
_PASSES_MAX: Final = 50  # a process that forks faster than we seize is not one to pause
_SETTLE_S: Final = 2.0


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Seizes every thread of the `targets` (and of their descendants if `tree`); reports when all stand still."""
    del deadline_ns
    roots = [proc.Identity(**one) for one in arguments["targets"]]
    lo_ns, seized = time.monotonic_ns(), set[int]()
    for _ in range(_PASSES_MAX):
        members = _members(roots, tree=arguments["tree"])
        fresh = {thread for one in members for thread in proc.threads(one.pid)} - seized
        if not fresh:
            break
        for thread in fresh:
            _seize(thread)
        seized |= fresh
    else:
        raise OSError("the targets start new threads faster than they can be paused")
    until = time.monotonic() + _SETTLE_S
    while not all(proc.is_stopped(one) or not proc.alive(one) for one in members):
        if time.monotonic() > until:
            raise OSError("a target did not come to a stop within 2 s (uninterruptible sleep?)")
        time.sleep(0.0005)
    return {
        "lo_ns": lo_ns,
        "hi_ns": time.monotonic_ns(),
        "held": [{"pid": one.pid, "start": one.start, "name": one.name} for one in members],
    }


def _members(roots: list[proc.Identity], *, tree: bool) -> list[proc.Identity]:
    if not tree:
        return [root for root in roots if proc.alive(root)]
    return list(dict.fromkeys(member for root in roots for member in proc.tree(root)))


def _seize(thread: int) -> None:
    try:
        libc.ptrace(libc.PTRACE_SEIZE, thread)
        libc.ptrace(libc.PTRACE_INTERRUPT, thread)
    except ProcessLookupError:
        return  # it ended in between


def tend() -> None:
    """Reaps what was killed while paused: until its tracer has, its own parent does not learn of the death."""
    try:
        while os.waitpid(-1, os.WNOHANG | _WALL)[0]:
            pass
    except ChildProcessError:
        return  # every target is gone


def let_go() -> None:
    """The end of this process is the release."""
