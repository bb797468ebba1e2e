"""How many nodes, or GPUs, a demand needs: the busiest hour of its day, simulated again and again.

Invariant: what comes out is `modelled` and names its inputs; an input that nobody measured is `assumed` and says so.
The interval holds 95 % of the replications: each has other arrivals, and service times drawn anew from those measured.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from experiments.performance.model.fleet import Outcome
from experiments.performance.model.hardware import Gpu
from experiments.performance.model.projection import Service, needed, p95, simulate
from protos.error import Problem, SpecError

Json = Mapping[str, Any]
DAY_S: Final = 86_400.0
_HOUR_S: Final = 3_600.0
_JOBS_MAX: Final = 40_000  # of a replication: beyond, a shorter stretch of the busiest hour stands for it
_SETTLED: Final = 20  # service times that a stretch lasts at least
_WARM_UP: Final = 0.2  # of the stretch, which does not count
_FULL: Final = 0.98  # of its capacity that a fleet may be asked for: at all of it the queue grows without end
_NODES_MAX: Final = 100_000
_SAMPLES_MIN: Final = 10  # jobs that must have been measured by themselves


@dataclass(frozen=True)
class Demand:
    """Of a profile. *peak*: the busiest hour's rate over the day's mean. *duration_s*: playing time of a video."""

    videos_day: float
    peak: float
    duration_s: float
    turnaround_p95_s: float
    source: str

    @property
    def rate(self) -> float:
        """Videos/s in the busiest hour."""
        return self.videos_day / DAY_S * self.peak


@dataclass(frozen=True)
class Failures:
    """*mtbf_s*: of one node, assumed (*source*). *recovery_s*: as measured, by *measured*."""

    mtbf_s: float
    source: str
    recovery_s: tuple[float, ...]
    measured: str

    @property
    def up(self) -> float:
        """The share of time in which a node is there."""
        return self.mtbf_s / (self.mtbf_s + statistics.fmean(self.recovery_s))


@dataclass(frozen=True)
class Plan:
    """*needed*: nodes, of each replication ascending. *busy*, *videos_s*, *wait_s*: means at the median number."""

    needed: tuple[int, ...]
    slots: int
    rate: float
    busy: float
    videos_s: float
    wait_s: float
    turnaround_p95_s: float
    inputs: tuple[str, ...]

    @property
    def median(self) -> int:
        return self.needed[len(self.needed) // 2]

    @property
    def interval(self) -> tuple[int, int]:
        """Holds 95 % of the replications, rounded outwards; all of them below forty."""
        out = int(len(self.needed) * 0.025)
        return self.needed[out], self.needed[-1 - out]


def demand_of(profile: Json, where: str = "profile") -> Demand:
    """What the profile's `demand` says; SpecError with all that is wrong with it."""
    row = profile.get("demand")
    if not isinstance(row, dict):
        remedy = "demand: {videos_day, day_peak, duration_s, turnaround_p95_s, source}"
        raise SpecError(Problem(f"{where}: demand", "is missing: without one there is nothing to plan for", remedy))
    problems = []
    for key in ("videos_day", "day_peak", "duration_s", "turnaround_p95_s"):
        value = row.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            problems.append(Problem(f"{where}: demand.{key}", f"{value!r} is not a number above 0"))
    if not row.get("source"):
        problems.append(Problem(f"{where}: demand.source", "is missing", "say where these numbers come from"))
    if problems:
        raise SpecError(*problems)
    return Demand(
        float(row["videos_day"]), float(row["day_peak"]), float(row["duration_s"]), float(row["turnaround_p95_s"]),
        str(row["source"]),
    )  # fmt: skip


def stretched(service: Service, measured_s: float, wanted_s: float) -> Service:
    """Of videos of another length: time goes with the length, which is taken as straight."""
    by = wanted_s / measured_s
    note = f"{service.source}; stretched from {measured_s:g} s to {wanted_s:g} s of video"
    return replace(service, quantiles_s=tuple(one * by for one in service.quantiles_s), source=note)


def on_engines(service: Service, gpu: Gpu, speed: float, decode_share: float, source: str) -> Service:
    """As a GPU's engines would: each job takes an encoder, and a decoder for *decode_share* of that time.

    *speed*: how much faster one encoder is than what was measured; assumed by *source*, until it is measured.
    """
    jobs = 4 * gpu.encoders
    slowdown = tuple(
        max(1.0, count / gpu.encoders, count * decode_share / gpu.decoders if gpu.decoders else math.inf)
        for count in range(1, jobs + 1)
    )
    engines = f"{gpu.encoders} encoders and {gpu.decoders} decoders"
    assumed = f"assumed ({source}): {speed:g} times as fast, {decode_share:g} of a job's time on a decoder"
    note = f"{service.source}; on {gpu.name} with {engines}; {assumed}"
    return replace(
        service, quantiles_s=tuple(one / speed for one in service.quantiles_s), slowdown=slowdown, source=note
    )


def drawn_anew(service: Service, chance: random.Random) -> Service:
    """Service times as another measurement of the same size might have found them (bootstrap)."""
    sample = sorted(service.draw(chance) for _ in range(service.samples))
    steps = len(service.quantiles_s) - 1
    places = [at / steps * (len(sample) - 1) for at in range(steps + 1)]
    found = [
        sample[int(place)] + (sample[min(int(place) + 1, len(sample) - 1)] - sample[int(place)]) * (place % 1)
        for place in places
    ]
    return replace(service, quantiles_s=tuple(found))


