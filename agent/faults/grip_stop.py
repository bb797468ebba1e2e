"""Holds processes still by SIGSTOP, where tracing is not allowed; sends SIGCONT at the end.

Not undone by the kernel: so this holder outlives the agent (its input ends, it lets go), and the guardian and the
journal stand behind it.
"""

from __future__ import annotations

import signal
import time
from typing import Any, Final

from agent.system import proc, process

DIES_WITH_AGENT: Final = False
_PASSES_MAX: Final = 50
_SETTLE_S: Final = 2.0
_held: list[proc.Identity] = []


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Stops the `targets` (and their descendants if `tree`); reports when all stand still."""
    del deadline_ns
    roots = [proc.Identity(**one) for one in arguments["targets"]]
    lo_ns = time.monotonic_ns()
    for _ in range(_PASSES_MAX):
        members = [one for root in roots for one in (proc.tree(root) if arguments["tree"] else [root])]
        fresh = [one for one in dict.fromkeys(members) if one not in _held]
        if not fresh:
            break
        for one in fresh:
            _held.append(one)
            process.send(one, signal.SIGSTOP)
    else:
        raise OSError("the targets start new processes faster than they can be paused")
    until = time.monotonic() + _SETTLE_S
    while not all(proc.is_stopped(one) or not proc.alive(one) for one in _held):
        if time.monotonic() > until:
            raise OSError("a target did not come to a stop within 2 s (uninterruptible sleep?)")
        time.sleep(0.0005)
    held = [{"pid": one.pid, "start": one.start, "name": one.name} for one in _held]
    return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns(), "held": held}


def tend() -> None:
    """Nothing to do while in force."""


def let_go() -> None:
    for one in reversed(_held):  # children first: a parent that runs again finds them running
        process.send(one, signal.SIGCONT)
