"""Faults whose plan or end asks a server: in threads, with a time limit, so that the agent's loop never waits for it.

A thread that overruns its limit goes on until its own requests give up; nobody waits for what it finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from agent.faults import registry
from agent.faults.base import Effect, Fault
from protos.error import FaultError

T = TypeVar("T")
_LIMIT_S: Final = 15.0  # longer than one request may take
_THREADS: Final = ThreadPoolExecutor(4, "look")  # not the loop's own: reverts must not queue behind plans


def ends_elsewhere(faults: Mapping[str, Fault[Any]], effect: Effect) -> bool:
    """Whether a server has to answer for it to end."""
    return effect.fault in faults and bool(getattr(faults[effect.fault], "ends_elsewhere", False))


async def plan(faults: Mapping[str, Fault[Any]], kind: str, spec: dict[str, Any]) -> list[Effect]:
    """As `registry.plan`; FaultError when it does not come in time."""
    await registry.warm(faults, kind)
    if kind in faults and getattr(faults[kind], "plans_elsewhere", False):
        return await _within(f"the plan of {kind}", registry.plan, faults, kind, spec)
    return registry.plan(faults, kind, spec)


async def residue(fault: Fault[Any], effect: Effect) -> list[str]:
    """As the fault's own; FaultError when it does not come in time."""
    if getattr(fault, "ends_elsewhere", False):
        return await _within(f"the look for what is left of {effect.description}", fault.residue, effect)
    return fault.residue(effect)


async def look(fault: Fault[Any], effect: Effect) -> list[str]:
    """What is left of it, in words. What could not be looked at is not clean, and no other's business."""
    try:
        return await residue(fault, effect)
    except Exception as error:  # noqa: BLE001 - as above
        return [str(error) or type(error).__name__]


async def _within(what: str, function: Callable[..., T], *arguments: Any) -> T:
    work = asyncio.get_running_loop().run_in_executor(_THREADS, function, *arguments)
    try:
        return await asyncio.wait_for(work, _LIMIT_S)
    except TimeoutError as error:
        raise FaultError(f"{what} did not end within {_LIMIT_S:g} s") from error
