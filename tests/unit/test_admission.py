from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.admission import GRACE_S, Admission, Budget, Domain, Freeze, Reservation, overlaps
from protos.error import RefusedError

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def fleet(size, *, zones=1):
    """Agents "0", "1", … spread over zones z0, z1, …"""
    return {str(k): {"role": "web", "zone": f"z{k % zones}"} for k in range(size)}


def reservation(agent="a", *, run="r1", name="kill", fault="process.kill", resource="process:1:2"):
    return Reservation(run, name, agent, fault, resource)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=30), st.integers(1, 30), st.integers(1, 10))
def test_the_budget_is_never_exceeded(wishes, connected, targets_max):
    budget = Budget(targets_max, 0.5)
    admission = Admission(budget)
    refused: list[str] = []
    for k, (agent, run) in enumerate(wishes):
        try:
            admission.admit(
                [reservation(str(agent), run=str(run), resource=f"p:{k}")], connected=fleet(connected), now=NOW
            )
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
        admission.admit([reservation("a"), reservation("b")], connected=fleet(9), now=NOW)
    assert not admission.held


def test_the_radius_counts_all_runs_and_is_freed():
    admission = Admission(Budget(1, 1.0))
    admission.admit([reservation("a")], connected=fleet(9), now=NOW)
    with pytest.raises(RefusedError, match="blast radius"):
        admission.admit([reservation("b", run="r2")], connected=fleet(9), now=NOW)
    assert admission.release(run_id="r1") == 1
    admission.admit([reservation("b", run="r2")], connected=fleet(9), now=NOW)


def test_a_conflict_names_the_first():
    admission = Admission(Budget())
    admission.admit([reservation()], connected=fleet(2), now=NOW)
    with pytest.raises(RefusedError, match=r"conflict.*'kill' of run r1"):
        admission.admit([reservation(run="r2", name="again")], connected=fleet(2), now=NOW)
    admission.admit([reservation(run="r2", name="other", fault="process.pause")], connected=fleet(2), now=NOW)


def test_freed_by_name_leaves_the_rest():
    admission = Admission(Budget())
    admission.admit([reservation(), reservation(name="two", resource="process:9:9")], connected=fleet(2), now=NOW)
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
        admission.admit([reservation()], connected=fleet(2), now=NOW)


def test_a_freeze_refuses_until_its_end():
    freeze = Freeze(NOW, NOW + timedelta(hours=1), "launch")
    admission = Admission(Budget(), [freeze])
    with pytest.raises(RefusedError, match="launch"):
        admission.check_open(NOW)
    admission.check_open(NOW + timedelta(hours=1))
    admission.check_open(NOW - timedelta(seconds=1))


ZONED = Budget(100, 1.0, {"zone": Domain(2, 0.5, domains_max=2)})


def in_zones(admission, connected):
    hit = {}
    for held in admission.held:
        hit.setdefault(connected[held.agent_id]["zone"], set()).add(held.agent_id)
    return hit


def within(budget, admission, connected):
    domain = budget.domains["zone"]
    hit = in_zones(admission, connected)
    sizes = {zone: sum(labels["zone"] == zone for labels in connected.values()) for zone in hit}
    return (
        len({held.agent_id for held in admission.held}) <= budget.limit(len(connected))
        and all(len(agents) <= domain.limit(sizes[zone]) for zone, agents in hit.items())
        and len(hit) <= (domain.domains_max or len(hit))
    )


@given(
    st.integers(1, 16), st.integers(1, 5),
    st.builds(
        Budget, st.integers(1, 9), st.floats(0.05, 1),
        st.builds(Domain, st.none() | st.integers(1, 4), st.floats(0.05, 1), st.none() | st.integers(1, 3)).map(
            lambda domain: {"zone": domain}
        ),
    ),
    st.lists(
        st.tuples(st.sets(st.integers(0, 15), min_size=1, max_size=6), st.integers(0, 3), st.booleans()), max_size=25
    ),
)  # fmt: skip
def test_no_group_ever_exceeds_its_budget_however_runs_come_and_go(size, zones, budget, wishes):
    connected, admission = fleet(size, zones=zones), Admission(budget)
    for k, (agents, run, ends) in enumerate(wishes):
        before, refusal = admission.held, ""
        wanted = [reservation(str(a % size), run=str(run), name=f"i{k}", resource=f"p:{k}") for a in sorted(agents)]
        try:
            admission.admit(wanted, connected=connected, now=NOW)
        except RefusedError as error:
            refusal = str(error)
        assert not refusal or ("blast radius" in refusal and admission.held == before), "all or none"
        assert within(budget, admission, connected)
        if ends:
            admission.release(run_id=str(run))


