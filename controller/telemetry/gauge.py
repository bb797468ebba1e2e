"""Gauges of nodes, put together from what agents sent while a run used them. Pure."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Final

from controller.report.document import GaugeEntry
from protos.column import unpack_float64, unpack_int64

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from controller.store.base import GaugeRecord

POINTS_MAX: Final = 240  # of a timeline: about one every two pixels of a report
_WIDTH: Final = 8


def gauge_entries(records: Iterable[GaugeRecord], offsets: Mapping[str, int]) -> tuple[GaugeEntry, ...]:
    """One entry an agent and gauge, in the order of *records*; times by *offsets* on the controller's wall clock."""
    grouped = groupby(records, key=lambda record: (record.agent_id, record.series, record.unit))
    entries = (_entry(*key, list(rows), offsets.get(key[0], 0)) for key, rows in grouped)
    return tuple(entry for entry in entries if entry.samples)


def _entry(agent: str, name: str, unit: str, records: list[GaugeRecord], offset_ns: int) -> GaugeEntry:
    points: list[tuple[int, float]] = []
    for record in records:
        size = record.count * _WIDTH
        times = unpack_int64(record.columns[:size], record.count)
        values = unpack_float64(record.columns[size:], record.count)
        points += [(at + offset_ns, value) for at, value in zip(times, values, strict=True) if math.isfinite(value)]
    points.sort()
    values_only = [value for _, value in points]
    mean = sum(values_only) / len(points) if points else 0.0
    least, most = min(values_only, default=0.0), max(values_only, default=0.0)
    return GaugeEntry(name, unit, agent, len(points), least, mean, most, thinned(points))


def thinned(points: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """At most `POINTS_MAX` points: of each stretch the least and the greatest, so that no peak is lost."""
    if len(points) <= POINTS_MAX:
        return tuple(points)
    stretch = math.ceil(len(points) / (POINTS_MAX // 2))
    kept: list[tuple[int, float]] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return tuple(kept)
