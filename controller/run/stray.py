"""Agents that come back with effects of a run that is over: they are told to end it.

A run is closed without an agent that stays away too long. What such an agent holds ends at its deadline; here it ends
as soon as the agent is back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import structlog

from protos.error import BlackstartError

if TYPE_CHECKING:
    from collections.abc import Callable

    from controller.fleet import Member
    from controller.run.reach import Reach

_END_S: Final = 30.0


def runs_held(effects_json: bytes) -> list[str]:
    """The runs whose effects an agent's hello says are in force; none if it says nothing that can be read."""
    try:
        rows = json.loads(effects_json or b"[]")
    except ValueError:
        return []
    return sorted({str(row["run_id"]) for row in rows if isinstance(row, dict) and row.get("run_id")})


async def end_strays(reach: Reach, member: Member, effects_json: bytes, is_active: Callable[[str], bool]) -> None:
    """Sends `run.end` for every run that *member* still holds effects of and that is not active here."""
    for run_id in runs_held(effects_json):
        if is_active(run_id):
            continue
        try:
            answer = await reach.dispatch.order(
                member.id, "run.end", {}, run_id=run_id, actor="controller", timeout_s=_END_S
            )
        except BlackstartError as error:
            structlog.get_logger("controller.run").error(
                "stray not ended", agent=member.id, run=run_id, error=str(error)
            )
            continue
        for effect in answer.get("effects", ()):
            await reach.update_effect(run_id, member.id, effect)
        if await reach.store.run(run_id) is not None:
            text = f"{member.id} came back with effects of this run, which is over; they have been reverted"
            await reach.chronicle.add(run_id, "stray.ended", text)
