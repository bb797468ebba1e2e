"""Recovery by example: one hand-made sequence for each rule of docs/measuring-recovery.md."""

from __future__ import annotations

import json
from array import array
from dataclasses import replace

import pytest

from protos.error import ProbeError, SpecError
from protos.outage import healthy, outages
from protos.recovery import Attempts, Code, Question, Recovery, recovery

MS = 1_000_000
OK, REFUSED, TIMEOUT, BAD, ERROR, OVERRUN = (code.value for code in Code)


def attempts(*runs: tuple[int, int, float], interval_ms: int = 10) -> Attempts:
    """Runs of (how many, code, latency in ms), started on time."""
    due: list[int] = []
    done, codes = [], []
    for count, code, latency_ms in runs:
        for _ in range(count):
            due.append(len(due) * interval_ms * MS)
            done.append(due[-1] + round(latency_ms * MS))
            codes.append(code)
    return Attempts(array("q", due), array("q", due), array("q", done), array("B", codes), interval_ms * MS)


def asked(made: Attempts, at_ms: float = 1_000, **more: float) -> Recovery:
    lo_ns = round(at_ms * MS)
    return recovery(made, replace(Question(lo_ns, lo_ns, 1.0), **more))


BASE = (100, OK, 1)  # a second of baseline


def test_an_outage_is_read_from_its_last_failure_to_the_first_success() -> None:
    result = asked(attempts(BASE, (50, REFUSED, 0.5), (200, OK, 1)), at_ms=995)
    assert result.recovered
    assert (result.lo_s, result.value_s, result.hi_s) == pytest.approx((0.495, 0.505, 0.506))
    assert (result.flaps, result.disturbance_s, result.attempts, result.note) == (0, 0.0, 250, "")


def test_the_document_is_json_in_the_shape_of_the_contract() -> None:
    document = json.loads(json.dumps(asked(attempts(BASE, (5, BAD, 1), (50, OK, 1))).document()))
    assert set(document) == {
        "recovered", "value_s", "lo_s", "hi_s", "outages", "flaps", "disturbance_s", "attempts", "note",
    }  # fmt: skip
    assert (document["recovered"], document["value_s"], document["hi_s"]) == (False, None, None)
    assert document["lo_s"] == pytest.approx(0.04)
    assert "not good for 1 s" in document["note"]


def test_flaps_count_outages_before_the_last() -> None:
    flap = [(10, REFUSED, 1), (30, OK, 1)]
    result = asked(attempts(BASE, *flap, *flap, (10, REFUSED, 1), (200, OK, 1)))
    assert (result.flaps, len(result.outages)) == (2, 3)
    assert result.value_s == pytest.approx(0.9)


def test_successes_that_overtake_a_failure_are_no_flap() -> None:
    made = attempts(BASE, (1, REFUSED, 25), (2, OK, 1), (20, REFUSED, 1), (200, OK, 1))
    result = asked(made)
    assert (len(result.outages), result.flaps) == (1, 0)


def test_a_hang_ends_with_its_completion_though_the_attempt_was_due_long_before() -> None:
    made = attempts(BASE, (20, TIMEOUT, 300), (1, OK, 299), (200, OK, 1))
    made.done_ns[121:150] = array("q", [made.done_ns[120] + k * 1000 for k in range(29)])
    result = asked(made)
    assert result.value_s == pytest.approx(0.2 + 0.299 - 0.001)
    assert (result.lo_s, result.hi_s) == pytest.approx((0.19, 0.499))


def test_old_timeouts_that_end_after_newer_successes_are_one_outage() -> None:
    result = asked(attempts(BASE, (50, TIMEOUT, 1_000), (200, OK, 1)))
    assert len(result.outages) == 1
    assert result.lo_s == pytest.approx(0.49)
    assert result.value_s == pytest.approx(0.5)
    assert result.hi_s == pytest.approx(0.511)  # the first success that began a healthy bound after the last timeout


def test_a_probe_that_ran_late_widens_what_a_timeout_may_hide() -> None:
    made = attempts(BASE, (1, TIMEOUT, 300), (200, OK, 1))
    for k in range(101, 110):  # the probe's node stood still for 90 ms
        made.start_ns[k], made.done_ns[k] = 1_100 * MS, 1_101 * MS
    usual = healthy(made, 1_000 * MS)
    late, on_time = outages(made, usual)[0].outage, outages(attempts(BASE, (1, TIMEOUT, 300), (200, OK, 1)), usual)[0]
    assert on_time.outage.start_hi_ns == 1_020 * MS
    assert late.start_hi_ns > 1_100 * MS


