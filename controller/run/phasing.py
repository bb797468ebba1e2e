"""A recovery taken apart: when the services themselves said that they noticed, decided, acted and served again.

Invariant: a mark's time is that of the agent that watched the log, translated to the clock of the probe that measured
the recovery, with its bounds; what no log said is missing and is said to be, and its time goes to the next phase.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from controller.run import recovering
from controller.run.part import SHORT_S
from protos.error import ProbeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.run.active import ActiveRun, Injection, ProbeUse
    from controller.run.reach import Reach

Json = dict[str, Any]
CLIENT: Final = "client"  # the rest, until the probe's first good attempt: pools, back-off, name resolution


async def phases(
    reach: Reach, run: ActiveRun, recovery: Json, injection: Injection, events: Sequence[ProbeUse], order: Sequence[str]
) -> Json:
    """`{probe, agent_id, after, steps: [{name, at_s, lo_s, hi_s, took_s, agent_id, path, text}], missing, note}`.

    *at_s* counts from the injection, as the recovery does; *took_s* from the phase before.
    """
    agent = recovery["agent_id"]
    when = recovering.instant_on(reach, injection, agent)
    there, marks, overflow = reach.fleet.member(agent), [], 0
    for use in events:
        for source in use.agents:
            answer = await reach.dispatch.order(
                source, "probe.marks", {"name": use.name}, run_id=run.id, actor=run.record.actor, timeout_s=SHORT_S
            )
            here = reach.fleet.member(source)
            overflow += answer["overflow"]
            for mark in answer["marks"]:
                translation = None if here is None else reach.fleet.translation(here, there, mark["lo_ns"])
                if translation is None:
                    raise ProbeError(f"phases: the clock offset of {source} is not known yet")
                lo_ns, hi_ns = translation.bounds(mark["lo_ns"], mark["hi_ns"])
                marks.append(mark | {"agent_id": source, "lo_ns": lo_ns, "hi_ns": hi_ns})
    entry = steps(marks, when.lo_ns, when.hi_ns, order, recovery)
    if overflow:
        entry["note"] = f"{overflow} marks were not kept"
    return entry | {"probe": recovery["probe"], "agent_id": agent, "after": injection.name}


def steps(
    marks: Sequence[Json], injected_lo_ns: int, injected_hi_ns: int, order: Sequence[str], recovery: Json
) -> Json:
    """The phases in *order*: each ends with the first of its marks that came after the phase before. Pure.

    A mark that came after the recovery is no part of it.
    """
    found: list[Json] = []
    missing = []
    end_s = recovery["value_s"] if recovery.get("recovered") else math.inf
    latest_s = recovery["hi_s"] if recovery.get("recovered") else math.inf
    floor_ns, past_s = injected_lo_ns, 0.0
    for name in order:
        later = [
            mark for mark in marks
            if mark["mark"] == name and mark["hi_ns"] > floor_ns and (mark["lo_ns"] - injected_hi_ns) / 1e9 <= latest_s
        ]  # fmt: skip
        if not later:
            missing.append(name)
            continue
        first = min(later, key=lambda mark: mark["hi_ns"])
        floor_ns = first["lo_ns"]
        lo_s, hi_s = (first["lo_ns"] - injected_hi_ns) / 1e9, (first["hi_ns"] - injected_lo_ns) / 1e9
        at_s = min(max((lo_s + hi_s) / 2, past_s), end_s)
        found.append({
            "name": name, "at_s": at_s, "lo_s": max(0.0, lo_s), "hi_s": max(hi_s, at_s), "took_s": at_s - past_s,
            "agent_id": first.get("agent_id", ""), "path": first["path"], "text": first["text"],
        })  # fmt: skip
        past_s = at_s
    if recovery.get("recovered"):
        found.append({
            "name": CLIENT, "at_s": end_s, "lo_s": recovery["lo_s"], "hi_s": recovery["hi_s"],
            "took_s": end_s - past_s, "agent_id": recovery["agent_id"], "path": "", "text": "first good attempt",
        })  # fmt: skip
    return {"steps": found, "missing": missing, "note": ""}


def sentence(entry: Json) -> str:
    """One line for a human."""
    parts = [f"{step['name']} {step['took_s']:.2f} s" for step in entry["steps"]]
    lacks = f"; nothing told of {', '.join(entry['missing'])}" if entry["missing"] else ""
    note = f" ({entry['note']})" if entry["note"] else ""
    return f"{entry['probe']} after {entry['after']}: {' + '.join(parts) or 'nothing was seen'}{lacks}{note}"