async def test_many_runs_at_once_never_exceed_the_budget():
    connected, admission = fleet(24, zones=3), Admission(ZONED)
    generator = random.Random(7)
    outcomes = {"admitted": 0, "refused": 0}

    async def run(name):
        for k in range(20):
            for _ in range(generator.randrange(4)):
                await asyncio.sleep(0)
            agents = generator.sample(sorted(connected), generator.randrange(1, 4))
            wanted = [reservation(a, run=name, name=f"i{k}", resource=f"p:{name}:{k}") for a in agents]
            try:
                admission.admit(wanted, connected=connected, now=NOW)
                outcomes["admitted"] += 1
            except RefusedError:
                outcomes["refused"] += 1
            assert within(ZONED, admission, connected)
            await asyncio.sleep(0)
            admission.release(run_id=name, injection=f"i{k}")

    await asyncio.gather(*(run(f"r{n}") for n in range(12)))
    assert min(outcomes.values()) > 10, outcomes
    assert not admission.held


def test_a_domain_refuses_with_its_numbers():
    admission, connected = Admission(ZONED), fleet(9, zones=3)
    admission.admit([reservation("0")], connected=connected, now=NOW)
    with pytest.raises(
        RefusedError, match=r"2 agents of zone=z0 .*\(1 are, over all runs\); budget is 1 of 3 connected"
    ):
        admission.admit([reservation("3", run="r2")], connected=connected, now=NOW)
    admission.admit([reservation("1", run="r2")], connected=connected, now=NOW)
    with pytest.raises(RefusedError, match=r"3 values of zone .*\(z0, z1, z2\); budget is 2 at once"):
        admission.admit([reservation("2", run="r3")], connected=connected, now=NOW)


def test_an_agent_that_is_away_because_of_its_fault_counts_in_its_domain():
    admission, connected = Admission(ZONED), fleet(4, zones=2)
    admission.admit([reservation("0")], connected=connected, now=NOW)
    there = {agent: labels for agent, labels in connected.items() if agent != "0"}
    with pytest.raises(RefusedError, match="2 agents of zone=z0"):
        admission.admit([reservation("2", run="r2")], connected=there, now=NOW)


def test_more_on_an_agent_under_fault_does_not_grow_the_radius():
    admission = Admission(Budget(1, 1.0))
    admission.admit([reservation("0")], connected=fleet(9), now=NOW)
    admission.admit([reservation("0", name="more", resource="process:3:4")], connected=fleet(9), now=NOW)


def test_agents_without_the_label_are_in_no_domain():
    admission = Admission(ZONED)
    bare = {str(k): {"role": "web"} for k in range(9)}
    admission.admit([reservation(agent) for agent in bare], connected=bare, now=NOW)


def test_what_may_be_in_force_is_held_until_its_deadline_and_a_grace():
    admission = Admission(Budget())
    began_ns = time.monotonic_ns()
    admission.admit([reservation("0")], connected=fleet(4), now=NOW, lasts_s=60)
    assert admission.release(run_id="r1", unless=lambda held: held.agent_id == "0") == 0
    assert admission.expire(began_ns + int((60 + GRACE_S) * 1e9) - 1, lambda _: False) == 0
    late_ns = time.monotonic_ns() + int((60 + GRACE_S) * 1e9)
    assert admission.expire(late_ns, lambda _: True) == 0
    assert admission.expire(late_ns, lambda _: False) == 1


def test_what_an_agent_tells_of_is_held_as_long_as_the_rest_of_its_injection():
    admission = Admission(Budget())
    admission.admit([reservation("0")], connected=fleet(4), now=NOW, lasts_s=60)
    joined = reservation("0", resource="process:5:6")
    admission.note(joined, {})
    assert joined in admission.held
    late_ns = time.monotonic_ns() + int((60 + GRACE_S) * 1e9)
    assert admission.expire(late_ns, lambda _: False) == 2
