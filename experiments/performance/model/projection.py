"""From measured service times to a fleet: what a node of that kind would do under a load, and how many are needed.

Invariant: every figure from here is `modelled`, and names what it was fed with; a model is given service times that an
encode workload measured, never ones that somebody hoped for.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.performance.model.fleet import Fleet, Outcome, Simulation

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Service:
    """*quantiles_s*: of a job by itself on a node, least to longest; *slowdown*: with 1, 2, … jobs there."""

    quantiles_s: tuple[float, ...]
    slowdown: tuple[float, ...]
    samples: int
    source: str

    @property
    def mean_s(self) -> float:
        """By itself."""
        return statistics.fmean((one + other) / 2 for one, other in itertools.pairwise(self.quantiles_s))

    def draw(self, chance: random.Random) -> float:
        """Seconds by itself."""
        place = chance.random() * (len(self.quantiles_s) - 1)
        low = int(place)
        return self.quantiles_s[low] + (self.quantiles_s[low + 1] - self.quantiles_s[low]) * (place - low)

    def rate(self, jobs: int) -> float:
        """Videos/s of a node that always has so many jobs."""
        return jobs / (self.mean_s * self.slowdown[jobs - 1])


def service_of(result: Json) -> Service:
    """Of an encode workload's result, closed levels with 1 and more jobs at a time.

    Between the levels that were measured the slowdown is taken as straight. ValueError if there is no level of one job.
    """
    levels = {one["jobs"]: one for one in result["levels"] if not one["offered_videos_s"] and one["done"]}
    if 1 not in levels:
        raise ValueError("no closed level with one job at a time was measured: closed: {jobs: [1, …]}")
    alone = levels[1]["service_s"]["mean"]
    known = sorted((jobs, one["service_s"]["mean"] / alone) for jobs, one in levels.items())
    slowdown = []
    for jobs in range(1, known[-1][0] + 1):
        (low, first), (high, second) = next(
            pair for pair in itertools.pairwise([known[0], *known]) if pair[0][0] <= jobs <= pair[1][0]
        )
        slowdown.append(first if high == low else first + (second - first) * (jobs - low) / (high - low))
    return Service(
        tuple(levels[1]["service_quantiles_s"]), tuple(slowdown), levels[1]["done"], "; ".join(result["sources"])
    )


def simulate(
    service: Service, nodes: int, slots: int, come_s: Sequence[float], seed: int, *,
    mtbf_s: float = 0.0, recovery_s: Sequence[float] = (), warm_up_s: float = 0.0,
) -> Outcome:  # fmt: skip
    """One run of a fleet of such nodes, *slots* jobs at a time on each. ValueError beyond what was measured."""
    if slots > len(service.slowdown):
        raise ValueError(f"{slots} jobs at a time were not measured, but up to {len(service.slowdown)}")
    fleet = Fleet(nodes, slots, service.slowdown, mtbf_s, recovery_s)
    return Simulation(fleet, come_s, service.draw, seed).run(warm_up_s)


def needed(holds: Callable[[int], bool], guess: int) -> int:
    """The least number of nodes for which *holds*, which is taken as monotone: by doubling, then by halving."""
    low, high = 0, max(1, guess)
    while not holds(high):
        low, high = high, high * 2
        if high > 1_000_000:
            raise ValueError("no number of nodes up to a million holds the objective: a job alone takes too long")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def p95(values: Sequence[float]) -> float:
    """The least value that 95 % do not exceed; infinite of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * 0.95) - 1)] if ordered else math.inf
