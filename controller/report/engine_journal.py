"""What Chaos Toolkit's journal says, read with distrust.

Invariant: the journal's own `status` and `deviated` are never taken as proof that things went well. A failing action
leaves "completed" there, a hypothesis that broke off leaves nothing at all, a probe that could not be read counts as a
deviation: each activity and each hypothesis is therefore read by itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from controller.report.document import HypothesisEntry, StepEntry
from controller.report.format import one_line

DRIVER_MODULE: Final = "blackstart.chaos"
_CLASS: Final = re.compile(r"(?:(?:[A-Za-z_]\w*\.)+\w+|[A-Z]\w*(?:Error|Exception|Interrupt|Failed)): ")
_SEVERITY: Final = {"held": 0, "inconclusive": 1, "deviated": 2}


@dataclass(frozen=True, slots=True)
class EngineJournal:
    """A run as the engine recorded it."""

    status: str  # completed, failed, aborted, interrupted; empty: it did not say
    deviated: bool
    hypothesis: str  # title of the declared hypothesis; empty: none was declared, or it has no probes
    steps_declared: int
    hypotheses: tuple[HypothesisEntry, ...]
    steps: tuple[StepEntry, ...]


def read_journal(journal: Mapping[str, Any]) -> EngineJournal:
    """The journal in our words; what is missing from it is missing from the answer, never guessed."""
    experiment = _mapping(journal.get("experiment"))
    declared = _mapping(experiment.get("steady-state-hypothesis"))
    title = str(declared.get("title") or "steady state") if declared.get("probes") else ""
    states = _mapping(journal.get("steady_states"))
    before = [state for state in (states.get("before"),) if isinstance(state, Mapping)]
    during = [state for state in states.get("during") or () if isinstance(state, Mapping)]
    after = [state for state in (states.get("after"),) if isinstance(state, Mapping)]
    answered = {_name(probe) for state in before for probe in _probes(state) if probe.get("status") == "succeeded"}
    moments = (("before", before, frozenset[str]()), ("during", during, answered), ("after", after, answered))
    return EngineJournal(
        status=str(journal.get("status") or ""),
        deviated=journal.get("deviated") is True,
        hypothesis=title,
        steps_declared=len(experiment.get("method") or ()),
        hypotheses=tuple(
            _hypothesis(when, title or "steady state", states, known) for when, states, known in moments if states
        ),
        steps=(
            *(_step(run, "") for run in journal.get("run") or ()),
            *(_step(run, "rollback") for run in journal.get("rollbacks") or ()),
        ),
    )


def _hypothesis(
    when: str, title: str, states: list[Mapping[str, Any]], answered_before: frozenset[str] | set[str]
) -> HypothesisEntry:
    results = [_state(state, when, answered_before) for state in states]
    bad = [row for row in results if row[0] != "held"]
    result, detail = max(results, key=lambda row: _SEVERITY[row[0]])
    if len(states) > 1 and bad:
        detail = f"{len(bad)} of {len(states)} checks did not hold, first or worst: {detail}"
    return HypothesisEntry(when, title, result, len(states), detail)


def _state(state: Mapping[str, Any], when: str, answered_before: frozenset[str] | set[str]) -> tuple[str, str]:
    """Result and detail of one evaluation of the hypothesis."""
    for probe in _probes(state):
        if probe.get("status") != "succeeded":
            # Our own probes raise only when they could not measure. Others (HTTP, foreign modules) raise when the
            # service does not answer: proof of a deviation if, and only if, they answered before the faults.
            lost = not _own(probe) and _name(probe) in answered_before
            return ("deviated" if lost else "inconclusive"), f"{_name(probe)} could not be read: {cause(probe)}"
        if probe.get("tolerance_met") is not True:
            tolerance = _mapping(probe.get("activity")).get("tolerance")
            said = f"{_name(probe)} was {_short(probe.get('output'))}, tolerated is {_short(tolerance)}"
            # Before the faults, an unsteady system is no evidence about the faults.
            return ("inconclusive" if when == "before" else "deviated"), said
    if state.get("steady_state_met") is not True:
        return "inconclusive", "its evaluation broke off"
    return "held", ""


def _step(run: Any, kind: str) -> StepEntry:
    row = _mapping(run)
    status = row.get("status")
    failed = status == "failed"
    return StepEntry(
        name=_name(row),
        kind=kind or str(_mapping(row.get("activity")).get("type") or "action"),
        status=str(status) if status in ("succeeded", "failed") else "unfinished",
        started_wall_ns=_wall_ns(row.get("start")),
        duration_s=float(row.get("duration") or 0.0),
        detail=cause(row) if failed else "",
    )


def _own(run: Mapping[str, Any]) -> bool:
    provider = _mapping(_mapping(run.get("activity")).get("provider"))
    module = str(provider.get("module") or "")
    return module == DRIVER_MODULE or module.startswith(DRIVER_MODULE + ".")


def cause(run: Mapping[str, Any], most: int = 200) -> str:
    """What the exception of an activity said, without the classes that the engine wrapped it in."""
    parts = [str(part) for part in run.get("exception") or () if str(part).strip()]
    if not parts:
        return "the engine recorded no cause"
    text = parts[-1].strip()
    while found := _CLASS.match(text):
        text = text[found.end() :]
    return one_line(text or parts[-1], most)


def _name(run: Mapping[str, Any]) -> str:
    return one_line(str(_mapping(run.get("activity")).get("name") or "unnamed"), 80)


def _probes(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [probe for probe in state.get("probes") or () if isinstance(probe, Mapping)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return one_line(text, 80)


def _wall_ns(stamp: Any) -> int:
    """Nanoseconds of an ISO 8601 instant; 0 when it is none."""
    try:
        return int(datetime.fromisoformat(str(stamp)).timestamp() * 1e6) * 1000
    except ValueError:
        return 0
