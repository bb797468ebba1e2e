"""From measured service times to a fleet."""

from __future__ import annotations

import itertools
import random
import statistics

import pytest

from agent.workloads.encode.measure import quantiles
from experiments.performance.model.projection import needed, p95, service_of, simulate


def result(*levels: tuple[int, float]) -> dict:
    """As an encode workload gives it: jobs at a time, mean service time."""
    return {
        "sources": ["pattern noise"],
        "levels": [
            {"jobs": jobs, "offered_videos_s": 0.0, "done": 50, "service_s": {"mean": mean},
             "service_quantiles_s": quantiles([mean * share / 50 for share in range(1, 101)])}
            for jobs, mean in levels
        ],
    }  # fmt: skip


def test_quantiles_lie_between_neighbours():
    assert quantiles([]) == []
    assert quantiles([3.0], 4) == [3.0] * 5
    assert quantiles([0.0, 10.0, 20.0], 4) == [0.0, 5.0, 10.0, 15.0, 20.0]


def test_what_was_not_measured_between_two_levels_is_taken_as_straight():
    service = service_of(result((1, 2.0), (4, 5.0)))
    assert service.slowdown == pytest.approx((1.0, 1.5, 2.0, 2.5))
    assert service.mean_s == pytest.approx(2.0, rel=0.02)
    assert service.rate(4) == pytest.approx(4 / (2.0 * 2.5), rel=0.02)
    chance = random.Random(1)
    assert statistics.fmean(service.draw(chance) for _ in range(20_000)) == pytest.approx(2.0, rel=0.02)


def test_a_model_is_given_nothing_that_was_not_measured():
    with pytest.raises(ValueError, match="no closed level with one job"):
        service_of(result((2, 2.0)))
    with pytest.raises(ValueError, match="3 jobs at a time were not measured, but up to 2"):
        simulate(service_of(result((1, 2.0), (2, 2.5))), 1, 3, [0.0], 1)


def test_the_least_number_of_nodes_is_found_from_any_guess():
    for least, guess in itertools.product((1, 2, 37, 1000), (1, 30, 5000)):
        asked = list[int]()

        def holds(nodes: int, least: int = least, asked: list[int] = asked) -> bool:
            asked.append(nodes)
            return nodes >= least

        assert needed(holds, guess) == least
        assert len(asked) < 30
    with pytest.raises(ValueError, match="a job alone takes too long"):
        needed(lambda _: False, 1)


def test_more_nodes_wait_less():
    service = service_of(result((1, 1.0), (2, 1.3)))
    chance, now, come = random.Random(3), 0.0, []
    for _ in range(3000):
        now += chance.expovariate(5.0)
        come.append(now)
    values = [p95(simulate(service, nodes, 2, come, 1).turnaround_s) for nodes in (4, 6, 12)]
    assert values == sorted(values, reverse=True)
    assert values[2] < 2.7, "hardly more than a job alone, or beside another"
    assert p95([]) == float("inf")
