"""Several runs of one experiment as a distribution: figures in words, and the drawing as geometry. Pure.

Invariant: every trial counts once, by the agent that waited longest. One without a recovery leaves the curve below the
top, and is longer than any other in every quantile. Each point is drawn with the bounds of its own trial.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Final

from controller.report import format as fmt
from controller.report.lane import Scale
from controller.report.timeline import Tick, ticks
from protos.spread import median_interval, phase_medians, quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.report.document import Interval, RecoveryEntry, RunDocument

WIDTH: Final = 1120.0
LEFT: Final = 56.0
RIGHT: Final = 24.0
TOP: Final = 14.0
CURVE_H: Final = 220.0
PHASES_H: Final = 44.0
_NS: Final = 1_000_000_000
_BEYOND: Final = 1.6  # an objective further away than this many times the longest trial is told, and not drawn


@dataclass(frozen=True, slots=True)
class Point:
    """One trial: its value, its bounds, and the share of trials that took no longer, as y."""

    x: float
    lo_x: float
    hi_x: float
    y: float


@dataclass(frozen=True, slots=True)
class PhaseBar:
    name: str
    took: str
    x: float
    width: float
    shade: int


@dataclass(frozen=True, slots=True)
class SpreadChart:
    """The recoveries of one probe after one injection, over the trials of one experiment."""

    title: str
    words: str
    figures: tuple[tuple[str, str], ...]
    width: float
    height: float
    axis_y: float
    top: float
    left: float
    right: float
    ticks: tuple[Tick, ...]
    shares: tuple[tuple[float, str], ...]  # y, label
    points: tuple[Point, ...]
    curve: str  # path of the steps
    band: tuple[float, float] | None  # where the median lies, with 95 % confidence
    median_x: float | None  # None: more than half of the trials did not recover
    p95_x: float | None
    rto_x: float | None
    rto: str
    phases: tuple[PhaseBar, ...]  # medians


def spread_charts(documents: Sequence[RunDocument]) -> tuple[SpreadChart, ...]:
    """One for each recovery that at least two runs of the same experiment measured."""
    found = []
    for title in dict.fromkeys(document.title for document in documents):
        runs = [document for document in documents if document.title == title and not document.skipped]
        keys = dict.fromkeys((entry.probe, entry.after) for document in runs for entry in document.recoveries)
        for probe, after in keys:
            trials = [
                [entry for entry in document.recoveries if (entry.probe, entry.after) == (probe, after)]
                for document in runs
            ]
            if sum(_worst(entries) is not None for entries in trials) >= 2:
                found.append(_chart(title, trials, runs))
    return tuple(found)


def _worst(entries: Sequence[RecoveryEntry]) -> Interval | None:
    """The longest of what the agents saw in one trial; None where one of them saw no recovery."""
    took = [entry.recovery for entry in entries]
    if not took or None in took:
        return None
    return max((one for one in took if one), key=lambda one: one.value)


def _chart(title: str, rows: Sequence[Sequence[RecoveryEntry]], runs: Sequence[RunDocument]) -> SpreadChart:
    first, trials = next(entries[0] for entries in rows if entries), len(rows)
    took = sorted((one for one in map(_worst, rows) if one), key=lambda one: one.value)
    values = [*(one.value for one in took), *[math.inf] * (trials - len(took))]
    most_s, rto_s = max(one.hi for one in took), first.rto_s
    shown = rto_s is not None and rto_s <= most_s * _BEYOND
    end_s = max(most_s, rto_s if shown and rto_s is not None else 0.0, 0.01) * 1.04
    scale = Scale(0, round(end_s * _NS), 0, LEFT, WIDTH - RIGHT)
    axis_y = TOP + CURVE_H
    points = tuple(
        Point(_x(scale, one.value), _x(scale, one.lo), _x(scale, one.hi), _y(number, trials))
        for number, one in enumerate(took, 1)
    )
    lo_s, hi_s = median_interval(values)
    phases = _phases(first, runs, scale)
    return SpreadChart(
        title=f"{title}: {first.probe} after {first.after}",
        words=_words(took, trials),
        figures=_figures(took, values, rows, runs),
        width=WIDTH, height=axis_y + 28 + (PHASES_H if phases else 0), axis_y=axis_y, top=TOP, left=LEFT,
        right=WIDTH - RIGHT, ticks=ticks(scale),
        shares=tuple((_y(share, 4), f"{share * 25} %") for share in range(5)),
        points=points, curve=_steps(points, axis_y, scale.right),
        band=(_x(scale, lo_s), scale.right if math.isinf(hi_s) else _x(scale, hi_s)) if math.isfinite(lo_s) else None,
        median_x=_reached(scale, quantile(values, 0.5)), p95_x=_reached(scale, quantile(values, 0.95)),
        rto_x=_x(scale, rto_s) if shown and rto_s is not None else None,
        rto="" if rto_s is None else f"RTO {fmt.objective(rto_s)}", phases=phases,
    )  # fmt: skip


def _x(scale: Scale, at_s: float) -> float:
    return scale.x(round(at_s * _NS))


def _reached(scale: Scale, at_s: float) -> float | None:
    return _x(scale, at_s) if math.isfinite(at_s) else None


def _y(number: int, of: int) -> float:
    return round(TOP + CURVE_H * (1 - number / of), 2)


def _steps(points: Sequence[Point], axis_y: float, right: float) -> str:
    """The share of trials that took no longer, as a path of steps."""
    parts = [f"M{points[0].x} {axis_y}"]
    parts += [f"V{point.y}H{after.x}" for point, after in pairwise(points)]
    return "".join([*parts, f"V{points[-1].y}H{right}"])


def _words(took: Sequence[Interval], trials: int) -> str:
    text = f"{len(took)} of {fmt.plural(trials, 'trial')} recovered"
    return f"{text}, in {fmt.seconds(took[0].value)} to {fmt.seconds(took[-1].value)}."


def _figures(
    took: Sequence[Interval], values: Sequence[float], rows: Sequence[Sequence[RecoveryEntry]],
    runs: Sequence[RunDocument],
) -> tuple[tuple[str, str], ...]:  # fmt: skip
    lo_s, hi_s = median_interval(values)
    within = "takes 6 trials" if math.isnan(lo_s) else f"{_seconds(lo_s)} to {_seconds(hi_s)}, at 95 %"
    error_s = max(max(one.hi - one.value, one.value - one.lo) for one in took)
    probe = next(entries[0] for entries in rows if entries).probe
    losses = [loss for document in runs for loss in document.losses if loss.probe == probe]
    missed = sum(any(entry.result == "missed" for entry in entries) for entries in rows)
    figures = [
        ("trials", f"{len(took)} of {len(rows)} measured"), ("missed", str(missed)), ("min", _seconds(values[0])),
        ("median", _seconds(quantile(values, 0.5))), ("median within", within),
        ("p95", _seconds(quantile(values, 0.95))), ("max", _seconds(values[-1])),
        ("each within", f"\N{PLUS-MINUS SIGN}{fmt.seconds(error_s, 2)}"),
    ]  # fmt: skip
    if losses:
        lost, of = sum(loss.lost for loss in losses), sum(loss.acknowledged for loss in losses)
        figures.append(("lost", f"{fmt.count(lost)} of {fmt.count(of)} acknowledged"))
    return tuple(figures)


def _seconds(value: float) -> str:
    return fmt.seconds(value) if math.isfinite(value) else "not reached"


def _phases(first: RecoveryEntry, runs: Sequence[RunDocument], scale: Scale) -> tuple[PhaseBar, ...]:
    """The median of each phase, one behind the other on the scale of the curve."""
    found = [
        [(step.name, step.took_s) for step in entry.steps]
        for document in runs
        for entry in document.phases
        if (entry.probe, entry.after) == (first.probe, first.after)
    ]
    medians = list(phase_medians(found).items())
    starts = accumulate((median for _, median in medians), initial=0.0)
    return tuple(
        PhaseBar(
            name, fmt.seconds(median, 2), _x(scale, start), round(_x(scale, start + median) - _x(scale, start), 2), k
        )
        for k, ((name, median), start) in enumerate(zip(medians, starts, strict=False))
    )
