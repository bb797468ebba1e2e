"""What one agent's probe saw of an injection, asked for on that agent's own clock, and the objective beside it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from controller.run import measure
from protos.error import ProbeError, SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.run.active import ActiveRun, Injection, ProbeUse
    from controller.run.reach import Reach

Json = dict[str, Any]
ANSWER_S: Final = 15.0
OBJECTIVE_FIELDS: Final = {  # by driver function, what it wants of an objective
    "recovery": ("rto_s",), "data_loss": ("rpo_s",), "uptime": ("at_least_fraction",),
    "capacity": ("at_least_fraction", "at_most_fraction"),
}  # fmt: skip


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
    entry = answer | {"probe": use.name, "agent_id": agent, "after": injection.name}
    with contextlib.suppress(ProbeError):  # an agent may have come back with another clock: the figure stands
        how = measure.beside_end(entry, instant_on(reach, injection, agent))  # by now the fault may be over
        entry["note"] = "; ".join(filter(None, (entry.get("note"), how)))
    return entry


def instant_on(reach: Reach, injection: Injection, agent: str) -> measure.Instant:
    """When *injection* took hold, on the clock of *agent*."""
    there = reach.fleet.member(agent)
    at_ns = {effect["agent_id"]: int(effect.get("injected_lo_ns") or 0) for effect in injection.effects}
    translations = {
        source.id: reach.fleet.translation(source, there, at_ns.get(source.id, 0))
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
    if lack := lacking(run.record.profile, objective, (field,)):
        raise SpecError(lack)
    return float(run.record.profile["objectives"][objective][field])


def lacking(profile: Mapping[str, Any], objective: str, fields: Sequence[str]) -> str:
    """What is wrong with asking *profile* for one of the *fields* of an objective; empty: nothing."""
    objectives = profile.get("objectives") or {}
    entry = objectives.get(objective)
    if isinstance(entry, dict) and any(field in entry for field in fields):
        return ""
    known = ", ".join(sorted(objectives)) or "none"
    return f"the run's profile has no objective {objective!r} with {' or '.join(fields)}; it has: {known}"
