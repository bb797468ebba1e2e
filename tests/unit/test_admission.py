from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.admission import Admission, Budget, Freeze, Reservation, overlaps
from protos.error import RefusedError

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def reservation(agent="a", *, run="r1", name="kill", fault="process.kill", resource="process:1:2"):
    return Reservation(run, name, agent, fault, resource)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=30), st.integers(1, 30), st.integers(1, 10))
def test_the_budget_is_never_exceeded(wishes, connected, targets_max):
    budget = Budget(targets_max, 0.5)
    admission = Admission(budget)
    refused: list[str] = []
    for k, (agent, run) in enumerate(wishes):
        try:
            admission.admit([reservation(str(agent), run=str(run), resource=f"p:{k}")], connected=connected, now=NOW)
        except RefusedError as error:
            refused.append(str(error))
        assert len({held.agent_id for held in admission.held}) <= budget.limit(connected)
    assert all("blast radius" in text for text in refused)


@pytest.mark.parametrize(("connected", "limit"), [(0, 1), (1, 1), (2, 2), (3, 1), (4, 2), (1000, 100)])
def test_limits_of_small_and_large_fleets(connected, limit):
    assert Budget().limit(connected) == limit


def test_a_refusal_has_the_numbers_and_reserves_nothing():
    admission = Admission(Budget(1, 1.0))
    with pytest.raises(RefusedError, match=r"2 agents would be under fault .0 are.* budget is 1 of 9"):
        admission.admit([reservation("a"), reservation("b")], connected=9, now=NOW)
    assert not admission.held


def test_the_radius_counts_all_runs_and_is_freed():
    admission = Admission(Budget(1, 1.0))
    admission.admit([reservation("a")], connected=9, now=NOW)
    with pytest.raises(RefusedError, match="blast radius"):
        admission.admit([reservation("b", run="r2")], connected=9, now=NOW)
    assert admission.release(run_id="r1") == 1
    admission.admit([reservation("b", run="r2")], connected=9, now=NOW)


def test_a_conflict_names_the_first():
    admission = Admission(Budget())
    admission.admit([reservation()], connected=2, now=NOW)
    with pytest.raises(RefusedError, match=r"conflict.*'kill' of run r1"):
        admission.admit([reservation(run="r2", name="again")], connected=2, now=NOW)
    admission.admit([reservation(run="r2", name="other", fault="process.pause")], connected=2, now=NOW)


def test_freed_by_name_leaves_the_rest():
    admission = Admission(Budget())
    admission.admit([reservation(), reservation(name="two", resource="process:9:9")], connected=2, now=NOW)
    assert admission.release(run_id="r1", injection="two") == 1
    assert [held.injection for held in admission.held] == ["kill"]


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("process:1:2", "process:1:2", True), ("network:1:10.0.0.2", "network:1", True),
        ("process:1:2", "process:12:2", False), ("process:1", "process:11", False),
    ],
)  # fmt: skip
def test_overlap(one, other, shared):
    assert overlaps(one, other) is overlaps(other, one) is shared


def test_the_emergency_stop_refuses():
    admission = Admission(Budget())
    admission.stop_reason = "by ann: fire"
    with pytest.raises(RefusedError, match=r"emergency stop is in force .by ann: fire"):
        admission.admit([reservation()], connected=2, now=NOW)


def test_a_freeze_refuses_until_its_end():
    freeze = Freeze(NOW, NOW + timedelta(hours=1), "launch")
    admission = Admission(Budget(), [freeze])
    with pytest.raises(RefusedError, match="launch"):
        admission.check_open(NOW)
    admission.check_open(NOW + timedelta(hours=1))
    admission.check_open(NOW - timedelta(seconds=1))
