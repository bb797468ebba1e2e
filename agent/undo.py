"""Ending effects from the journal alone: what the guardian does, and the agent at its start.

Invariant: one failing revert never stops the rest.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from agent import remote
from agent.faults.base import Effect, Fault, Undo
from agent.journal import Journal, Record, Step
from agent.system import proc
from protos.error import BlackstartError

_ATTEMPTS: Final = 4
_PAUSE_S: Final = 0.1  # doubled after each attempt: with four, a revert is given up after 0.7 s
_SLOW_S: Final = 2.0  # what fails so slowly waits for something that hangs: whoever called tries again later


def record(journal: Journal, step: Step, effect: Effect, by: str, note: str = "") -> None:
    """Appends one step, stamped now."""
    stamped = Record(
        step=step, at_ns=time.monotonic_ns(), wall_ns=time.time_ns(), by=by, effect=effect, note=note
    )  # fmt: skip
    journal.append(stamped)


async def revert(fault: Fault[Any], effect: Effect) -> list[str]:
    """Reverts, and again where that fails at once; what is left, in words.

    A reboot has ended effects of another boot, if they end with it.
    """
    if effect.undo is Undo.SELF_HEALING or (effect.boot_id != proc.boot_id() and not effect.survives_reboot):
        return []
    pause_s, left, began_s = _PAUSE_S, ["not tried"], time.monotonic()
    for attempt in range(_ATTEMPTS):
        left = await attempt_revert(fault, effect)
        if not left or time.monotonic() - began_s > _SLOW_S:
            break
        if attempt + 1 < _ATTEMPTS:
            await asyncio.sleep(pause_s)
            pause_s *= 2
    return left


async def attempt_revert(fault: Fault[Any], effect: Effect) -> list[str]:
    """One try; what is left, in words. Never raises: a fault whose code breaks must not keep the others in force."""
    try:
        await fault.revert(effect)
        return await remote.residue(fault, effect)
    except Exception as error:  # noqa: BLE001 whatever breaks, the rest is to be reverted
        return [f"{type(error).__name__}: {error}"]


def remedy(fault: Fault[Any], effect: Effect) -> str:
    """The command for a human; says so when the fault cannot tell."""
    try:
        return fault.remedy(effect)
    except Exception as error:  # noqa: BLE001 as above
        return f"# unknown ({error}): {effect.description}"


async def revert_all(
    journal: Journal, faults: Mapping[str, Fault[Any]], effects: Iterable[Effect], by: str
) -> dict[str, list[str]]:
    """Reverts *effects* at the same time and journals each end; what is left of each, by id."""

    async def one(effect: Effect) -> tuple[str, list[str]]:
        if effect.fault in faults:
            left = await revert(faults[effect.fault], effect)
        else:
            left = [f"this version knows no fault {effect.fault}"]
        try:
            record(journal, "stranded" if left else "reverted", effect, by, "; ".join(left))
        except BlackstartError:
            pass  # ended, and still open in a journal that cannot be written: the next start ends it again, harmlessly
        return effect.id, left

    return dict(await asyncio.gather(*(one(effect) for effect in effects)))