def best_slots(service: Service, turnaround_p95_s: float) -> int:
    """The jobs at a time at which a node does the most, and one that never waits ends within the objective."""
    late = _late_s(service)
    able = [jobs for jobs in range(1, len(service.slowdown) + 1) if _in_time(service, jobs, turnaround_p95_s)]
    if not able:
        raise SpecError(Problem(
            "turnaround_p95_s", f"{turnaround_p95_s:g} s: one job of twenty takes {late:.3g} s on a node by itself",
            "no number of nodes makes one job faster: a quicker encoder, or shorter videos",
        ))  # fmt: skip
    return max(able, key=lambda jobs: (service.rate(jobs), -jobs))


def _late_s(service: Service) -> float:
    """Which one job of twenty takes longer than, by itself."""
    return service.quantiles_s[int(0.95 * (len(service.quantiles_s) - 1))]


def _in_time(service: Service, jobs: int, turnaround_p95_s: float) -> bool:
    """Whether any number of nodes with so many jobs at a time could hold the objective."""
    return _late_s(service) * service.slowdown[jobs - 1] <= turnaround_p95_s


@dataclass
class _Trial:
    """One stretch of the busiest hour: the same videos, on as many nodes as are asked about."""

    service: Service
    slots: int
    come: Sequence[float]
    demand: Demand
    failures: Failures | None
    seed: int

    def run(self, nodes: int) -> Outcome:
        more: dict[str, Any] = {}
        if self.failures:
            more = {"mtbf_s": self.failures.mtbf_s, "recovery_s": self.failures.recovery_s}
        warm_up_s = self.come[-1] * _WARM_UP
        return simulate(self.service, nodes, self.slots, self.come, self.seed, warm_up_s=warm_up_s, **more)

    def holds(self, nodes: int) -> bool:
        up = self.failures.up if self.failures else 1.0
        if nodes * self.service.rate(self.slots) * up * _FULL < self.demand.rate:
            return False
        return p95(self.run(nodes).turnaround_s) <= self.demand.turnaround_p95_s


def plan(
    service: Service, demand: Demand, *, replications: int, seed: int, failures: Failures | None = None,
    slots: int = 0, say: Callable[[str], None] = lambda _: None,
) -> Plan:  # fmt: skip
    """The least number of nodes that holds the objective in the busiest hour. SpecError where none does."""
    if service.samples < _SAMPLES_MIN:
        told = (
            f"{service.samples} jobs by themselves are too few to tell how their times vary (at least {_SAMPLES_MIN})"
        )
        raise SpecError(Problem("measured", told, "closed: {jobs: [1, …], count: 20}"))
    if slots and not _in_time(service, slots, demand.turnaround_p95_s):
        told = f"{slots} at a time, one job of twenty takes {_late_s(service) * service.slowdown[slots - 1]:.3g} s"
        raise SpecError(Problem("slots", f"{told}: longer than the {demand.turnaround_p95_s:g} s asked for", "fewer"))
    slots = slots or best_slots(service, demand.turnaround_p95_s)
    guess = max(1, math.ceil(demand.rate / service.rate(slots)))
    if guess > _NODES_MAX:
        raise SpecError(
            Problem("demand", f"takes more than {guess:,} nodes: no plan for that many", "a smaller demand")
        )
    found, never = list[int](), 0
    for number in range(replications):
        say(f"replication {number + 1} of {replications}" + (f": so far {min(found)} to {max(found)}" if found else ""))
        trial = _trial(service, demand, slots, failures, f"plan-{seed}-{number}", anew=True)
        if not _in_time(trial.service, slots, demand.turnaround_p95_s):
            never += 1  # service times as long as these may have been the true ones: then no number is enough
            continue
        try:
            found.append(needed(trial.holds, guess))
        except ValueError as error:
            raise SpecError(Problem("demand", str(error))) from error
    if never * 2 > replications:
        told = f"in {never} of {replications} replications one job of twenty takes longer than the objective by itself"
        raise SpecError(Problem("turnaround_p95_s", told, "measure more jobs, or ask for less"))
    found.sort()
    seen = _trial(service, demand, slots, failures, f"plan-{seed}", anew=False).run(found[len(found) // 2])
    inputs = [
        f"service times: {service.samples} jobs measured ({service.source})", f"demand: {demand.source}",
        f"{slots} jobs at a time on a node", f"{replications} replications, seed {seed}",
    ]  # fmt: skip
    if never:
        inputs.append(f"in {never} replications no number was enough, since service times vary: they are left out")
    if failures:
        inputs.append(f"mean time between failures {failures.mtbf_s / 3600:g} h: assumed ({failures.source})")
        inputs.append(f"recovery: {len(failures.recovery_s)} measured ({failures.measured})")
    return Plan(
        tuple(found), slots, demand.rate, seen.busy, seen.videos_s, statistics.fmean(seen.wait_s or [0.0]),
        p95(seen.turnaround_s), tuple(inputs),
    )  # fmt: skip


def _trial(
    service: Service, demand: Demand, slots: int, failures: Failures | None, name: str, *, anew: bool
) -> _Trial:  # fmt: skip
    """*name*: of the random numbers. *anew*: with service times drawn anew."""
    chance = random.Random(name)  # noqa: S311 - repeatable
    one = drawn_anew(service, chance) if anew else service
    span_s = max(min(_HOUR_S, _JOBS_MAX / demand.rate), _SETTLED * one.mean_s) / (1 - _WARM_UP)
    come, at = list[float](), 0.0
    while (at := at + chance.expovariate(demand.rate)) < span_s or not come:
        come.append(at)
    return _Trial(one, slots, come, demand, failures, chance.getrandbits(32))
