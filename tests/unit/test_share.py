"""Shares of good attempts: interval, budget, result beside an objective, and their place in verdict and reports."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.probes.tally import tally
from controller.finding import Verdict
from controller.report import document_json, junit, page
from controller.report.document import Interval, PhasesEntry, PhaseStep, ShareEntry
from controller.run import counting, phasing
from controller.verdict import judge, share_findings
from protos.recovery import Attempts, Code
from protos.share import attempts_needed, budget_s, wilson
from tests.unit.report_sample import run


def test_wilson_is_the_published_interval():
    lo, hi = wilson(81, 263)  # the textbook example of Newcombe, 1998: 0.2553 to 0.3662
    assert (round(lo, 4), round(hi, 4)) == (0.2553, 0.3662)
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share(drawn):
    good, attempts = drawn
    lo, hi = wilson(good, attempts)
    assert 0 <= lo <= good / attempts <= hi <= 1


def test_attempts_needed_are_just_enough():
    needed = attempts_needed(0.999)
    assert 3_800 < needed < 3_850
    assert wilson(needed, needed)[0] >= 0.999 > wilson(needed - 2, needed - 2)[0]
    assert round(budget_s(0.999) / 60, 1) == 43.2


OK, BAD, VOID = Code.OK, Code.TIMEOUT, Code.ERROR


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([OK, OK, OK, OK], (4, 0, 0, 0)),
        ([OK, BAD, BAD, OK], (2, 2, 0, 1)),
        ([BAD, OK, BAD, VOID], (1, 2, 1, 2)),
        ([BAD, VOID, BAD, OK], (1, 2, 1, 1)),
    ],
)
def test_tally(codes, expected):
    due = [100 + 10 * k for k in range(4)]
    found = tally(Attempts(due, due, due, codes, 10), 0, 1_000)
    assert (found["good"], found["bad"], found["void"], found["spans"]) == expected
    assert (found["from_ns"], found["to_ns"]) == (100, 140)
    half = tally(Attempts(due, due, due, codes, 10), 110, 130)
    assert half["good"] + half["bad"] + half["void"] == 2


def share(**more):
    entry = {
        "kind": "capacity", "probe": "reads", "agent_id": "client", "after": "cut", "value": 0.8,
        "lo": 0.78, "hi": 0.82, "good": 80, "attempts": 100, "span_s": 5.0, "outage_s": None, "period": "",
        "note": "", "proven": True, "objective": "x",
        "at_least": 0.7, "at_most": None, **more,
    }  # fmt: skip
    return entry | {"result": counting.result(entry)}


UPTIME = {"kind": "uptime", "after": "", "period": "month", "month_s": 2592.0, "at_least": 0.999}


@pytest.mark.parametrize(
    ("more", "result", "verdict"),
    [
        ({}, "met", Verdict.HELD),
        ({"at_least": 0.8}, "inconclusive", Verdict.INCONCLUSIVE),
        ({"at_least": 0.9}, "missed", Verdict.DEVIATED),
        ({"proven": False}, "inconclusive", Verdict.INCONCLUSIVE),
        ({"at_least": None, "at_most": 0.0}, "missed", Verdict.DEVIATED),
        ({"at_least": None, "at_most": 0.0, "value": 0.0, "lo": 0.0, "hi": 0.0}, "met", Verdict.HELD),
        (UPTIME | {"outage_s": [3.0, 4.0]}, "met", Verdict.HELD),
        (UPTIME | {"outage_s": [2500.0, 2600.0]}, "inconclusive", Verdict.INCONCLUSIVE),
        (UPTIME | {"outage_s": [2593.0, 2600.0]}, "missed", Verdict.DEVIATED),
        (UPTIME | {"outage_s": [3.0, 4.0], "period": "run"}, "missed", Verdict.DEVIATED),
    ],
)
def test_result_and_verdict(more, result, verdict):
    entry = share(**more)
    assert entry["result"] == result
    assert counting.sentence(entry).count(result) == 1
    (finding,) = share_findings(made(entry))
    assert finding.verdict is verdict
    assert ("of a month" in finding.sentence) is (entry["period"] == "month")


def made(entry):
    kept = (
        "kind",
        "probe",
        "agent_id",
        "after",
        "good",
        "attempts",
        "span_s",
        "objective",
        "at_least",
        "at_most",
        "period",
    )
    interval = Interval(entry["value"], entry["lo"], entry["hi"])
    return ShareEntry(
        **{name: entry[name] for name in kept}, share=interval, result=entry["result"], note=entry["note"]
    )


def test_a_share_without_an_objective_is_no_check_and_one_that_is_missed_deviates():
    journal = {"status": "completed", "deviated": False, "experiment": {}, "run": [], "rollbacks": []}
    bare = made(share(at_least=None))
    assert judge(outcome="completed", journal=journal, shares=[bare]).verdict is Verdict.INCONCLUSIVE
    assert judge(outcome="completed", journal=journal, shares=[made(share())]).verdict is Verdict.HELD
    assert judge(outcome="completed", journal=journal, shares=[made(share(at_least=0.9))]).verdict is Verdict.DEVIATED


S = 1_000_000_000
MARKS = [
    {"mark": "detect", "path": "/l/1", "text": "gone", "lo_ns": 9 * S, "hi_ns": 9 * S},  # before the injection
    {"mark": "serve", "path": "/l/3", "text": "up", "lo_ns": 11 * S, "hi_ns": 11 * S},  # before the decision
    {"mark": "detect", "path": "/l/1", "text": "gone", "lo_ns": 12 * S, "hi_ns": 12 * S},
    {"mark": "detect", "path": "/l/2", "text": "gone", "lo_ns": 13 * S, "hi_ns": 13 * S},
    {"mark": "decide", "path": "/l/2", "text": "mine", "lo_ns": 14 * S, "hi_ns": 14 * S},
    {"mark": "serve", "path": "/l/3", "text": "up", "lo_ns": 15 * S, "hi_ns": 15 * S},
]
RECOVERED = {"recovered": True, "value_s": 5.5, "lo_s": 5.4, "hi_s": 5.6, "agent_id": "c", "probe": "w"}


def test_kubernetes_ready_is_a_phase_and_serving_is_what_comes_after():
    text = "3 of 3; 2026-01-01T00:00:15Z by the API server"
    row = {"mark": "ready", "path": "pods", "text": text, "api_time": "2026-01-01T00:00:15Z"}
    found = phasing.steps([row | {"lo_ns": 13 * S, "hi_ns": 13 * S}], 10 * S, 10 * S, ["ready"], RECOVERED)
    assert [(step["name"], step["took_s"], step["text"]) for step in found["steps"]] == [
        ("ready", 3.0, text), ("client", 2.5, "first good attempt"),
    ]  # fmt: skip


def test_phases_follow_each_other_and_what_is_not_told_is_said():
    found = phasing.steps(MARKS, 10 * S, 10 * S, ["detect", "decide", "act", "serve"], RECOVERED)
    assert [(step["name"], step["took_s"]) for step in found["steps"]] == [
        ("detect", 2.0), ("decide", 2.0), ("serve", 1.0), ("client", 0.5),
    ]  # fmt: skip
    assert found["missing"] == ["act"]
    words = phasing.sentence(found | {"probe": "w", "after": "kill"})
    assert words == ("w after kill: detect 2.00 s + decide 2.00 s + serve 1.00 s + client 0.50 s; nothing told of act")
    assert sum(step["took_s"] for step in found["steps"]) == RECOVERED["value_s"]


def test_a_mark_after_the_recovery_is_no_part_of_it():
    late = [*MARKS[:-1], MARKS[-1] | {"lo_ns": 17 * S, "hi_ns": 17 * S}]
    found = phasing.steps(late, 10 * S, 10 * S, ["detect", "decide", "serve"], RECOVERED)
    assert found["missing"] == ["serve"]
    within = [*MARKS[:-1], MARKS[-1] | {"lo_ns": int(15.45 * S), "hi_ns": int(15.75 * S)}]
    found = phasing.steps(within, 10 * S, 10 * S, ["detect", "decide", "serve"], RECOVERED)
    assert all(step["took_s"] >= 0 for step in found["steps"]), "a phase never takes less than nothing"
    assert sum(step["took_s"] for step in found["steps"]) == RECOVERED["value_s"]


def test_nothing_is_made_up_where_nothing_recovered():
    found = phasing.steps([], 10 * S, 10 * S, ["detect"], {"recovered": False})
    assert found == {"steps": [], "missing": ["detect"], "note": ""}


def test_every_report_tells_it():
    step = PhaseStep("detect", Interval(2.0, 1.9, 2.1), 2.0, "rack", "/l/<1>", "gone")
    documents = [
        replace(run(), shares=(made(share()),), phases=(PhasesEntry("w", "c", "kill", (step,), ("act",), ""),))
    ]
    html = page.to_html(documents, "t").decode()
    assert "goodput while cut was in force" in html
    assert "/l/&lt;1&gt;" in html
    assert "Nothing told of act" in html
    assert 'name="capacity: reads on client after cut"' in junit.to_junit(documents, "t").decode()
    assert document_json.from_json(document_json.to_json(documents, "t"))[1] == documents
