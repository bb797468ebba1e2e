"""What an agent before this one left in force: ended at the start, before anything slow is imported.

Not waited for: what only a server can end. The start would last as long as the server is away; the agent takes it over
(`Effects.adopt`), like all that could not be ended here.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from agent import remote, undo
from agent.active import leftover
from agent.faults import registry
from agent.faults.base import Effect
from agent.faults.registry import Faults
from agent.journal import Journal

Json = dict[str, Any]


class Leftovers(NamedTuple):
    """What became of those that were tried: the changed fields of their EFFECT; and what the agent goes on trying."""

    rows: list[Json]
    open: list[Effect]


async def close_leftovers(journal: Journal, by: str = "start") -> list[Json]:
    """Ends what an agent before this one left in force; what became of each: the changed fields of its EFFECT.

    Its end is when it was seen here; the kernel may have taken it back at the death of that agent. So none of them
    counts as confirmed any more: for how long it was in force is not known.
    """
    return await _close(journal, registry.all_faults(), journal.in_force(), by)


async def begin(journal: Journal) -> Leftovers:
    """The same for what needs nothing but this node; the rest is left to the agent."""
    effects, faults = journal.in_force(), registry.all_faults()
    elsewhere = [effect for effect in effects if remote.ends_elsewhere(faults, effect)]
    rows = await _close(journal, faults, [effect for effect in effects if effect not in elsewhere], "start")
    stranded = {row["id"] for row in rows if row["state"] == "stranded"}
    return Leftovers(rows, elsewhere + [one for one in effects if one.id in stranded and one.fault in faults])


async def _close(journal: Journal, faults: Faults, effects: Iterable[Effect], by: str) -> list[Json]:
    effects = list(effects)
    left = await undo.revert_all(journal, faults, effects, by)
    rows = []
    for effect in effects:
        rest = left[effect.id]
        remedy = undo.remedy(faults[effect.fault], effect) if rest and effect.fault in faults else ""
        rows.append(leftover(effect, rest, remedy, time.monotonic_ns()))
    return rows
