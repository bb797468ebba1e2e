"""The bounds of outages and of the recovery time hold the truth, whatever happened (docs/measuring-recovery.md)."""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import replace
from itertools import pairwise

from hypothesis import event, given, settings
from hypothesis import strategies as st

from protos.outage import healthy, outages
from protos.recovery import FAILED, Question, Recovery, recovery
from tests.property.openloop import LOST, MS, REFUSED, THAW, World, worlds

STABLE_S = 0.4
SHORT = st.integers(0, 150)  # ms of good service that cannot be a stable window
LONG = st.just(1_500)  # ms of good service in which there is one for certain


def asked(world: World, width_ns: int = 0, **more: int) -> tuple[Recovery, Question]:
    """The recovery, with the injection known to lie in an interval of *width_ns* that holds it."""
    lo_ns = world.injected_ns - random.Random(world.seed).randint(0, width_ns)
    question = Question(lo_ns, lo_ns + width_ns, STABLE_S, **more)
    return recovery(world.probe(), question), question


@settings(max_examples=60, deadline=None)
@given(worlds(gaps_ms=st.one_of(SHORT, LONG)))
def test_every_outage_lies_within_its_bounds(world: World) -> None:
    attempts = world.probe()
    spans = outages(attempts, healthy(attempts, world.injected_ns))
    seen = [k for k, code in enumerate(attempts.code) if code in FAILED]
    assert [k for span in spans for k in seen if span.first <= k <= span.last] == seen
    for span in spans:
        hits = sorted((world.hits[k] for k in seen if span.first <= k <= span.last), key=lambda hit: hit[0])
        assert span.outage.start_lo_ns <= hits[0][1].start_ns <= span.outage.start_hi_ns
        assert span.outage.end_lo_ns <= hits[-1][1].end_ns
        if span.outage.end_hi_ns is not None:
            assert hits[-1][1].end_ns <= span.outage.end_hi_ns
            assert span.outage.end_lo_ns <= (span.end_ns or 0) <= span.outage.end_hi_ns
            if span.outage.end_hi_ns - span.outage.end_lo_ns <= 2 * world.interval_ns:
                assert abs((span.end_ns or 0) - hits[-1][1].end_ns) <= world.interval_ns


@settings(max_examples=60, deadline=None)
@given(worlds(gaps_ms=SHORT), st.sampled_from([0, 1, 30 * MS]))
def test_bounds_hold_the_end_of_the_last_outage_that_an_attempt_saw(world: World, width_ns: int) -> None:
    result, _ = asked(world, width_ns)
    seen = sorted({(down.start_ns, down.end_ns) for _, down in world.hits.values()})
    if any(after[0] - before[1] > STABLE_S * 0.5e9 for before, after in pairwise(seen)):
        return  # outages between them made nobody fail: the window between may be stable, or not
    last_ns = max((end_ns for _, end_ns in seen), default=world.injected_ns)
    truth_s = (last_ns - world.injected_ns) / 1e9
    event(f"recovered: {result.recovered}")
    assert result.lo_s <= truth_s
    if result.recovered:
        assert result.hi_s is not None
        assert truth_s <= result.hi_s
        assert result.value_s is not None
        assert result.lo_s <= result.value_s <= result.hi_s


@settings(max_examples=60, deadline=None)
@given(worlds(gaps_ms=SHORT))
def test_an_outage_that_fell_into_a_gap_is_below_the_upper_bound(world: World) -> None:
    result, _ = asked(world)
    window_end_ns = world.injected_ns + round(((result.value_s or 0) + STABLE_S) * 1e9) - 1
    blind = [due_ns for due_ns in world.blind if due_ns < window_end_ns]
    hidden = [down.end_ns for down in world.downs for due_ns in blind if down.start_ns <= due_ns < down.end_ns]
    event(f"hidden: {bool(hidden)}")
    if hidden and result.recovered:
        assert result.hi_s is not None
        assert (max(hidden) - world.injected_ns) / 1e9 <= result.hi_s
        assert "without data" in result.note


@settings(max_examples=60, deadline=None)
@given(worlds(gaps_ms=LONG, quiet=True))
def test_the_first_stable_window_ends_the_recovery(world: World) -> None:
    result, _ = asked(world)
    seen = sorted({down.end_ns for _, down in world.hits.values()})
    truth_s = (seen[0] - world.injected_ns) / 1e9 if seen else 0.0
    assert result.recovered
    assert result.lo_s <= truth_s <= (result.hi_s or 0)
    assert result.flaps == 0
    assert ("later outage" in result.note) == (len(seen) > 1)


@settings(max_examples=60, deadline=None)
@given(worlds(gaps_ms=LONG, quiet=True))
def test_what_the_revert_broke_is_reported_apart(world: World) -> None:
    seen = sorted({down.end_ns for _, down in (world.probe(), world.hits)[1].values()})
    if len(seen) < 2:
        return
    world.hits.clear()
    result, _ = asked(world, reverted_ns=seen[0] + 1_000 * MS)
    assert result.lo_s <= (seen[0] - world.injected_ns) / 1e9 <= (result.hi_s or 0)
    assert result.disturbance_s > 0
    assert "later" not in result.note


@settings(max_examples=60, deadline=None)
@given(worlds(gaps_ms=SHORT, quiet=True, outages_max=1))
def test_the_value_is_within_an_interval_of_the_truth(world: World) -> None:
    world.downs = [replace(down, mode=THAW if down.mode in (THAW, LOST) else REFUSED) for down in world.downs]
    world.lag_max_ns, world.latency_max_ns = 0, world.interval_ns // 4
    result, _ = asked(world)
    if not world.hits:
        return
    assert result.value_s is not None
    error_ns = result.value_s * 1e9 - (world.downs[0].end_ns - world.injected_ns)
    assert abs(error_ns) <= world.interval_ns + world.latency_max_ns


@settings(max_examples=60, deadline=None)
@given(worlds(gaps_ms=SHORT), st.integers(0, 1_000))
def test_more_attempts_do_not_change_what_was_recovered(world: World, cut: int) -> None:
    result, question = asked(world)
    attempts = world.probe()
    keep = len(attempts.due_ns) - cut
    keep = max(keep, bisect_left(attempts.due_ns, question.injected_hi_ns) + 1)
    columns = (attempts.due_ns, attempts.start_ns, attempts.done_ns, attempts.code)
    earlier = recovery(type(attempts)(*(column[:keep] for column in columns), attempts.interval_ns), question)
    if earlier.recovered and earlier.outages:
        assert (earlier.value_s, earlier.lo_s, earlier.hi_s) == (result.value_s, result.lo_s, result.hi_s)
