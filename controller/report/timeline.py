"""The timeline of a run as geometry: lanes, spans, markers and ticks in pixels, ready for an SVG template.

Invariant: nothing that failed is drawn narrower than it can be seen, and where several states share a pixel the worst
is drawn. Pure: no markup is made here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from controller.report import format as fmt
from controller.report import summary
from controller.report.lane import Bounded, InjectionLane, ProbeLane, Scale, injected_at_ns, injection_lane, spans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.report.document import InjectionEntry, ProbeEntry, RecoveryEntry, RunDocument

WIDTH: Final = 1120.0
GUTTER: Final = 190.0  # names of the lanes
RIGHT: Final = 14.0
_TOP: Final = 10.0
_INJECTION_H: Final = 34.0
_PROBE_H: Final = 38.0
_RECOVERY_H: Final = 32.0
_AXIS_H: Final = 30.0
_NS: Final = 1_000_000_000
_CLOSE_UP_FRACTION: Final = 0.25  # a recovery that fills more of the run than this is large enough already
_STEPS_S: Final = (*(base * 10.0**power for power in range(-3, 4) for base in (1, 2, 5)), 1800.0, 3600.0, 7200.0)


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One drawing; y grows downwards."""

    title: str
    summary: str  # for those who cannot see it
    width: float
    height: float
    left: float
    right: float
    axis_y: float
    ticks: tuple[Tick, ...]
    injections: tuple[InjectionLane, ...]
    probes: tuple[ProbeLane, ...]
    lines: tuple[tuple[float, str], ...]  # (x, "inject" | "revert"), over all lanes


def run_chart(document: RunDocument) -> Chart | None:
    """The whole run; None when it has no length or nothing to draw."""
    start, end = document.started_wall_ns, document.ended_wall_ns
    if end <= start or not (document.probes or document.injections):
        return None
    scale = Scale(start, end, start, GUTTER, WIDTH - RIGHT)
    return _chart(f"Timeline of {document.title}", scale, document.injections, document.probes, document)


