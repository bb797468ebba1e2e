"""What one agent's probe saw of an injection, asked for on that agent's own clock, and the objective beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from controller.run import measure
from protos.error import SpecError

if TYPE_CHECKING:
    from controller.run.active import ActiveRun, Injection, ProbeUse
    from controller.run.reach import Reach

Json = dict[str, Any]
ANSWER_S: Final = 15.0


async def seen_by(reach: Reach, run: ActiveRun, use: ProbeUse, injection: Injection, agent: str, wait_s: float) -> Json:
    """RECOVERY of docs/architecture.md, with `probe`, `agent_id` and `after`."""
    when = instant_on(reach, injection, agent)
    arguments: Json = {
        "name": use.name, "injected_lo_ns": when.lo_ns, "injected_hi_ns": when.hi_ns, "wait_s": wait_s,
    }  # fmt: skip
    if when.reverted_ns is not None:
        arguments["reverted_ns"] = when.reverted_ns
    answer = await reach.dispatch.order(
        agent, "probe.recovery", arguments, run_id=run.id, actor=run.record.actor, timeout_s=wait_s + ANSWER_S
    )
    return answer | {"probe": use.name, "agent_id": agent, "after": injection.name}


def instant_on(reach: Reach, injection: Injection, agent: str) -> measure.Instant:
    """When *injection* took hold, on the clock of *agent*."""
    there = reach.fleet.member(agent)
    translations = {
        source.id: reach.fleet.translation(source, there)
        for source in map(reach.fleet.member, injection.agents)
        if source is not None
    }
    return measure.instant(injection.effects, translations)


def rto_s(run: ActiveRun, objective: str | None) -> float | None:
    """The recovery time objective of that name; SpecError if there is none, None if none is asked for."""
    return objective_of(run, objective, "rto_s")


def rpo_s(run: ActiveRun, objective: str | None) -> float | None:
    """The recovery point objective of that name, as `rto_s`."""
    return objective_of(run, objective, "rpo_s")


def objective_of(run: ActiveRun, objective: str | None, field: str) -> float | None:
    """A figure of the profile's objective of that name; as `rto_s`."""
    if not objective:
        return None
    objectives = run.record.profile.get("objectives") or {}
    if not isinstance(entry := objectives.get(objective), dict) or field not in entry:
        known = ", ".join(sorted(objectives)) or "none"
        raise SpecError(f"the run's profile has no objective {objective!r} with {field}; it has: {known}")
    return float(entry[field])
