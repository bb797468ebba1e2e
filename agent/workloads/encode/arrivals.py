"""When videos come: instants from a level's start, seconds. Pure, and the same for the same seed.

Source: a day's curve of video services peaks at two to three times its mean (docs/encode.md); arrivals of independent
users within a moment of it are a Poisson process.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import random
from collections.abc import Iterator
from typing import Final

from agent.workloads.encode.spec import Open

_BURST_SHARE: Final = 0.1  # of the time, in the middle
_STEPS: Final = 4000  # of a level, between which the rate is taken as straight


def instants(asked: Open, rate: float, level: int = 0) -> list[float]:
    """Ascending, within `[0, duration_s)`; their expected number is *rate* times the duration, whatever the shape."""
    chance = random.Random(f"{asked.seed}-{level}")  # noqa: S311 - a sequence that can be repeated
    found, mass, total = list[float](), 0.0, rate * asked.duration_s
    while True:
        mass += chance.expovariate(1.0) if asked.random else 1.0
        if mass > total + (1e-9 if not asked.random else 0.0):
            return found
        # even gaps: each in the middle of its share, so that n videos come for a mass of n
        found.append(_when(asked, (mass if asked.random else mass - 0.5) / total) * asked.duration_s)


def _when(asked: Open, share: float) -> float:
    """The part of the level after which *share* of its videos have come."""
    come = _curve(asked.shape, asked.peak)
    at = min(max(bisect.bisect_left(come, share), 1), _STEPS)
    before, after = come[at - 1], come[at]
    return (at - 1 + ((share - before) / (after - before) if after > before else 0.0)) / _STEPS


@functools.lru_cache(maxsize=16)
def _curve(shape: str, peak: float) -> list[float]:
    """The share that has come after each step, 0 to 1: the trapezoidal sum of the rate over its mean."""
    rates = [_rate(shape, peak, at / _STEPS) for at in range(_STEPS + 1)]
    come = [0.0, *itertools.accumulate((one + other) / 2 for one, other in itertools.pairwise(rates))]
    return [one / come[-1] for one in come]


def _rate(shape: str, peak: float, part: float) -> float:
    """At *part* of the level's time, in any unit."""
    if shape == "ramp":
        return part
    if shape == "burst":
        outside = (1.0 - _BURST_SHARE * peak) / (1.0 - _BURST_SHARE)
        return peak if abs(part - 0.5) <= _BURST_SHARE / 2 else outside
    if shape == "day":  # one swing from trough to peak and back; above twice the mean its trough is empty, and narrows
        if peak <= 2.0:
            return 1.0 - (peak - 1.0) * math.cos(2 * math.pi * part)
        return float(math.sin(math.pi * part) ** (2 * _power(peak)))
    return 1.0


@functools.lru_cache(maxsize=16)
def _power(peak: float) -> float:
    """Of half a sine, so that its highest is *peak* times its mean: that of `sin(πx)^2k` is Γ(k+½)/(√π Γ(k+1))."""
    lo, hi = 0.5, 1000.0
    for _ in range(60):
        k = (lo + hi) / 2
        mean = math.exp(math.lgamma(k + 0.5) - math.lgamma(k + 1.0)) / math.sqrt(math.pi)
        lo, hi = (k, hi) if 1.0 / mean < peak else (lo, k)
    return (lo + hi) / 2


def levels(asked: Open) -> Iterator[tuple[float, list[float]]]:
    """Each level's rate, videos/s, with its instants."""
    for level, rate in enumerate(asked.rates):
        yield rate, instants(asked, rate, level)
