"""Parts of a timeline: the scale from time to pixels, spans, and the lanes of injections and probes.

Invariant: every x lies within the scale; what lies outside in time is clipped or left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.report.document import InjectionEntry

GOOD: Final = 0
FAILING: Final = 1
NO_DATA: Final = 2
_RANK: Final = {GOOD: 0, NO_DATA: 1, FAILING: 2}
_VISIBLE_PX: Final = 1.5
_SPANS_MAX: Final = 400  # beyond it, one span a pixel at most


@dataclass(frozen=True, slots=True)
class Span:
    x: float
    width: float
    state: int


@dataclass(frozen=True, slots=True)
class Scale:
    """Wall-clock nanoseconds to pixels; labels count from *origin_ns*."""

    start_ns: int
    end_ns: int
    origin_ns: int
    left: float
    right: float

    def x(self, at_ns: int) -> float:
        share = (min(max(at_ns, self.start_ns), self.end_ns) - self.start_ns) / (self.end_ns - self.start_ns)
        return round(self.left + share * (self.right - self.left), 2)

    def span(self, start_ns: int, end_ns: int, state: int) -> Span | None:
        """The visible part, at least wide enough to be seen; None when all of it lies outside."""
        if end_ns < self.start_ns or start_ns > self.end_ns or end_ns < start_ns:
            return None
        x = self.x(start_ns)
        width = max(self.x(end_ns) - x, 0.0 if state == GOOD else _VISIBLE_PX)
        return Span(min(x, self.right - width), round(width, 2), state)


@dataclass(frozen=True, slots=True)
class InjectionLane:
    name: str
    detail: str
    y: float
    height: float
    bar: Span | None  # from the first effect to the last revert; None: nothing stayed in force
    ended: bool  # False: the bar ends with the run, not with a revert
    markers: tuple[tuple[float, bool], ...]  # (x, confirmed) for each effect
    label: str  # beside the marker: what the receipts say


@dataclass(frozen=True, slots=True)
class Bounded:
    """A recovery time with its bounds, under its probe."""

    y: float
    start_x: float
    end_x: float
    lo_x: float
    hi_x: float
    label: str
    label_x: float
    anchor: str
    rto_x: float | None  # None: outside the drawing, or no objective
    rto: str
    recovered: bool


@dataclass(frozen=True, slots=True)
class ProbeLane:
    name: str
    detail: str
    y: float
    height: float
    spans: tuple[Span, ...]
    outages: tuple[Span, ...]
    edges: tuple[Span, ...]  # where an outage's start or end may lie
    recoveries: tuple[Bounded, ...]


def injected_at_ns(injection: InjectionEntry | None) -> int | None:
    """The instant of the first effect that took hold; None when none did."""
    instants = [effect.injected_wall_ns for effect in injection.effects if effect.injected_wall_ns] if injection else []
    return min(instants, default=None)


def injection_lane(injection: InjectionEntry, scale: Scale, y: float, height: float) -> InjectionLane:
    at = injected_at_ns(injection)
    reverted = [effect.reverted_wall_ns for effect in injection.effects if effect.reverted_wall_ns]
    lasting = any(
        effect.state in ("injected", "stranded") and effect.undo != "self_healing" for effect in injection.effects
    )
    end = scale.end_ns if lasting else max(reverted, default=0)
    proven = sum(effect.confirmed for effect in injection.effects)
    return InjectionLane(
        name=injection.name,
        detail=f"{injection.fault}, {', '.join(dict.fromkeys(effect.agent_id for effect in injection.effects))}",
        y=y,
        height=height,
        bar=scale.span(at, end, FAILING) if at is not None and end > at else None,
        ended=not lasting and bool(reverted) and end <= scale.end_ns,
        markers=tuple(
            (scale.x(effect.injected_wall_ns), effect.confirmed)
            for effect in injection.effects
            if effect.injected_wall_ns and scale.start_ns <= effect.injected_wall_ns <= scale.end_ns
        ),
        label=f"receipt {proven}/{len(injection.effects)}" if injection.effects else "no target",
    )


def spans(timeline: Sequence[tuple[int, int]], scale: Scale) -> tuple[Span, ...]:
    """The states of a probe as spans; a state lasts until the next change, the last one until the end."""
    ends = [at for at, _ in timeline[1:]] + [scale.end_ns]
    made = [
        span
        for (at, state), end in zip(timeline, ends, strict=False)
        if (span := scale.span(at, min(end, scale.end_ns), state)) is not None and span.width > 0
    ]
    return tuple(made) if len(made) <= _SPANS_MAX else _by_pixel(made, scale)


def _by_pixel(made: Sequence[Span], scale: Scale) -> tuple[Span, ...]:
    """Spans on whole pixels: the worst state that touches a pixel fills it; equal neighbours are joined."""
    columns: dict[int, int] = {}
    for span in made:
        for column in range(int(span.x), min(int(span.x + span.width), int(scale.right)) + 1):
            if column not in columns or _RANK[span.state] > _RANK[columns[column]]:
                columns[column] = span.state
    joined: list[Span] = []
    for column, state in sorted(columns.items()):
        last = joined[-1] if joined else None
        if last and last.state == state and last.x + last.width == column:
            joined[-1] = Span(last.x, last.width + 1, state)
        else:
            joined.append(Span(float(column), 1.0, state))
    return tuple(joined)
