"""What an agent before this one left in force: ended at the start, before anything slow is imported."""

from __future__ import annotations

import time
from typing import Any

from agent import undo
from agent.active import leftover
from agent.faults import registry
from agent.journal import Journal

Json = dict[str, Any]


async def close_leftovers(journal: Journal, by: str = "start") -> list[Json]:
    """Ends what an agent before this one left in force; what became of each: the changed fields of its EFFECT.

    Its end is when it was seen here; the kernel may have taken it back at the death of that agent. So none of them
    counts as confirmed any more: for how long it was in force is not known.
    """
    effects, faults = journal.in_force(), registry.all_faults()
    left = await undo.revert_all(journal, faults, effects, by)
    rows = []
    for effect in effects:
        rest = left[effect.id]
        remedy = undo.remedy(faults[effect.fault], effect) if rest and effect.fault in faults else ""
        rows.append(leftover(effect, rest, remedy, time.monotonic_ns()))
    return rows
