"""The end of a run: every effect ended on every agent that it touched, what is left counted, the verdict given.

Invariant: a run is `ended` only after `run.end` was sent to every touched agent that is connected, and answered or
timed out. An agent that could not be asked is named in the reason, and the residue counts as not checked.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from controller import verdict
from controller.run.assemble import assemble
from protos.error import BlackstartError

if TYPE_CHECKING:
    from collections.abc import Collection

    from controller.run.reach import Reach
    from controller.store.base import RunRecord

Json = dict[str, Any]
END_S: Final = 20.0  # reverts, probes stopped, last batches spooled


async def end_on_agents(reach: Reach, run: RunRecord, touched: Collection[str], wait_s: float) -> list[str]:
    """Sends `run.end` to *touched*, waiting up to *wait_s* for those that are away; the agents that did not answer."""
    away = await reach.fleet.wait_for(touched, wait_s) if touched else set()
    answers = await reach.dispatch.order_all(
        set(touched) - away, "run.end", {}, run_id=run.id, actor=run.actor, timeout_s=END_S
    )
    silent = sorted(away)
    for agent, answer in answers.items():
        if isinstance(answer, BlackstartError):
            silent.append(agent)
            await reach.chronicle.add(run.id, "agent.silent", f"{agent} did not end the run: {answer}")
            continue
        await take_end(reach, run.id, agent, answer)
    for agent in away:
        text = f"{agent} is away; what it holds ends at its deadline or by its lease, and is reported when it returns"
        await reach.chronicle.add(run.id, "agent.silent", text)
    return sorted(silent)


async def take_end(reach: Reach, run_id: str, agent: str, answer: Json) -> None:
    """Keeps what an agent says of the end of a run; what is over there is in force no more."""
    residue = list(answer.get("residue", ()))
    await reach.store.put(run_id, "residue", agent, {"residue": residue, "attempts": answer.get("attempts", {})})
    for figure in answer.get("figures", ()):  # what its probes added up
        await reach.store.put(run_id, "figures", f"{agent}|{figure['name']}", figure | {"agent_id": agent})
    await reach.keep_clock(run_id, agent)
    if certificate := answer.get("certificate"):  # only the first end of a run has one
        await reach.store.put(run_id, "certificates", agent, certificate)
    for effect in answer.get("effects", ()):
        await reach.update_effect(run_id, agent, effect)
    reach.admission.release(run_id=run_id, agent_id=agent, unless=reach.is_stranded)
    ours = [text for text in (certificate or {}).get("ours", ()) if text not in residue]
    if residue or ours:
        residue += ours
        await reach.chronicle.add(run_id, "residue.found", f"{agent} has residue: {'; '.join(residue)}")


async def conclude(
    reach: Reach, run: RunRecord, *, outcome: str, reason: str, journal: Json | None, silent: Collection[str] = ()
) -> RunRecord:
    """The verdict from what is stored, and the run `ended` with it. What *silent* agents may hold stays reserved."""
    run = await reach.store.update_run(run.id, journal=journal or {}, outcome=outcome, ended_wall_ns=time.time_ns())
    document = await assemble(reach.store, run)
    judgement = verdict.judge(
        outcome=outcome, journal=journal, injections=document.injections, recoveries=document.recoveries,
        losses=document.losses, shares=document.shares, cascades=document.cascades, goals=document.goals,
        residue=document.residue, residue_checked=document.residue_checked, certificates=document.certificates,
    )  # fmt: skip
    stranded = verdict.stranded(document.injections, document.residue, document.certificates)
    await reach.store.put(run.id, "verdict", "reasons", {"reasons": list(judgement.reasons)})
    told = " ".join(filter(None, (_capital(reason) if outcome != "completed" else "", *judgement.reasons[:3])))
    run = await reach.store.update_run(
        run.id, state="ended", verdict=str(judgement.verdict), reason=told, stranded=stranded
    )
    reach.admission.release(run_id=run.id, unless=lambda one: one.agent_id in silent or reach.is_stranded(one))
    await reach.chronicle.add(run.id, "run.ended", f"{outcome}, {judgement.verdict}: {told}")
    return run


def _capital(text: str) -> str:
    text = text.strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}." if text else ""
