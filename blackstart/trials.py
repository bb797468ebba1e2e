"""Several trials of one experiment, as a distribution. Pure.

Invariant: a trial that gave no figure is counted and never left out in silence. Quantiles are order statistics of what
was measured; the interval of the median holds it with the stated confidence whatever the distribution (binomial).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Spread:
    """Recovery times of one probe after one injection, seconds. *error_s*: the widest half of a trial's own bounds."""

    probe: str
    after: str
    trials: int
    measured: int  # trials that gave a time
    missed: int  # trials past their objective, or without a recovery
    least_s: float
    median_s: float
    p95_s: float
    most_s: float
    median_lo_s: float
    median_hi_s: float
    error_s: float
    lost: int  # acknowledged records, over all trials
    acknowledged: int
    phases: dict[str, float]  # median seconds of each phase, over the trials in which a log told of it


def spreads(documents: Sequence[Mapping[str, Any]]) -> list[Spread]:
    """One for each probe and injection that any of the runs' documents measured."""
    keys = dict.fromkeys(
        (entry["probe"], entry["after"]) for document in documents for entry in document.get("recoveries", ())
    )
    return [_spread(probe, after, documents) for probe, after in keys]


def _spread(probe: str, after: str, documents: Sequence[Mapping[str, Any]]) -> Spread:
    entries = [
        entry for document in documents for entry in document.get("recoveries", ())
        if (entry["probe"], entry["after"]) == (probe, after)
    ]  # fmt: skip
    losses = [loss for document in documents for loss in document.get("losses", ()) if loss["probe"] == probe]
    found = [entry["recovery"] for entry in entries if entry.get("recovery")]
    values = sorted(float(one["value"]) for one in found)
    lo, hi = median_interval(values)
    return Spread(
        probe=probe, after=after, trials=len(documents), measured=len(values),
        missed=sum(entry["result"] == "missed" for entry in entries),
        least_s=values[0] if values else math.nan, median_s=quantile(values, 0.5), p95_s=quantile(values, 0.95),
        most_s=values[-1] if values else math.nan, median_lo_s=lo, median_hi_s=hi,
        error_s=max((max(one["hi"] - one["value"], one["value"] - one["lo"]) for one in found), default=math.nan),
        phases=_phases(probe, after, documents),
        lost=sum(int(loss["lost"]) for loss in losses), acknowledged=sum(int(loss["acknowledged"]) for loss in losses),
    )  # fmt: skip


def _phases(probe: str, after: str, documents: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    took: dict[str, list[float]] = {}
    for document in documents:
        for entry in document.get("phases", ()):
            for step in entry["steps"] if (entry["probe"], entry["after"]) == (probe, after) else ():
                took.setdefault(step["name"], []).append(float(step["took_s"]))
    return {name: quantile(sorted(values), 0.5) for name, values in took.items()}


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


def strip(values: Iterable[float], width: int = 60) -> str:
    """The values as marks on a line from 0 to the most: a plot for a terminal."""
    rows = sorted(values)
    if not rows or rows[-1] <= 0:
        return ""
    counts = [0] * width
    for value in rows:
        counts[min(width - 1, int(value / rows[-1] * (width - 1)))] += 1
    return "".join(" ·•●"[min(count, 3)] for count in counts)
