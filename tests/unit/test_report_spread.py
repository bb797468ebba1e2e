"""Trials as a distribution in the report: every trial is counted, and drawn with its own bounds."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from controller.report.document import Interval, PhasesEntry, PhaseStep
from controller.report.page import to_html
from controller.report.spread import CURVE_H, TOP, spread_charts
from tests.unit.report_sample import recovery, run


def trial(value_s: float | None, **more: object):
    took = None if value_s is None else Interval(value_s, value_s - 0.05, value_s + 0.05)
    return replace(run(), recoveries=(recovery(recovery=took, result="met" if took else "missed"),), **more)


VALUES = st.lists(st.one_of(st.none(), st.floats(0.1, 500)), min_size=2, max_size=40)


@given(VALUES)
def test_the_curve_counts_every_trial(values):
    measured = sorted(value for value in values if value is not None)
    charts = spread_charts([trial(value) for value in values])
    if len(measured) < 2:
        assert not charts
        return
    (chart,) = charts
    assert len(chart.points) == len(measured)
    assert all(point.lo_x <= point.x <= point.hi_x for point in chart.points)
    assert [point.x for point in chart.points] == sorted(point.x for point in chart.points)
    top = TOP + CURVE_H * (1 - len(measured) / len(values))
    assert abs(chart.points[-1].y - top) < 0.01
    assert dict(chart.figures)["trials"] == f"{len(measured)} of {len(values)} measured"
    assert dict(chart.figures)["missed"] == str(len(values) - len(measured))
    assert (chart.median_x is None) == (2 * len(measured) <= len(values)), "more than half must have recovered"
    assert (dict(chart.figures)["max"] == "not reached") == (len(measured) < len(values))
    assert all(chart.left <= x <= chart.right for point in chart.points for x in (point.lo_x, point.hi_x))


def test_the_agent_that_waited_longest_speaks_for_its_trial():
    two = [replace(one, recoveries=(one.recoveries[0], recovery(agent_id="b", recovery=Interval(9.0, 8.9, 9.1))))
           for one in (trial(2.0), trial(3.0))]  # fmt: skip
    (chart,) = spread_charts([*two, trial(None)])
    assert dict(chart.figures)["trials"] == "2 of 3 measured"
    assert dict(chart.figures)["min"] == "9.00 s"


def test_an_objective_far_away_is_told_and_a_near_one_drawn():
    far, near = (spread_charts([trial(s), trial(s + 1)])[0] for s in (2.0, 50.0))
    assert (far.rto_x, far.rto) == (None, "RTO 60 s")
    assert near.rto_x is not None
    page = to_html([trial(2.0), trial(3.0)], "two").decode()
    assert "RTO 60 s lies beyond the drawing" in page
    assert "2 of 2 trials recovered, in 2.00 s to 3.00 s." in page


def test_phases_stand_one_behind_the_other():
    at = Interval(1.0, 0.9, 1.1)
    steps = tuple(PhaseStep(name, at, took, "db1", "/log", "x") for name, took in (("detect", 4.0), ("act", 1.0)))
    entry = PhasesEntry("segments", "observer-1", "kill-worker", steps, (), "")
    (chart,) = spread_charts([trial(5.0, phases=(entry,)), trial(5.2, phases=(entry,))])
    detect, act = chart.phases
    assert (detect.x, act.took) == (chart.left, "1.00 s")
    assert abs(act.x - detect.x - detect.width) < 0.02
    assert abs(detect.width / act.width - 4) < 0.05


def test_runs_of_different_experiments_are_not_mixed():
    assert not spread_charts([trial(2.0), replace(trial(3.0), title="another")])
    assert not spread_charts([trial(2.0)])
