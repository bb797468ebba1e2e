"""Several trials of one experiment, as a distribution. Pure.

Invariant: a trial that gave no figure is counted: quantiles take it for longer than any that did. Of several agents
the one that waited longest speaks for its trial. The interval of the median holds it with the stated confidence,
whatever the distribution (binomial).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from protos.spread import median_interval, phase_medians, quantile

COMPARED_MIN: Final = 8  # trials on each side, below which the test's approximation does not hold
REGRESSION_P: Final = 0.01
REGRESSION_RATIO: Final = 1.1  # of the medians: what is slower by less is not worth a red build


@dataclass(frozen=True, slots=True)
class Spread:
    """Recovery times of one probe after one injection, seconds; inf: of a trial without a recovery.

    *error_s*: the widest half of a trial's own bounds.
    """

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
    rows = [
        [entry for entry in document.get("recoveries", ()) if (entry["probe"], entry["after"]) == (probe, after)]
        for document in documents
    ]
    losses = [loss for document in documents for loss in document.get("losses", ()) if loss["probe"] == probe]
    found = [one for row in rows if (one := worst([entry.get("recovery") for entry in row])) is not None]
    values = sorted(float(one["value"]) for one in found)
    whole = [*values, *[math.inf] * (len(documents) - len(values))]  # a trial without a recovery took longer than any
    lo, hi = median_interval(whole)
    return Spread(
        probe=probe, after=after, trials=len(documents), measured=len(values),
        missed=sum(any(entry["result"] == "missed" for entry in row) for row in rows),
        least_s=values[0] if values else math.nan, median_s=quantile(whole, 0.5), p95_s=quantile(whole, 0.95),
        most_s=quantile(whole, 1), median_lo_s=lo, median_hi_s=hi,
        error_s=max((max(one["hi"] - one["value"], one["value"] - one["lo"]) for one in found), default=math.nan),
        values=tuple(values), phases=_phases(probe, after, documents),
        lost=sum(int(loss["lost"]) for loss in losses), acknowledged=sum(int(loss["acknowledged"]) for loss in losses),
    )  # fmt: skip


def worst(recoveries: Sequence[Mapping[str, Any] | None]) -> Mapping[str, Any] | None:
    """The longest of what several agents saw in one trial; None where one of them saw no recovery, or there is none."""
    found = [one for one in recoveries if one]
    if not found or len(found) < len(recoveries):
        return None
    return max(found, key=lambda one: float(one["value"]))


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
    found = [
        [(str(step["name"]), float(step["took_s"])) for step in entry["steps"]]
        for document in documents
        for entry in document.get("phases", ())
        if (entry["probe"], entry["after"]) == (probe, after)
    ]
    return phase_medians(found)


def strip(values: Iterable[float], width: int = 60) -> str:
    """The values as marks on a line from 0 to the most: a plot for a terminal."""
    rows = sorted(values)
    if not rows or rows[-1] <= 0:
        return ""
    counts = [0] * width
    for value in rows:
        counts[min(width - 1, int(value / rows[-1] * (width - 1)))] += 1
    return "".join(" ·•●"[min(count, 3)] for count in counts)
