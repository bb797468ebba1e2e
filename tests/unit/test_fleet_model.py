"""The fleet's model against what is known in closed form, and against its own bookkeeping."""

from __future__ import annotations

import random
import statistics

import pytest

from experiments.performance.model.fleet import Fleet, Simulation
from experiments.performance.model.queueing import wait_mgc, wait_mmc, waiting_probability

COUNT, SEEDS = 40_000, 4


def poisson(rate: float, seed: int, count: int = COUNT) -> list[float]:
    chance, now, found = random.Random(seed), 0.0, []
    for _ in range(count):
        now += chance.expovariate(rate)
        found.append(now)
    return found


def exponential(chance: random.Random) -> float:
    return chance.expovariate(1.0)


def mean_of(fleet: Fleet, rate: float, draw, what: str = "wait_s") -> float:
    runs = [Simulation(fleet, poisson(rate, seed), draw, seed).run(500.0) for seed in range(SEEDS)]
    return statistics.fmean(statistics.fmean(getattr(run, what)) for run in runs)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (1, 0.8), (4, 0.7), (20, 0.8)])
def test_exponential_service_waits_as_erlang_says(servers, load):
    expected = wait_mmc(servers, load * servers, 1.0)
    assert mean_of(Fleet(servers, 1, [1.0]), load * servers, exponential) == pytest.approx(expected, rel=0.12)
    one_node = Fleet(1, servers, [1.0] * servers)
    assert mean_of(one_node, load * servers, exponential) == pytest.approx(expected, rel=0.12)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_service_that_does_not_vary_waits_half_as_long(load):
    """M/D/1, where the two-moment formula is exact (Pollaczek and Khinchine)."""
    expected = wait_mgc(1, load, 1.0, 0.0)
    assert mean_of(Fleet(1, 1, [1.0]), load, lambda _: 1.0) == pytest.approx(expected, rel=0.05)


def test_jobs_that_share_a_processor_take_as_long_as_sharing_says():
    """M/M/1 with processor sharing: a mean of 1 / (1 - load), and nobody waits."""
    shared = Fleet(1, 300, [float(jobs) for jobs in range(1, 301)])
    assert mean_of(shared, 0.7, exponential, "turnaround_s") == pytest.approx(1 / 0.3, rel=0.08)
    assert mean_of(shared, 0.7, exponential) == 0


def test_a_node_that_fails_gives_its_jobs_back_and_every_video_is_done_once():
    come = poisson(16.0, 1)
    run = Simulation(Fleet(10, 2, [1.0, 1.1], 2000.0, [100.0]), come, exponential, 1).run()
    assert len(run.turnaround_s) == COUNT
    assert run.failures == pytest.approx(come[-1] * 10 / 2100, rel=0.5)
    assert run.redone > 0
    without = Simulation(Fleet(10, 2, [1.0, 1.1]), come, exponential, 1).run()
    assert (without.failures, without.redone) == (0, 0)
    assert statistics.fmean(run.turnaround_s) > statistics.fmean(without.turnaround_s)


def test_the_same_seed_gives_the_same_run_and_a_busy_share_that_adds_up():
    come = poisson(2.0, 3, 5000)
    first, again = (Simulation(Fleet(3, 1, [1.0]), come, exponential, 5).run() for _ in range(2))
    assert first.wait_s == again.wait_s
    assert first.wait_s != Simulation(Fleet(3, 1, [1.0]), come, exponential, 6).run().wait_s
    assert first.busy == pytest.approx(2.0 / 3, rel=0.05)


def test_a_load_beyond_the_servers_has_no_steady_state():
    with pytest.raises(ValueError, match="no steady state"):
        waiting_probability(2, 2.0)
