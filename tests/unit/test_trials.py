"""The distribution over trials, as pure functions."""

from __future__ import annotations

import math
import random
import statistics

from hypothesis import given
from hypothesis import strategies as st

from blackstart.trials import compare, slower, spreads, strip
from protos.spread import median_interval, phase_medians, quantile

VALUES = st.lists(st.floats(0.001, 1000), min_size=1, max_size=60).map(sorted)


@given(VALUES)
def test_the_median_is_the_median_and_quantiles_rise(values: list[float]) -> None:
    assert math.isclose(quantile(values, 0.5), statistics.median(values))
    assert values[0] <= quantile(values, 0.5) <= quantile(values, 0.95) <= values[-1]


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    chance, inside = random.Random(7), 0
    for _ in range(2000):
        lo, hi = median_interval(sorted(chance.expovariate(1.0) for _ in range(20)))
        inside += lo <= math.log(2) <= hi
    assert 0.95 <= inside / 2000 <= 0.98, "exact: 95.9 % of 20 draws"


def test_too_few_trials_have_no_interval() -> None:
    assert all(map(math.isnan, median_interval([1.0] * 5)))
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == (1.0, 6.0)


def document(value: float | None, result: str = "met", lost: int = 0) -> dict:
    found = None if value is None else {"value": value, "lo": value - 0.1, "hi": value + 0.05}
    recovery = {"probe": "w", "after": "kill", "recovery": found, "result": result}
    return {"recoveries": [recovery], "losses": [{"probe": "w", "lost": lost, "acknowledged": 10}]}


def test_a_trial_without_a_figure_is_counted() -> None:
    rows = [document(2.0), document(4.0, lost=3), document(None, "missed"), {"recoveries": []}]
    (found,) = spreads(rows)
    assert (found.trials, found.measured, found.missed) == (4, 2, 1)
    assert (found.least_s, found.values) == (2.0, (2.0, 4.0))
    assert found.median_s == found.most_s == math.inf, "half of them took longer than any that was measured"
    assert math.isclose(found.error_s, 0.1)
    assert (found.lost, found.acknowledged) == (3, 30)


def test_of_several_agents_the_slowest_speaks_for_its_trial() -> None:
    rows = [document(2.0), document(4.0), document(3.0)]
    rows[0]["recoveries"].append({**rows[0]["recoveries"][0], "recovery": {"value": 9.0, "lo": 8.9, "hi": 9.1}})
    rows[1]["recoveries"].append({**rows[1]["recoveries"][0], "recovery": None, "result": "missed"})
    (found,) = spreads(rows)
    assert (found.trials, found.measured, found.missed) == (3, 2, 1)
    assert found.values == (3.0, 9.0)
    assert (found.median_s, found.most_s) == (9.0, math.inf)


def test_phases_stand_in_the_order_of_the_trials_that_tell_of_most() -> None:
    trials = [[("detect", 4.0), ("client", 1.0)], [("detect", 2.0), ("serve", 0.5), ("client", 1.0)]]
    assert list(phase_medians(trials).items()) == [("detect", 3.0), ("serve", 0.5), ("client", 1.0)]


def test_phases_are_told_by_their_medians() -> None:
    rows = [document(2.0) for _ in range(3)]
    for row, took in zip(rows, (1.0, 5.0, 2.0), strict=True):
        row["phases"] = [{"probe": "w", "after": "kill", "steps": [{"name": "detect", "took_s": took}]}]
    assert spreads(rows)[0].phases == {"detect": 2.0}
    rows[0]["phases"][0]["after"] = "another"
    assert spreads(rows)[0].phases == {"detect": 3.5}, "the mean of the two that are left"
    assert spreads([document(2.0)])[0].phases == {}


@given(VALUES)
def test_every_value_leaves_a_mark(values: list[float]) -> None:
    drawn = strip(values, 40)
    assert len(drawn) == 40
    assert drawn[-1] != " "
    assert strip([], 40) == ""


def test_a_regression_is_a_distribution_that_moved() -> None:
    chance = random.Random(3)
    before = sorted(chance.gauss(5, 0.3) for _ in range(20))
    same = sorted(chance.gauss(5, 0.3) for _ in range(20))
    up = sorted(chance.gauss(6, 0.3) for _ in range(20))
    assert slower(before, same) > 0.05
    assert slower(before, up) < 1e-6
    assert slower(up, before) > 0.99
    assert slower([5.0] * 10, [5.0] * 10) >= 0.5
    assert math.isnan(slower(before[:7], up))
    # by hand, without ties: U is 0.5 * 64 + 32, of a mean of 32 and a variance of 64 * 17 / 12
    assert math.isclose(slower(range(8), range(8, 16)), 0.5 * math.erfc(31.5 / math.sqrt(64 * 17 / 12) / math.sqrt(2)))


def test_a_comparison_says_what_it_rests_on() -> None:
    now = spreads([document(6.0 + k / 100) for k in range(10)])
    earlier = [{"probe": "w", "after": "kill", "values": [5.0 + k / 100 for k in range(10)]}]
    (found,) = compare(now, earlier)
    assert found.worse
    assert found.words.endswith(": slower")
    assert not compare(now, [earlier[0] | {"values": [6.0 + k / 100 for k in range(10)]}])[0].worse
    (few,) = compare(now, [earlier[0] | {"values": [1.0]}])
    assert "too few trials" in few.words
    assert not few.worse
    late = spreads([*[document(5.0)] * 9, document(None, "missed")])
    assert compare(late, earlier)[0].worse, "one that did not recover is worse than any time"
    assert not compare(now, [earlier[0] | {"values": [v * 1.18 for v in earlier[0]["values"]]}])[0].worse, "by 2 %"
