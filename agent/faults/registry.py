"""Every fault this agent knows, by kind. A new fault is a new file and one line here."""

from __future__ import annotations

from typing import Any

import msgspec

from agent.faults.base import Effect, Fault
from agent.faults.network_partition import NetworkPartition
from agent.faults.process_kill import ProcessKill
from agent.faults.process_pause import ProcessPause
from agent.faults.resource_cpu import ResourceCpu
from protos.error import Problem, SpecError


def all_faults() -> dict[str, Fault[Any]]:
    """Fresh instances, by kind."""
    faults: list[Fault[Any]] = [NetworkPartition(), ProcessKill(), ProcessPause(), ResourceCpu()]
    return {fault.kind: fault for fault in faults}


def plan(faults: dict[str, Fault[Any]], kind: str, spec: dict[str, Any]) -> list[Effect]:
    """The effects of *spec*, at least one. SpecError for an unknown kind, a wrong spec, or one without targets."""
    fault = faults.get(kind)
    if fault is None:
        raise SpecError(Problem("fault", f"unknown fault {kind!r}", f"known: {', '.join(sorted(faults))}"))
    if lacks := fault.missing():
        raise SpecError(Problem("fault", f"{kind} cannot run on this node: it lacks {lacks}"))
    try:
        typed = msgspec.convert(spec, fault.spec)
    except msgspec.ValidationError as error:
        raise SpecError(Problem(f"spec of {kind}", str(error))) from error
    effects: list[Effect] = fault.plan(typed)
    if not effects:
        raise SpecError(Problem(f"spec of {kind}", "names no target"))
    return effects
