"""Objectives of workloads in the verdict."""

from __future__ import annotations

import pytest

from controller import verdict
from controller.report.goal import goal_from

JOURNAL = {"status": "completed", "deviated": False, "steady_states": {}, "run": []}


def goal(result: str, hi: float | None = 2.0) -> dict:
    return {"workload": "kube.ramp", "name": "pod ramp", "agent_id": "a", "at_most": 180.0, "lo": 2.0, "hi": hi,
            "unit": "s", "result": result}  # fmt: skip


@pytest.mark.parametrize(
    ("results", "word"),
    [
        (["met"], "held"),
        (["met", "inconclusive"], "inconclusive"),
        (["met", "missed", "inconclusive"], "deviated"),
        ([], "inconclusive"),
    ],
)
def test_the_worst_objective_is_the_verdict(results, word):
    goals = [goal_from(goal(result)) for result in results]
    found = verdict.judge(outcome="completed", journal=JOURNAL, goals=goals, residue_checked=True)
    assert str(found.verdict) == word, found.reasons


def test_it_is_said_in_one_sentence():
    assert goal_from(goal("met")).sentence() == "kube.ramp on a: pod ramp 2 s, objective at most 180 s: met."
    played = goal_from(goal("met") | {"note": "played nodes, nothing ran"}).sentence()
    assert played.endswith("objective at most 180 s: met (played nodes, nothing ran).")
    floor = goal_from(goal("missed") | {"at_most": None, "at_least": 4.0, "unit": "videos/s"})
    assert floor.sentence() == "kube.ramp on a: pod ramp 2 videos/s, objective at least 4 videos/s: missed."
    assert "not reached within 2 s" in goal_from(goal("missed", None)).sentence()
    assert "between 2 and 3 s" in goal_from(goal("inconclusive", 3.0)).sentence()
