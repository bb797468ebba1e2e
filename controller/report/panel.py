"""A plot of lines and points as geometry: axes, ticks, series, bands, marks, ready for an SVG template. Pure.

Invariant: both axes begin at zero unless they are told otherwise; every point that is given is within the drawing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 1120.0
LEFT: Final = 64.0
RIGHT: Final = 150.0  # names of the series stand there
TOP: Final = 14.0
PLOT_H: Final = 190.0
AXIS_H: Final = 44.0
_APART: Final = 13.0  # px between two names


@dataclass(frozen=True, slots=True)
class Line:
    """One series; *points* are (x, y) in its own units, in the order in which they are joined."""

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str] = ()  # of each point
    dots: bool = True
    joined: bool = True


@dataclass(frozen=True, slots=True)
class Drawn:
    """A series in pixels."""

    name: str
    path: str
    dots: tuple[tuple[float, float], ...]
    labels: tuple[tuple[float, float, str], ...]
    at: tuple[float, float]  # of its name
    shade: int


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot; *bands* and *marks* as (x, width, words) and (x, words), *limits* as (y, words)."""

    title: str
    words: str
    x_name: str
    y_name: str
    width: float
    height: float
    left: float
    right: float
    top: float
    axis_y: float
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Drawn, ...]
    bands: tuple[tuple[float, float, str], ...]
    marks: tuple[tuple[float, str], ...]
    limits: tuple[tuple[float, str], ...]


def panel(
    title: str, words: str, x_name: str, y_name: str, lines: Sequence[Line], *,
    bands: Sequence[tuple[float, float, str]] = (), marks: Sequence[tuple[float, str]] = (),
    limits: Sequence[tuple[float, str]] = (), y_from: float = 0.0, x_at: Sequence[float] = (),
) -> Panel | None:  # fmt: skip
    """In the units of the series. *x_at*: where to put ticks on the x axis. None where there is nothing to draw."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return None
    xs = [x for line in drawn for x, _ in line.points] + [x for x, _ in marks]
    ys = [y for line in drawn for _, y in line.points]
    ys += [y for y, _ in limits if y <= 2 * max(ys)]  # one further away is told, not drawn
    x_most, y_most = (max(xs) or 1.0) * 1.02, y_from + (max(ys) - y_from or 1.0) * 1.06
    axis_y, right = TOP + PLOT_H, WIDTH - RIGHT

    def x_of(value: float) -> float:
        return round(LEFT + (right - LEFT) * min(max(value, 0.0), x_most) / x_most, 2)

    def y_of(value: float) -> float:
        return round(axis_y - PLOT_H * (value - y_from) / (y_most - y_from), 2)

    places = _names([y_of(line.points[-1][1]) for line in drawn])
    return Panel(
        title, words, x_name, y_name, WIDTH, axis_y + AXIS_H, LEFT, right, TOP, axis_y,
        tuple((x_of(at), f"{at:g}") for at in (x_at or steps(0.0, x_most))),
        tuple((y_of(at), f"{at:g}") for at in steps(y_from, y_most)),
        tuple(
            _drawn(line, [(x_of(x), y_of(y)) for x, y in line.points], place, number)
            for number, (line, place) in enumerate(zip(drawn, places, strict=True))
        ),
        tuple((x_of(low), max(1.5, x_of(high) - x_of(low)), text) for low, high, text in bands if low <= x_most),
        tuple((x_of(at), text) for at, text in marks),
        tuple((y_of(at), text) for at, text in limits if at <= y_most),
    )  # fmt: skip


def steps(low: float, high: float) -> list[float]:
    """Four to ten round values from *low* to *high*."""
    span = high - low
    base = 10.0 ** math.floor(math.log10(span))
    step = next(base * by for by in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0) if span / (base * by) <= 9)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, first + 12) if number * step <= high]


def _drawn(line: Line, points: list[tuple[float, float]], place: float, shade: int) -> Drawn:
    path = "M" + "L".join(f"{x} {y}" for x, y in points) if line.joined else ""
    labels = tuple((x, y, text) for (x, y), text in zip(points, line.labels, strict=False))
    return Drawn(line.name, path, tuple(points) if line.dots else (), labels, (points[-1][0] + 9, place), shade % 4)


def _names(wanted: Sequence[float]) -> list[float]:
    """Places for names near *wanted*, none over another."""
    places = list(wanted)
    last = -math.inf
    for at in sorted(range(len(wanted)), key=lambda index: wanted[index]):
        last = places[at] = max(wanted[at], last + _APART)
    return places
