"""What several measurements of the same thing say together: order statistics. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

CONFIDENCE: Final = 0.95


def quantile(values: Sequence[float], fraction: float) -> float:
    """Of sorted *values*, the least that has at least *fraction* of them at or below it; nan for none.

    The median of an even count is the mean of the middle two.
    """
    if not values:
        return math.nan
    if fraction == 0.5 and len(values) % 2 == 0:
        return (values[len(values) // 2 - 1] + values[len(values) // 2]) / 2
    return values[max(0, math.ceil(fraction * len(values)) - 1)]


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Bounds of the median of what sorted *values* were drawn from, by order statistics; nan where there are too few.

    Source: the binomial (sign test) interval, exact for any continuous distribution.
    """
    count = len(values)
    for rank in range(count // 2, 0, -1):  # the narrowest that is wide enough
        outside = 2 * sum(math.comb(count, below) for below in range(rank)) / 2**count
        if 1 - outside >= confidence:
            return values[rank - 1], values[count - rank]
    return math.nan, math.nan


def phase_medians(trials: Sequence[Sequence[tuple[str, float]]]) -> dict[str, float]:
    """The median of each phase over the *trials* in which it was told, in the order of those that tell of most."""
    took: dict[str, list[float]] = {}
    for trial in sorted(trials, key=len, reverse=True):
        for name, seconds in trial:
            took.setdefault(name, []).append(seconds)
    return {name: quantile(sorted(values), 0.5) for name, values in took.items()}
