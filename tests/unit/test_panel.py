"""Plots as geometry, and an encode workload's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.report.document_json import run_from_json, run_to_json
from controller.report.encode_chart import encode_panels
from controller.report.page import to_html
from controller.report.panel import Line, panel, steps
from controller.report.workload import WorkloadEntry
from tests.unit import report_sample

S = 1_000_000_000


def level(jobs: int, videos_s: float, p95: float, rate: float = 0.0) -> dict[str, Any]:
    row = {"n": 4, "mean": p95 / 2, "p50": p95 / 2, "p95": p95, "max": p95}
    return {
        "jobs": jobs,
        "offered_videos_s": rate,
        "videos_s": videos_s,
        "turnaround_s": row,
        "rung_rtf": {"360p": row},
    }


def detail(**more: Any) -> dict[str, Any]:
    return {
        "levels": [level(1, 0.5, 2.0), level(2, 0.9, 2.4), level(4, 1.0, 5.0)],
        "quality": [{"input": "clip", "rung": rung, "kbps": kbps, "xpsnr_db": db}
                    for rung, kbps, db in (("360p", 400, 36.0), ("720p", 1500, 41.0))],
        "timeline": {"at_ns": [S, 2 * S, 3 * S], "pictures_s": [50, 20, 50], "cpu_busy": [0.9, None, 0.8]},
        "no_gpu": "no GPU", "knee": None, **more,
    }  # fmt: skip


def run(**more: Any) -> Any:
    document = report_sample.run()
    agent = document.injections[0].effects[0].agent_id
    return replace(document, workloads=(WorkloadEntry("encode", agent, 0, "6 of 6 videos encoded", detail(**more)),))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.003), (0, 7.3), (30, 44), (0, 123_456)])
def test_ticks_are_round_and_neither_few_nor_many(low, high):
    found = steps(low, high)
    assert 3 <= len(found) <= 11
    assert low <= found[0]
    assert found[-1] <= high


def test_points_lie_within_and_names_not_over_each_other():
    made = panel(
        "t", "w", "x", "y", [Line("a", [(0, 1.0), (4, 3.0)]), Line("b", [(0, 1.0), (4, 3.01)])], limits=[(99, "far")]
    )
    assert made is not None
    for line in made.lines:
        assert all(made.left <= x <= made.right and made.top <= y <= made.axis_y for x, y in line.dots)
    assert abs(made.lines[0].at[1] - made.lines[1].at[1]) >= 12
    assert made.limits == (), "what lies far beyond is told, not drawn"
    assert panel("t", "w", "x", "y", [Line("a", [])]) is None


def test_an_encode_workload_is_drawn_load_by_load_and_over_time():
    titles = [one.title.partition(": ")[2] for one in encode_panels(run())]
    assert titles == [
        "throughput", "turnaround", "realtime factor by rendition", "rate and quality", "pictures over time",
        "utilisation over time",
    ]  # fmt: skip
    busy = encode_panels(run())[-1]
    assert "no GPU" in busy.words
    assert len(busy.lines[0].path.split("L")) == 2, "what was not measured is not drawn"


def test_the_knee_and_the_faults_are_marked():
    levels = [level(2, 0.1, 3.0, rate=0.1), level(2, 0.2, 9.0, rate=0.2)]
    document = run(levels=levels, knee={"rate": 0.1, "next": 0.2, "p95_max_s": 5.0})
    effect = replace(document.injections[0].effects[0], injected_wall_ns=2 * S, reverted_wall_ns=3 * S)
    document = replace(document, injections=(replace(document.injections[0], effects=(effect,)),))
    throughput, turnaround, *_, pictures, _ = encode_panels(document)
    assert [text for _, text in throughput.marks] == ["knee"]
    assert [text for _, text in turnaround.limits] == ["p95 of 5 s"]
    ((x, width, name),) = pictures.bands
    assert name == document.injections[0].name
    assert width == pytest.approx((pictures.right - pictures.left) / 2 / 1.02, rel=0.05)
    assert x > pictures.left


@pytest.mark.parametrize(
    "broken",
    [
        {"levels": []}, {"levels": None}, {"levels": [{}]}, {"timeline": {}}, {"quality": "x"}, {"knee": "x"},
        {"levels": [level(1, float("nan"), float("inf"))]}, {"levels": [level(1, -1.0, -2.0)]},
        {"timeline": {"at_ns": [1, 2], "pictures_s": [1], "cpu_busy": []}},
    ],
)  # fmt: skip
def test_what_an_agent_tells_wrongly_costs_no_report(broken):
    assert b"</html>" in to_html([run(**broken)], "t")


def test_it_is_in_the_page_and_reads_back():
    document = run()
    page = to_html([document], "t").decode()
    assert "What was encoded" in page
    assert "pictures over time" in page
    assert run_from_json(run_to_json(document)).workloads == document.workloads
