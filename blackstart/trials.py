"""Several trials of one experiment, as a distribution. Pure.

Invariant: a trial that gave no figure is counted and never left out in silence. Quantiles are order statistics of what
was measured; the interval of the median holds it with the stated confidence whatever the distribution (binomial).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

CONFIDENCE: Final = 0.95
COMPARED_MIN: Final = 8  # trials on each side, below which the test's approximation does not hold
REGRESSION_P: Final = 0.01
REGRESSION_RATIO: Final = 1.1  # of the medians: what is slower by less is not worth a red build


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
    values: tuple[float, ...]  # seconds, sorted
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
        values=tuple(values), phases=_phases(probe, after, documents),
        lost=sum(int(loss["lost"]) for loss in losses), acknowledged=sum(int(loss["acknowledged"]) for loss in losses),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """Recovery times beside earlier ones of the same scenario."""

    probe: str
    after: str
    median_before_s: float
    median_s: float
    p: float  # that trials as slow as these come from the earlier distribution; nan: too few to tell
    worse: bool
    words: str


def compare(found: Iterable[Spread], earlier: Iterable[Mapping[str, Any]]) -> list[Comparison]:
    """Each spread beside the earlier one of its name: `worse` where the distribution has moved up by enough to matter.

    Args:
        found: of these trials.
        earlier: `spreads` of the JSON that earlier trials were written to.
    """
    known = {(one["probe"], one["after"]): sorted(map(float, one.get("values") or ())) for one in earlier}
    rows = []
    for one in found:
        before = known.get((one.probe, one.after), [])
        p = slower(before, one.values)
        median_s = quantile(before, 0.5)
        moved = not math.isnan(p) and p < REGRESSION_P and one.median_s > median_s * REGRESSION_RATIO
        lost = one.measured < one.trials
        words = (
            f"too few trials to compare: {len(before)} before, {len(one.values)} now, {COMPARED_MIN} each are needed"
            if math.isnan(p)
            else f"median {median_s:.2f} s before, {one.median_s:.2f} s now; p {p:.4f}: "
            + ("slower" if moved else "no regression")
        )
        if lost:
            words += f"; {one.trials - one.measured} of {one.trials} did not recover"
        rows.append(Comparison(one.probe, one.after, median_s, one.median_s, p, moved or lost, words))
    return rows


def slower(before: Sequence[float], now: Sequence[float]) -> float:
    """One-sided p of the Mann-Whitney U test that *now* is not slower than *before*; nan for too few.

    Normal approximation with corrections for ties and continuity. Source: H. B. Mann, D. R. Whitney, 1947.
    """
    m, n = len(before), len(now)
    if min(m, n) < COMPARED_MIN:
        return math.nan
    both = sorted([*before, *now])
    ranks, ties = {}, 0.0
    for value in set(both):
        first, count = bisect_left(both, value), both.count(value)
        ranks[value] = first + (count + 1) / 2
        ties += count**3 - count
    above = sum(ranks[value] for value in now) - n * (n + 1) / 2
    spread = math.sqrt(m * n / 12 * ((m + n + 1) - ties / ((m + n) * (m + n - 1))))
    if not spread:
        return 1.0
    return 0.5 * math.erfc((above - m * n / 2 - 0.5) / spread / math.sqrt(2))


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
