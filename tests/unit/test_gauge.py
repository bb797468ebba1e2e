"""Gauges put together from records: no sample and no peak is lost, times are the controller's."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from controller.store.base import GaugeRecord
from controller.telemetry.gauge import POINTS_MAX, gauge_entries, thinned
from protos.column import pack_float64, pack_int64


def record(times, values, *, series="load", agent="a1"):
    return GaugeRecord("r1", agent, series, "1", len(times), pack_int64(times) + pack_float64(values))


def test_one_entry_an_agent_and_series():
    records = [record([1, 2], [1.0, 3.0]), record([3], [5.0]), record([1], [7.0], agent="a2")]
    first, second = gauge_entries(records, {"a1": 100})
    assert (first.agent_id, first.samples, first.least, first.mean, first.most) == ("a1", 3, 1.0, 3.0, 5.0)
    assert first.timeline == ((101, 1.0), (102, 3.0), (103, 5.0))
    assert second.timeline == ((1, 7.0),)


def test_what_is_no_number_is_left_out():
    assert gauge_entries([record([1], [math.nan])], {}) == ()


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=1000))
def test_thinning_keeps_the_extremes_and_the_order(values):
    points = list(enumerate(values))
    kept = thinned(points)
    assert len(kept) <= max(POINTS_MAX, len(points) if len(points) <= POINTS_MAX else 0)
    assert {min(values), max(values)} <= {value for _, value in kept}
    assert list(kept) == sorted(kept)
