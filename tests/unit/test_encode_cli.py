"""`blackstart encode`: a fleet and scores, from reports in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blackstart.cli.__main__ import run
from protos.error import Exit


def result(jobs: tuple[int, ...] = (1, 2), **more: Any) -> dict[str, Any]:
    levels = [
        {"jobs": count, "offered_videos_s": 0.0, "done": 20, "media_s": 4.0, "gpus": [], "rtf": {"n": 20},
         "service_s": {"n": 20, "mean": 2.0 * (1.0 if count == 1 else 1.05)},
         "service_quantiles_s": [1.8 + at * 0.004 for at in range(101)], "rung_rtf": {"720p": {"n": 20, "mean": 0.5}}}
        for count in jobs
    ]  # fmt: skip
    return {
        "levels": levels, "sources": ["clip"], "encoders": {"720p": {"encoder": "libx264", "refused": {}}},
        "quality": [{"input": "clip", "rung": "720p", "kbps": 1500.0, "psnr_db": 40.0}], **more,
    }  # fmt: skip


def report(path: Path, *agents: str, recoveries: tuple[float, ...] = (), **more: Any) -> str:
    rows = [{"kind": "encode", "agent_id": agent, "detail": result(**more)} for agent in agents]
    took = [{"recovery": {"value": value, "lo": value, "hi": value}} for value in recoveries]
    path.write_text(json.dumps({"schema": "x", "runs": [{"workloads": rows, "recoveries": took}]}))
    return str(path)


@pytest.fixture
def profile(tmp_path):
    path = tmp_path / "profile.yaml"
    path.write_text(
        "objectives: {}\n"
        "demand: {videos_day: 86400, day_peak: 2, duration_s: 8, turnaround_p95_s: 12, source: a test}\n"
    )
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = run(["encode", *arguments])
    seen = capsys.readouterr()
    return code, seen.out + seen.err


def test_a_fleet_is_modelled_and_names_what_from(tmp_path, profile, capsys):
    file = report(tmp_path / "run.json", "gpu-1")
    code, said = told(capsys, "project", "--measured", file, "--profile", profile, "--replications", "3")
    assert code == 0, said
    assert "nodes like the measured one: needed" in said
    assert "modelled, nothing of it measured on a fleet" in said
    assert "20 jobs measured (clip; stretched from 4 s to 8 s of video)" in said
    code, said = told(capsys, "project", "--measured", file, "--profile", profile, "--replications", "3", "--json")
    figures = {row["name"]: row for row in json.loads(said)}
    needed = figures["nodes like the measured one: needed"]
    assert 4 <= needed["value"] <= 8
    assert needed["provenance"]["kind"] == "modelled"
    assert figures["that most, and one that may be out"]["value"] > needed["value"]


def test_failures_take_measured_recoveries_and_an_assumed_rate(tmp_path, profile, capsys):
    file = report(tmp_path / "run.json", "gpu-1", recoveries=(30.0, 60.0))
    common = ["project", "--measured", file, "--profile", profile, "--replications", "2"]
    code, said = told(capsys, *common, "--mtbf-h", "1", "--mtbf-source", "a guess", "--recovery", file)
    assert code == 0, said
    assert "1 h: assumed (a guess)" in said
    assert "recovery: 2 measured" in said


def test_gpus_are_planned_for_only_with_what_was_measured_or_is_said_to_be_assumed(tmp_path, profile, capsys):
    common = ["project", "--measured", report(tmp_path / "run.json", "gpu-1"), "--profile", profile]
    code, said = told(capsys, *common, "--gpu", "H100")
    assert code == Exit.BAD_INPUT
    assert "leaves NVENC out" in said
    code, said = told(capsys, *common, "--gpu", "L4")
    assert code == Exit.BAD_INPUT
    assert "by libx264: not available: no GPU" in said
    more = ["--gpu", "L4", "--assume-speed", "8", "--assume-source", "a vendor's page", "--replications", "2"]
    code, said = told(capsys, *common, *more)
    assert code == 0, said
    assert "a vendor's page" in said
    assert "assumed" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--measured", "{two}"], "several agents encoded"),
        (["--measured", "{two}", "--agent", "nobody"], "holds no encode workload of nobody"),
        (["--measured", "{none}"], "holds no encode workload"),
        (["--measured", "{pair}"], "no closed level with one job"),
        (["--measured", "{one}", "--slots", "9"], "9 jobs at a time were not measured"),
        (["--measured", "{one}", "--mtbf-h", "3"], "--mtbf-source"),
        (["--measured", "{one}", "--mtbf-h", "3", "--mtbf-source", "x", "--recovery", "{one}"], "measured no recovery"),
        (["--measured", "{one}", "--gpu", "L5"], "unknown GPU"),
        (["--measured", "{one}", "--profile", "{bare}"], "demand: is missing"),
        (["--measured", "{other}"], "is no report of one run"),
        (["--measured", "/nope.json"], "is no file that can be read"),
        (["--measured", "{one}", "--gpu", "L4", "--assume-speed", "inf"], "--assume-speed"),
        (["--measured", "{one}", "--gpu", "L4", "--assume-speed", "5"], "--assume-source"),
    ],
)
def test_what_cannot_be_projected(tmp_path, profile, capsys, arguments, said):
    bare = tmp_path / "bare.yaml"
    bare.write_text("objectives: {}\n")
    other = tmp_path / "other.json"
    other.write_text("{}")
    files = {
        "one": report(tmp_path / "one.json", "a"), "two": report(tmp_path / "two.json", "a", "b"),
        "none": report(tmp_path / "none.json"), "pair": report(tmp_path / "pair.json", "a", jobs=(2, 4)),
        "bare": str(bare), "other": str(other),
    }  # fmt: skip
    common = [] if "--profile" in arguments else ["--profile", profile]
    code, seen = told(capsys, "project", *(one.format(**files) for one in arguments), *common)
    assert code == Exit.BAD_INPUT, seen
    assert said in seen


def test_scores_of_two_reports(tmp_path, capsys):
    one, other = report(tmp_path / "one.json", "a"), report(tmp_path / "other.json", "a")
    code, said = told(capsys, "score", one, other, "--json")
    assert code == 0, said
    (row,) = json.loads(said)
    assert (row["speed"], row["bitrate"], row["quality"]) == (1.0, 1.0, 1.0)