def test_no_outage_is_zero_with_an_honest_upper_bound() -> None:
    result = asked(attempts((300, OK, 1)))
    assert (result.recovered, result.value_s, result.lo_s, result.hi_s) == (True, 0.0, 0.0, pytest.approx(0.001))
    assert result.note == "no outage seen; one shorter than 11 ms may have passed between two attempts"


@pytest.mark.parametrize(("code", "word"), [(OVERRUN, "20 overrun"), (ERROR, "20 probe error")])
def test_what_gave_no_data_is_not_good(code: int, word: str) -> None:
    result = asked(attempts(BASE, (5, REFUSED, 1), (5, OK, 1), (20, code, 0), (200, OK, 1)))
    assert result.value_s == pytest.approx(0.05)
    assert result.hi_s == pytest.approx(0.301)
    assert word in result.note


def test_dropped_attempts_are_not_good_either() -> None:
    whole = attempts(BASE, (5, REFUSED, 1), (300, OK, 1))
    kept = [k for k in range(405) if not 110 <= k < 130]
    pick = [
        array(column.typecode, [column[k] for k in kept]) for column in (whole.due_ns, whole.start_ns, whole.done_ns)
    ]
    result = asked(Attempts(*pick, array("B", [whole.code[k] for k in kept]), whole.interval_ns))
    assert result.value_s == pytest.approx(0.05)
    assert result.hi_s == pytest.approx(0.301)
    assert "20 dropped" in result.note


def test_slow_is_not_recovered_where_a_latency_is_asked_for() -> None:
    made = attempts(BASE, (20, REFUSED, 1), (80, OK, 60), (300, OK, 1))
    assert asked(made).value_s == pytest.approx(0.2 + 0.059)
    strict = asked(made, p99_max_ms=50)
    assert strict.value_s == pytest.approx(0.99)  # one of a hundred attempts of the window may be slow
    assert strict.lo_s <= 0.99 <= (strict.hi_s or 0)


def test_slowness_alone_can_be_what_there_is_to_recover_from() -> None:
    made = attempts(BASE, (50, OK, 70), (300, OK, 1))
    assert asked(made).value_s == 0
    assert asked(made, p99_max_ms=50).value_s == pytest.approx(0.49)
    assert not asked(attempts(BASE, (300, OK, 70)), p99_max_ms=50).recovered


def test_the_disturbance_of_the_revert_is_apart() -> None:
    made = attempts(BASE, (30, REFUSED, 1), (200, OK, 1), (20, REFUSED, 1), (300, OK, 1))
    result = asked(made, reverted_ns=3_300 * MS)
    assert (result.value_s, result.disturbance_s) == pytest.approx((0.3, 0.2))
    assert (result.flaps, len(result.outages), result.note) == (0, 2, "")
    assert "1 later outage" in asked(made).note


def test_a_service_that_only_the_revert_disturbs_took_no_time_to_recover() -> None:
    made = attempts(BASE, (50, OK, 1), (20, REFUSED, 1), (300, OK, 1))
    result = asked(made, reverted_ns=1_495 * MS)
    assert (result.recovered, result.value_s, result.disturbance_s) == (True, 0.0, pytest.approx(0.205))


def test_an_outage_after_the_revert_that_follows_no_stable_window_is_still_the_faults() -> None:
    made = attempts(BASE, (30, REFUSED, 1), (50, OK, 1), (20, REFUSED, 1), (300, OK, 1))
    result = asked(made, reverted_ns=1_500 * MS)
    assert (result.value_s, result.flaps, result.disturbance_s) == (pytest.approx(1.0), 1, 0.0)


def test_a_probe_that_failed_before_the_injection_says_so() -> None:
    made = attempts((20, OK, 1), (100, REFUSED, 1), (200, OK, 1))
    assert "failing before the injection" in asked(made, at_ms=500).note
    assert "no success before the injection" in asked(attempts((150, REFUSED, 1), (200, OK, 1))).note


def test_uncertainty_of_the_injection_widens_both_ends() -> None:
    made = attempts(BASE, (50, REFUSED, 0.5), (200, OK, 1))
    result = asked(made, injected_lo_ns=980 * MS, injected_hi_ns=1_000 * MS)
    assert (result.lo_s, result.value_s, result.hi_s) == pytest.approx((0.49, 0.51, 0.521))


def test_what_cannot_be_answered() -> None:
    with pytest.raises(ProbeError, match="start the probe before injecting"):
        asked(attempts(BASE), at_ms=2_000)
    with pytest.raises(SpecError) as caught:
        Question(2, 1, 0, p99_max_ms=-1)
    assert len(caught.value.problems) == 3
