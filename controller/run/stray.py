"""Agents that come back with effects of a run that is over: they are told to end it.

A run is closed without an agent that stays away too long. What such an agent holds ends at its deadline; here it ends
as soon as the agent is back, and what it says of the run's end is kept with the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog

from controller.run.closing import take_end
from protos.error import BlackstartError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.fleet import Member
    from controller.run.reach import Reach

Json = dict[str, Any]
_END_S: Final = 30.0


async def end_strays(reach: Reach, member: Member, effects: Iterable[Json]) -> None:
    """Sends `run.end` for every run that is not under way and of which *member* holds effects or may still do so."""
    held = {str(row.get("run_id") or "") for row in effects}
    reserved = {one.run_id for one in reach.admission.held if one.agent_id == member.id}
    for run_id in sorted((held | reserved) - {""}):
        run = reach.active.get(run_id)
        if run is not None and not run.closing:
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
        if await reach.store.run(run_id) is None:  # of another store: ended, and nobody to tell
            for effect in answer.get("effects", ()):
                await reach.leftovers.take(member.id, effect)
            reach.admission.release(run_id=run_id, agent_id=member.id, unless=reach.is_stranded)
            continue
        await take_end(reach, run_id, member.id, answer)
        if run_id in {str(row.get("run_id") or "") for row in effects}:
            text = f"{member.id} came back with effects of this run, which is over; they have been reverted"
            await reach.chronicle.add(run_id, "stray.ended", text)
