"""A failure that spreads: in which order services failed and were good again after one injection.

Invariant: one failed before another only where their bounds on one clock say so; what they leave open is said to be
open, and so is what was not seen. Outages that began after the fault's end are none of it. `judged` is pure;
`cascade` reads the clocks.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

from controller.run import recovering
from protos.error import ProbeError, SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.run.active import Injection
    from controller.run.measure import Instant
    from controller.run.reach import Reach

Json = dict[str, Any]
_NS = 1_000_000_000


def cascade(
    reach: Reach, rows: Sequence[Json], injection: Injection, probes: list[str], order: list[Any] | None
) -> Json:
    """`{after, steps: [{probe, agent_id, failed, lo_s, hi_s, end_lo_s, end_hi_s}], order, result, note}`.

    *rows* are the recoveries that were measured after *injection*, of which each of *probes* needs one; *order* is what
    is expected, or None.
    """
    wanted = [[one] if isinstance(one, str) else list(one) for one in order or ()]
    if lacking := [name for name in probes if name not in {row["probe"] for row in rows}]:
        raise SpecError(f"cascade: ask for the recovery of {', '.join(lacking)} after {injection.name} first")
    reference = next(row["agent_id"] for row in rows if row["probe"] == probes[0])
    when = recovering.instant_on(reach, injection, reference)
    steps = [
        _step(probe, [_placed(reach, row, reference, when) for row in rows if row["probe"] == probe], when)
        for probe in probes
    ]
    steps.sort(key=lambda step: (not step["failed"], step["lo_ns"] + step["hi_ns"]))
    result, note = judged({step["probe"]: step for step in steps}, wanted) if wanted else ("not tested", "")
    if wanted and not injection.confirmed:
        result, note = "inconclusive", "the fault has no proof of effect"
    return {"after": injection.name, "steps": steps, "order": wanted, "result": result, "note": note}


def judged(steps: dict[str, Json], wanted: list[list[str]]) -> tuple[str, str]:
    """(met, missed or inconclusive, why): whether each group of *wanted* failed wholly before the next one."""
    names = [name for row in wanted for name in row]
    unclear = [f"{name} was failing before the fault" for name in names if steps[name]["before"]]
    unclear += [f"{name} was not seen to fail" for name in names if not steps[name]["failed"]]
    wrong = []
    for before, after in combinations(wanted, 2):
        for one, other in ((one, other) for one in before for other in after):
            if not steps[one]["failed"] or not steps[other]["failed"]:
                continue
            if steps[other]["hi_ns"] <= steps[one]["lo_ns"]:
                wrong.append(f"{other} failed before {one}")
            elif steps[one]["hi_ns"] > steps[other]["lo_ns"]:
                unclear.append(f"{one} and {other} cannot be told apart")
    if wrong and not any(steps[name]["before"] for name in names):
        return "missed", "; ".join(wrong)
    return ("inconclusive", "; ".join([*unclear, *wrong])) if unclear else ("met", "")


def sentence(entry: Json) -> str:
    """One line for a human."""
    parts = [
        f"{step['probe']} {step['lo_s']:.2f} to {step['hi_s']:.2f} s" if step["failed"]
        else f"{step['probe']} was not seen to"
        for step in entry["steps"]
    ]  # fmt: skip
    told = f"failed after {entry['after']}: {', '.join(parts)}"
    if not entry["order"]:
        return told
    expected = ", then ".join(" and ".join(row) for row in entry["order"])
    note = f" ({entry['note']})" if entry["note"] else ""
    return f"{told}; expected {expected}: {entry['result']}{note}"


def _placed(reach: Reach, row: Json, reference: str, when: Instant) -> Json:
    """What one agent saw: its first outage that the fault can have caused, on the clock of the agent *reference*."""
    agent = row["agent_id"]
    here, there = reach.fleet.member(agent), reach.fleet.member(reference)

    def placed(lo_ns: int, hi_ns: int) -> tuple[int, int]:
        translation = None if here is None else reach.fleet.translation(here, there, lo_ns)
        if translation is None:
            raise ProbeError(f"cascade: the clock offset of {agent} is not known yet")
        return translation.bounds(lo_ns, hi_ns)

    outages = row.get("outages") or ()
    starts = [placed(outage["start_lo_ns"], outage["start_hi_ns"]) for outage in outages]
    end_ns = when.reverted_ns
    caused = [
        at for at, (lo_ns, hi_ns) in enumerate(starts)
        if hi_ns > when.lo_ns and (end_ns is None or lo_ns < end_ns)
    ]  # fmt: skip
    before = any(hi_ns <= when.lo_ns for _, hi_ns in starts)
    found: Json = {"agent_id": agent, "before": before, "start": None, "end": None}
    if caused:
        last = outages[caused[-1]]
        found["start"] = starts[caused[0]]
        if last.get("end_hi_ns") and row.get("recovered"):
            found["end"] = placed(last["end_lo_ns"], last["end_hi_ns"])
    return found


def _step(probe: str, seen: Sequence[Json], when: Instant) -> Json:
    """One probe over all its agents: it failed when it failed on the first of them, whichever that was."""
    failed = [row for row in seen if row["start"]]
    step: Json = {
        "probe": probe, "agent_id": seen[0]["agent_id"], "failed": bool(failed), "lo_ns": 0, "hi_ns": 0, "lo_s": 0.0,
        "hi_s": 0.0, "end_lo_s": None, "end_hi_s": None, "before": any(row["before"] for row in seen),
    }  # fmt: skip
    if not failed:
        return step
    lo_ns, hi_ns = min(row["start"][0] for row in failed), min(row["start"][1] for row in failed)
    step |= {
        "agent_id": min(failed, key=lambda row: row["start"][1])["agent_id"], "lo_ns": lo_ns, "hi_ns": hi_ns,
        "lo_s": max(0.0, (lo_ns - when.hi_ns) / _NS), "hi_s": (hi_ns - when.lo_ns) / _NS,
    }  # fmt: skip
    if all(row["end"] for row in failed):
        step["end_lo_s"] = (max(row["end"][0] for row in failed) - when.hi_ns) / _NS
        step["end_hi_s"] = (max(row["end"][1] for row in failed) - when.lo_ns) / _NS
    return step
