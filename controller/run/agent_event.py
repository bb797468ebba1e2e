"""What agents tell unasked: what became of effects, who came back with what, what their own audits found.

Invariant: an effect that a run has is brought up to date in memory, store, report and ledger, however late its agent
tells it; a run that has ended counts as stranded for as long as something of it is left.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import structlog

from controller import verdict
from controller.admission import Reservation
from controller.pki import Identity
from controller.run.active import lasting
from controller.run.assemble import assemble
from controller.run.stray import end_strays

if TYPE_CHECKING:
    from controller.audit import Audit
    from controller.fleet import Member
    from controller.run.reach import Reach

Json = dict[str, Any]
RESIDUE: Final = "residue.found"
_SAID: Final = {
    "effect.reverted": "{what} is reverted",
    "effect.stranded": "{what} could NOT be reverted and is tried again; by hand: {remedy}",
    "effect.joined": "{what} joined {injection}{after}",
    "effect.target_gone": "the target of {what} is gone",
}


class AgentEvents:
    """See the module."""

    def __init__(self, reach: Reach, audit: Audit) -> None:
        self._reach, self._audit = reach, audit
        self._log = structlog.get_logger("controller.run")

    async def on_event(self, member: Member, run_id: str, kind: str, body: Json) -> None:
        """Takes in one event of an agent."""
        if kind == RESIDUE:
            await self._residue(member, body)
        rows = body.get("effects") if kind == "agent.recovered" else [body] if body.get("id") else []
        for effect in rows if isinstance(rows, list) else ():
            await self._effect(member, str(effect.get("run_id") or run_id), effect)
        text = sentence(member.id, kind, body)
        if run_id and await self._reach.store.run(run_id) is not None:
            await self._reach.chronicle.add(run_id, kind, text, body)
        else:
            self._log.warning("agent event", agent=member.id, event_kind=kind, text=text)

    async def on_hello(self, member: Member, effects_json: bytes) -> None:
        """An agent is there, with these effects in force: what belongs to no run under way is ended."""
        rows = in_force(effects_json)
        await self._reach.leftovers.hello(member.id, rows)
        for effect in rows:
            self._reserve(member, str(effect.get("run_id") or ""), effect)
        await end_strays(self._reach, member, rows)

    async def _effect(self, member: Member, run_id: str, effect: Json) -> None:
        was = {row["id"] for row in self._reach.leftovers.stranded(member.id)}
        await self._reach.update_effect(run_id, member.id, effect)
        if lasting(effect):
            self._reserve(member, run_id, effect)
        elif effect.get("state") in ("reverted", "failed"):
            self._reach.admission.release(
                run_id=run_id, injection=str(effect.get("injection") or ""), agent_id=member.id,
                resource=str(effect.get("resource") or ""),
            )  # fmt: skip
            if effect.get("id") in was:
                await self._cleared(member, run_id, effect)

    def _reserve(self, member: Member, run_id: str, effect: Json) -> None:
        """What is in force is in the ledger of admission, whether or not it was asked for in this controller's life."""
        fields = (str(effect.get(name) or "") for name in ("fault", "resource"))
        injection = str(effect.get("injection") or "")
        self._reach.admission.note(Reservation(run_id, injection, member.id, *fields), member.labels)

    async def _cleared(self, member: Member, run_id: str, effect: Json) -> None:
        """What was stranded is over: what is left of the run is counted anew."""
        if await self._reach.store.run(run_id) is None:
            return
        what = str(effect.get("description") or effect.get("id"))
        await self._reach.chronicle.add(
            run_id, "effect.cleared", f"{member.id}: {what} was stranded and is reverted now", effect
        )
        await forget_residue(self._reach, run_id, member.id, what)
        await recount(self._reach, run_id)

    async def _residue(self, member: Member, body: Json) -> None:
        left = [str(text) for text in body.get("still", body.get("ours")) or ()]
        await self._reach.leftovers.audited(member.id, str(body.get("effect") or ""), left)
        await self._audit.add(Identity(member.id, "agent", 0.0), RESIDUE, str(body.get("effect") or ""), _audited(body))


def in_force(effects_json: bytes) -> list[Json]:
    """The effects that an agent's hello says are in force; none if it says nothing that can be read."""
    try:
        rows = json.loads(effects_json or b"[]")
    except ValueError:
        return []
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def sentence(agent: str, kind: str, body: Json) -> str:
    """One line for a human."""
    if kind == RESIDUE:
        return f"{agent}: its own audit: {_audited(body)}"
    if kind not in _SAID:
        return f"{agent}: {kind} {body.get('description') or body.get('message') or body or ''}".strip()
    after = f", after effect {body['follows']}" if body.get("follows") else ""
    note = f" ({body['note']})" if body.get("note") else ""
    told = _SAID[kind].format(
        what=body.get("description") or body.get("id"), injection=body.get("injection"), after=after,
        remedy=body.get("remedy") or "see the agent's journal",
    )  # fmt: skip
    return f"{agent}: {told}{note}"


def _audited(body: Json) -> str:
    """What an agent's audit found, and what became of that when the agent tried to end it."""
    ours = "; ".join(map(str, body.get("ours") or ())) or "nothing new"
    still = "; ".join(map(str, body.get("still") or ()))
    if "still" not in body:
        return f"found left behind: {ours}"
    return f"found left behind: {ours}; " + (f"still there: {still}" if still else "reverted now")


async def forget_residue(reach: Reach, run_id: str, agent_id: str, what: str) -> None:
    """Moves what the run's audit found of the effect *what* to `cleared`, once the agent has ended it."""
    found = (await reach.store.documents(run_id, "residue")).get(agent_id)
    if found is not None:
        left = [text for text in found["residue"] if not text.startswith(f"{what}: ")]
        cleared = [*found.get("cleared", ()), *(text for text in found["residue"] if text not in left)]
        await reach.store.put(run_id, "residue", agent_id, found | {"residue": left, "cleared": cleared})


async def recount(reach: Reach, run_id: str) -> None:
    """Whether an ended run still counts as stranded, by what is known now."""
    run = await reach.store.run(run_id)
    if run is None or run.state != "ended":
        return
    document = await assemble(reach.store, run)
    stranded = verdict.stranded(document.injections, document.residue, document.certificates)
    if stranded != run.stranded:
        await reach.store.update_run(run_id, stranded=stranded)
