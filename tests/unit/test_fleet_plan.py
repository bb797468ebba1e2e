"""How many nodes a demand needs, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import yaml

from experiments.performance.model import hardware, plan
from experiments.performance.model.projection import Service
from experiments.performance.model.queueing import waiting_probability
from experiments.performance.model.scores import scores
from protos.error import RefusedError, SpecError

DEMAND = plan.Demand(videos_day=86_400, peak=2.0, duration_s=10, turnaround_p95_s=20, source="a test")
EVEN = Service(tuple([5.0] * 101), (1.0, 1.9), 50, "a test")


def test_nodes_are_at_least_what_the_load_takes_and_hold_the_objective():
    found = plan.plan(EVEN, DEMAND, replications=4, seed=1)
    assert found.needed == tuple(sorted(found.needed))
    assert math.ceil(2.0 / EVEN.rate(found.slots)) <= found.median <= 14
    assert found.turnaround_p95_s <= 20 * 1.1
    assert found.videos_s == pytest.approx(2.0, rel=0.1)
    assert any("50 jobs measured" in text for text in found.inputs)
    assert plan.plan(EVEN, DEMAND, replications=4, seed=1) == found, "the same for the same seed"


def test_the_number_is_that_of_erlang_where_he_has_one():
    """Exponential service, one job a node: P(T > t) of M/M/c, first come, first served."""
    mean = 5.0
    points = [-mean * math.log(1 - at / 1001) for at in range(1001)]
    service = Service(tuple(points), (1.0,), 100_000, "exponential")
    service = replace(service, quantiles_s=tuple(one * mean / service.mean_s for one in points))
    asked = replace(DEMAND, turnaround_p95_s=20.0)

    def above(servers: int) -> float:
        """The share with a turnaround above 20 s: service is exponential, and so is the wait of those who wait."""
        load, mu = asked.rate * mean, 1 / mean
        drain = servers * mu - asked.rate
        waits = waiting_probability(servers, load)
        late = math.exp(-mu * 20)
        both = (drain * math.exp(-mu * 20) - mu * math.exp(-drain * 20)) / (drain - mu)  # wait + service above 20 s
        return (1 - waits) * late + waits * both

    least = next(servers for servers in range(11, 60) if above(servers) <= 0.05)
    found = plan.plan(service, asked, replications=6, seed=3)
    assert found.interval[0] - 1 <= least <= found.interval[1] + 1


def test_a_fleet_that_cannot_keep_up_does_not_pass_because_the_hour_is_short():
    """A backlog of an hour is within an objective of ten minutes; a queue that grows is not."""
    slow = replace(DEMAND, turnaround_p95_s=600.0)
    assert plan.plan(EVEN, slow, replications=3, seed=1, slots=1).median >= 11, "ten nodes are full at two videos/s"
    failures = plan.Failures(900.0, "a test", (100.0,), "another test")
    failing = plan.plan(EVEN, slow, replications=3, seed=1, slots=1, failures=failures)
    assert failing.median * EVEN.rate(1) * 0.9 > 2.0, "what is away does not count"


def test_service_times_that_may_be_too_long_are_told_and_too_few_are_refused():
    wide = replace(EVEN, quantiles_s=tuple(2.0 + 8.0 * (at / 100) ** 3 for at in range(101)), samples=12)
    found = plan.plan(wide, replace(DEMAND, turnaround_p95_s=9.2), replications=20, seed=2, slots=1)
    assert any("no number was enough" in text for text in found.inputs)
    with pytest.raises(SpecError, match="too few"):
        plan.plan(replace(EVEN, samples=2), DEMAND, replications=2, seed=1)
    with pytest.raises(SpecError, match="2 at a time, one job of twenty takes"):
        plan.plan(EVEN, replace(DEMAND, turnaround_p95_s=6.0), replications=2, seed=1, slots=2)


def test_failures_and_tighter_objectives_take_more():
    calm = plan.plan(EVEN, DEMAND, replications=3, seed=1, slots=1)
    tight = plan.plan(EVEN, replace(DEMAND, turnaround_p95_s=5.2), replications=3, seed=1, slots=1)
    failing = plan.plan(
        EVEN, DEMAND, replications=3, seed=1, slots=1,
        failures=plan.Failures(300.0, "a test", (60.0, 120.0), "another test"),
    )  # fmt: skip
    assert tight.median > calm.median
    assert failing.median > calm.median
    assert any("assumed (a test)" in text for text in failing.inputs)


def test_what_no_number_of_nodes_can_do_is_said():
    with pytest.raises(SpecError, match="no number of nodes makes one job faster"):
        plan.plan(EVEN, replace(DEMAND, turnaround_p95_s=4.0), replications=1, seed=1)


def test_the_profile_that_is_shipped_has_a_demand_and_says_whence():
    path = hardware.FILE.parents[2] / "profiles" / "dailydoco.yaml"
    demand = plan.demand_of(yaml.safe_load(path.read_text()))
    assert demand.rate == pytest.approx(333_333 / 86_400 * 2.5)
    assert "assumed" in demand.source


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (None, "is missing"),
        ({"videos_day": -1, "day_peak": 2, "duration_s": 1, "turnaround_p95_s": 1, "source": "x"}, "videos_day"),
        ({"videos_day": 1, "day_peak": "2", "duration_s": 1, "turnaround_p95_s": 1, "source": "x"}, "day_peak"),
        ({"videos_day": 1, "day_peak": 2, "duration_s": 1, "turnaround_p95_s": 1}, "demand.source"),
    ],
)
def test_a_demand_that_is_none(row, said):
    with pytest.raises(SpecError, match=said):
        plan.demand_of({"demand": row})


@pytest.mark.parametrize("name", ["A100", "H100", "H200"])
def test_compute_gpus_do_not_encode(name):
    with pytest.raises(RefusedError, match="leaves NVENC out"):
        hardware.encoding(name)


def test_gpus_that_encode_have_their_source_and_engines_bound_them():
    assert hardware.encoding("L4").encoders == 2
    with pytest.raises(SpecError, match=r"unknown GPU 'L5'.*L40S"):
        hardware.encoding("L5")
    on_l4 = plan.on_engines(EVEN, hardware.encoding("L4"), speed=5.0, decode_share=0.3, source="a test")
    assert on_l4.mean_s == pytest.approx(1.0)
    assert on_l4.slowdown[:4] == (1.0, 1.0, 1.5, 2.0)
    assert on_l4.rate(2) == pytest.approx(2.0)
    decoding = plan.on_engines(EVEN, hardware.encoding("T4"), speed=5.0, decode_share=4.0, source="a test")
    assert decoding.rate(1) == pytest.approx(0.5), "two decoders for what takes four"


def test_a_row_without_a_source_is_refused(tmp_path):
    file = tmp_path / "hardware.yaml"
    file.write_text("gpus: {X1: {encoders: 1, decoders: 1, date: 2026-01-01}}")
    with pytest.raises(SpecError, match=r"gpus\.X1: lacks source"):
        hardware.gpus(file)


def result(rtf: float, kbps: float, psnr: float) -> dict:
    return {
        "levels": [{"jobs": 1, "offered_videos_s": 0.0, "rung_rtf": {"360p": {"n": 2, "mean": rtf}}}],
        "sources": ["clip"],
        "quality": [{"input": "clip", "rung": "360p", "kbps": kbps, "psnr_db": psnr}],
    }


def test_scores_are_above_one_where_the_new_one_is_better():
    (score,) = scores(result(0.5, 400, 40.0), result(1.0, 600, 38.0))
    assert (score.speed, score.bitrate, score.quality) == pytest.approx((2.0, 1.5, 40 / 38))
    other = result(1.0, 600, 38.0)
    other["sources"] = ["another clip"]
    with pytest.raises(SpecError, match="other inputs"):
        scores(result(0.5, 400, 40.0), other)
