"""Shares of good attempts: capacity while a fault is in force, and uptime; each beside its objective.

Invariant: attempts without data widen the bounds both ways and are never counted as good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from controller.run import recovering
from controller.run.part import SHORT_S
from protos.error import ProbeError, Problem, SpecError
from protos.share import attempts_needed, budget_s, wilson

if TYPE_CHECKING:
    from controller.run.active import ActiveRun, Injection, ProbeUse
    from controller.run.reach import Reach

Json = dict[str, Any]
PERIODS: Final = ("month", "run")
BASELINE_NS: Final = 30 * 1_000_000_000  # before the injection
_FAR_NS: Final = 2**62


@dataclass(frozen=True, slots=True)
class Limits:
    """Of an objective; None: no such limit."""

    at_least: float | None = None
    at_most: float | None = None


def limits(run: ActiveRun, objective: str | None) -> Limits:
    """Limits of the profile's objective of that name; SpecError if it has none of a share."""
    if not objective:
        return Limits()
    if not recovering.lacking(run.record.profile, objective, ("at_most_fraction",)):
        return Limits(None, recovering.objective_of(run, objective, "at_most_fraction"))
    return Limits(recovering.objective_of(run, objective, "at_least_fraction"))


async def capacity(
    reach: Reach, run: ActiveRun, use: ProbeUse, injection: Injection, agent: str, skip_s: float
) -> Json:
    """Good attempts a second while *injection* was in force (from *skip_s* on), over those in the 30 s before it."""
    if all(effect.get("undo") == "self_healing" for effect in injection.effects):
        what = f"{injection.fault} is over as soon as it is done, so nothing was served while it was in force"
        raise SpecError(Problem("capacity", what, "ask for the recovery, or for the capacity under a fault that lasts"))
    when = recovering.instant_on(reach, injection, agent)
    from_ns, to_ns = when.hi_ns + round(skip_s * 1e9), when.reverted_ns or _FAR_NS
    before = await _count(reach, run, use, agent, when.lo_ns - BASELINE_NS, when.lo_ns)
    during = await _count(reach, run, use, agent, from_ns, to_ns)
    slots = during["good"] + during["bad"] + during["void"]
    usual = before["good"] + before["bad"]
    if not usual or not before["good"]:
        raise ProbeError(f"{use.name} on {agent}: nothing was good before {injection.name}, so there is no share of it")
    if not slots:
        raise ProbeError(f"{use.name} on {agent}: no attempt was due while {injection.name} was in force")
    base = before["good"] / usual
    return {
        "kind": "capacity", "probe": use.name, "agent_id": agent, "after": injection.name,
        "value": during["good"] / max(1, slots - during["void"]) / base,
        "lo": during["good"] / slots / base, "hi": (during["good"] + during["void"]) / slots / base,
        "good": during["good"], "attempts": slots, "span_s": (during["to_ns"] - during["from_ns"]) / 1e9,
        "outage_s": None, "period": "", "note": "" if injection.confirmed else "the fault has no proof of effect",
        "proven": injection.confirmed,
    }  # fmt: skip


async def uptime(reach: Reach, run: ActiveRun, use: ProbeUse, agent: str, asked: Limits, period: str) -> Json:
    """Availability since the probe began, its Wilson interval, and what its outages spend of a month's budget."""
    seen = await _count(reach, run, use, agent, 0, _FAR_NS)
    attempts = seen["good"] + seen["bad"]
    if not attempts:
        raise ProbeError(f"{use.name} on {agent}: no attempt has given a result yet")
    interval_s = seen["interval_ns"] / 1e9
    lo_s, hi_s = (max(0, seen["bad"] - seen["spans"]) * interval_s,
                  (seen["bad"] + seen["spans"] + seen["void"]) * interval_s)  # fmt: skip
    whole = attempts + seen["void"]
    lo, hi = wilson(seen["good"], whole)[0], wilson(seen["good"] + seen["void"], whole)[1]
    share = 0.999 if asked.at_least is None else asked.at_least
    month_s, needed = budget_s(share), attempts_needed(share) if share < 1 else math.inf
    spent = seen["bad"] * interval_s / month_s if month_s else math.inf
    note = (
        f"{seen['bad'] * interval_s:.2f} s [{lo_s:.2f}, {hi_s:.2f}] without service spend {spent:.2%} of the "
        f"{month_s / 60:.1f} min that {share:.2%} allow a month; {share:.2%} would need {needed:,.0f} attempts "
        "without a failure"
    )
    return {
        "kind": "uptime", "probe": use.name, "agent_id": agent, "after": "", "value": seen["good"] / attempts,
        "lo": lo, "hi": hi, "good": seen["good"], "attempts": attempts,
        "span_s": (seen["to_ns"] - seen["from_ns"]) / 1e9, "outage_s": [lo_s, hi_s],
        "month_s": month_s, "period": period, "note": note, "proven": True,
    }  # fmt: skip


def result(entry: Json) -> str:
    """met, missed, inconclusive, or not tested where there is no objective."""
    least, most = entry["at_least"], entry["at_most"]
    if least is None and most is None:
        return "not tested"
    if not entry["proven"]:
        return "inconclusive"
    if entry["kind"] == "uptime" and entry["period"] == "month" and least is not None:
        lo_s, hi_s = entry["outage_s"]
        return _decided(met=hi_s <= entry["month_s"], missed=lo_s > entry["month_s"])
    if most is not None:
        return _decided(met=entry["hi"] <= most, missed=entry["lo"] > most)
    return _decided(met=entry["lo"] >= least, missed=entry["hi"] < least)


def _decided(*, met: bool, missed: bool) -> str:
    return "met" if met else "missed" if missed else "inconclusive"


def sentence(entry: Json) -> str:
    """One line for a human."""
    name = "goodput while in force, of that before" if entry["kind"] == "capacity" else "available"
    after = f" after {entry['after']}" if entry["after"] else ""
    bounds = f"{entry['value']:.2%} [{entry['lo']:.2%}, {entry['hi']:.2%}]"
    if entry["at_most"] is not None:
        limit = f", objective at most {entry['at_most']:.0%}: {entry['result']}"
    else:
        of = " of a month" if entry["period"] == "month" else ""
        limit = "" if entry["at_least"] is None else f", objective {entry['at_least']:.1%}{of}: {entry['result']}"
    tail = f" ({entry['note']})" if entry["note"] else ""
    text = f"{entry['probe']} on {entry['agent_id']}{after}: {bounds} {name}, {entry['attempts']} attempts"
    return f"{text} over {entry['span_s']:.1f} s{limit}{tail}"


async def _count(reach: Reach, run: ActiveRun, use: ProbeUse, agent: str, from_ns: int, to_ns: int) -> Json:
    return await reach.dispatch.order(
        agent, "probe.count", {"name": use.name, "from_ns": from_ns, "to_ns": to_ns}, run_id=run.id,
        actor=run.record.actor, timeout_s=SHORT_S,
    )  # fmt: skip