def close_ups(document: RunDocument) -> tuple[Chart, ...]:
    """For each recovery that is short beside its run: the time around it, so that its bounds can be seen."""
    found = []
    for recovery in document.recoveries:
        injection = next((entry for entry in document.injections if entry.name == recovery.after), None)
        at = injected_at_ns(injection)
        if injection is None or at is None or recovery.recovery is None:
            continue
        took_ns = max(int(recovery.recovery.hi * _NS), _NS // 10)
        if took_ns > (document.ended_wall_ns - document.started_wall_ns) * _CLOSE_UP_FRACTION:
            continue
        probes = [entry for entry in document.probes if _of(recovery, entry)]
        scale = Scale(at - took_ns // 4, at + took_ns * 7 // 5, at, GUTTER, WIDTH - RIGHT)
        title = f"Close-up: {recovery.probe} on {recovery.agent_id} after {recovery.after}"
        found.append(_chart(title, scale, [injection], probes, document))
    return tuple(found)


def ticks(scale: Scale) -> tuple[Tick, ...]:
    """Four to ten round instants, in seconds from the scale's origin."""
    length_s = (scale.end_ns - scale.start_ns) / _NS
    step_s = next((step for step in _STEPS_S if length_s / step <= 9), length_s / 4)
    decimals = fmt.decimals_for(step_s) if step_s < 1 else 0
    first = -int((scale.origin_ns - scale.start_ns) / _NS / step_s)
    made = []
    for number in range(first, first + 12):
        at_ns = scale.origin_ns + int(number * step_s * _NS)
        if scale.start_ns <= at_ns <= scale.end_ns:
            made.append(Tick(scale.x(at_ns), f"{number * step_s:.{decimals}f} s"))
    return tuple(made)


def _chart(
    title: str, scale: Scale, injections: Sequence[InjectionEntry], probes: Sequence[ProbeEntry], document: RunDocument
) -> Chart:
    y = _TOP
    injection_lanes = []
    for injection in injections:
        injection_lanes.append(injection_lane(injection, scale, y, _INJECTION_H))
        y += _INJECTION_H
    probe_lanes = []
    shown = {injection.name for injection in injections}
    for probe in probes:
        measured = [entry for entry in document.recoveries if _of(entry, probe) and entry.after in shown]
        lane = _probe_lane(probe, measured, document, scale, y)
        probe_lanes.append(lane)
        y += lane.height
    lines = [(lane.markers[0][0], "inject") for lane in injection_lanes if lane.markers]
    lines += [(lane.bar.x + lane.bar.width, "revert") for lane in injection_lanes if lane.bar and lane.ended]
    return Chart(
        title=title,
        summary=_told(injections, document, probes),
        width=WIDTH,
        height=y + _AXIS_H,
        left=GUTTER,
        right=WIDTH - RIGHT,
        axis_y=y + 4,
        ticks=ticks(scale),
        injections=tuple(injection_lanes),
        probes=tuple(probe_lanes),
        lines=tuple(lines),
    )


def _probe_lane(
    probe: ProbeEntry, measured: Sequence[RecoveryEntry], document: RunDocument, scale: Scale, y: float
) -> ProbeLane:
    outages = [outage for entry in document.recoveries if _of(entry, probe) for outage in entry.outages]
    by_name = {injection.name: injection for injection in document.injections}
    bounded = []
    row_y = y + _PROBE_H
    for entry in measured:
        at = injected_at_ns(by_name.get(entry.after))
        if at is None:
            continue
        bounded.append(_bounded(entry, at, scale, row_y))
        row_y += _RECOVERY_H
    return ProbeLane(
        name=probe.name,
        detail=f"{probe.kind}, {fmt.rate(probe.interval_ms)}, {probe.agent_id}",
        y=y,
        height=row_y - y,
        spans=spans(probe.timeline, scale),
        outages=tuple(
            shade
            for outage in outages
            if (shade := scale.span(outage.start_lo_wall_ns, outage.end_hi_wall_ns or scale.end_ns, 1)) is not None
        ),
        edges=tuple(
            edge
            for outage in outages
            for lo, hi in (
                (outage.start_lo_wall_ns, outage.start_hi_wall_ns),
                (outage.end_lo_wall_ns, outage.end_hi_wall_ns),
            )
            if hi and (edge := scale.span(lo, hi, 1)) is not None and edge.width >= 2
        ),
        recoveries=tuple(bounded),
    )


def _bounded(entry: RecoveryEntry, at_ns: int, scale: Scale, y: float) -> Bounded:
    took = entry.recovery
    rto_ns = at_ns + int(entry.rto_s * _NS) if entry.rto_s is not None else 0
    end_ns = at_ns + int(took.value * _NS) if took else scale.end_ns
    if took is None and entry.result == "inconclusive":
        end_ns = at_ns  # nothing is drawn that nobody has seen
    start_x, end_x = scale.x(at_ns), scale.x(end_ns)
    lo_x = scale.x(at_ns + int(took.lo * _NS)) if took else end_x
    hi_x = scale.x(at_ns + int(took.hi * _NS)) if took else end_x
    label = summary.took(entry)
    rto_x = scale.x(rto_ns) if rto_ns and scale.start_ns <= rto_ns <= scale.end_ns else None
    taken = max(hi_x, rto_x or 0.0)
    room = 7.0 * len(label)
    if taken + room < scale.right:
        x, anchor = taken + 8, "start"
    elif start_x - room > scale.left:
        x, anchor = start_x - 8, "end"
    else:
        x, anchor = (start_x + end_x) / 2, "middle"
    rto = fmt.objective(entry.rto_s) if entry.rto_s is not None else ""
    return Bounded(y, start_x, end_x, lo_x, hi_x, label, x, anchor, rto_x, f"RTO {rto}", recovered=took is not None)


def _of(recovery: RecoveryEntry, probe: ProbeEntry) -> bool:
    return (recovery.probe, recovery.agent_id) == (probe.name, probe.agent_id)


def _told(injections: Sequence[InjectionEntry], document: RunDocument, probes: Sequence[ProbeEntry]) -> str:
    """What the drawing shows, as text."""
    names = {injection.name for injection in injections}
    parts = [f"{entry.name}: {entry.fault}, {fmt.plural(len(entry.effects), 'effect')}" for entry in injections]
    parts += [f"probe {probe.name} on {probe.agent_id}: {fmt.plural(probe.failures, 'failure')}" for probe in probes]
    for entry in document.recoveries:
        if entry.after in names and entry.recovery is not None:
            parts.append(f"{entry.probe} recovered in {fmt.interval(entry.recovery)} after {entry.after}")
    return "; ".join(parts) + "."
