"""Holds a container changed (`agent.faults.container_change`), and gives it back.

Not undone by the kernel: so this holder outlives the agent (its input ends, it lets go), and the guardian and the
journal stand behind it. It loads the engine's SDK before it is told to take hold, so that nobody waits for that.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final

from agent.faults import container_change as change
from agent.system import clock, engine
from agent.system.engine import Engine

DIES_WITH_AGENT: Final = False
_PATIENCE_S: Final = 15.0  # with an engine that stops a container that does not want to
_force: dict[str, Any] = {}
engine.load()


def take(arguments: dict[str, Any], deadline_ns: int) -> dict[str, Any]:
    """Changes the container; reports the bounds of the instant."""
    with Engine(arguments["engine"], _PATIENCE_S) as one:
        change.require(one, arguments)
        _force.update(arguments, deadline_ns=deadline_ns, suspended_ns=clock.suspended_ns())
        lo_ns = time.monotonic_ns()
        change.take(one, arguments)
        return {"lo_ns": lo_ns, "hi_ns": time.monotonic_ns()}


def tend() -> None:
    """What takes a while to give back is given back in good time."""
    early_ns = change.CHANGES[_force["change"]].early_s * 1e9 if _force else 0
    if early_ns and clock.left_ns(_force["deadline_ns"], _force["suspended_ns"]) <= early_ns:
        let_go()


def let_go() -> None:
    if _force:
        with contextlib.suppress(OSError), Engine(_force["engine"]) as one:  # the agent or the guardian tries again
            change.give_back(one, _force)
        _force.clear()
