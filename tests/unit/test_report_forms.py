"""Reports as JSON and JUnit, the rows behind them, and the door to all forms."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from controller.report.document import RunDocument
from controller.report.document_json import from_json, run_from_json, run_to_json, to_json
from controller.report.junit import to_junit
from controller.report.render import FORMATS, render
from controller.report.summary import overall, rows
from protos.error import SpecError
from tests.unit.report_sample import (
    T0_NS,
    certified,
    cpu_run,
    effect,
    frozen_run,
    gameday,
    injection,
    outage,
    recovery,
    run,
    skipped_run,
    unproven_run,
)  # fmt: skip

# What the schema of Jenkins' xUnit plugin, GitLab and GitHub's readers have in common.
SUITE = {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname", "id", "package"}
CASE = {"name", "classname", "time"}
CASE_ORDER = ["skipped", "error", "failure", "system-out", "system-err"]


def test_json_reads_back_to_the_same_documents():
    documents = [run(), frozen_run(), cpu_run(), skipped_run()]
    assert from_json(to_json(documents, "Quickstart")) == ("Quickstart", documents)
    assert run_from_json(run_to_json(documents[1])) == documents[1]


def test_json_is_strict_even_where_nothing_was_measured():
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    content = to_json([unproven_run()], "x")
    written = json.loads(content, parse_constant=refuse)
    assert written["runs"][0]["probes"][1]["p99_ms"] == "NaN"
    assert json.loads(run_to_json(unproven_run()), parse_constant=refuse)["summary"]
    again = from_json(content)[1][0].probes[1]
    assert again.p99_ms != again.p99_ms


def test_json_carries_the_rows_and_the_whole():
    report = json.loads(to_json(gameday(), "Quickstart"))
    assert report["schema"] == "blackstart.report/1"
    assert report["overall"]["verdict"] == "deviated"
    assert report["runs"][0]["summary"][0]["recovery"] == "1.41 s [1.39, 1.43]"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"schema": "blackstart.report/1"}', b"\xff",
                                     b'{"schema": "blackstart.report/1", "runs": [{"id": 3}]}'])  # fmt: skip
def test_what_is_no_report_is_refused(content: bytes):
    with pytest.raises(SpecError, match="report"):
        from_json(content)


def test_rows_say_what_happened():
    made = [row for document in gameday() for row in rows(document)]
    assert [row.verdict for row in made] == ["held", "held", "deviated", "not tested", "inconclusive"]
    assert [row.receipt for row in made] == ["confirmed", "confirmed", "confirmed 2/2", "—", "no proof"]
    assert made[1].outage == "8.00 s [7.96, 8.04] in 2 spans"
    assert [row.rto for row in made] == ["60 s met", "60 s met", "15 s missed", "—", "60 s unproven"]
    assert made[0].provenance == "measured by probe segments (http, 50 Hz, 2,012 attempts) on observer-1"
    assert "needs root and nftables" in made[3].reasons[0]


def test_a_run_that_is_graver_than_its_rows_gets_a_row_of_its_own():
    document = run(verdict="deviated", reasons=("The steady state did not hold after the method.",))
    held, whole = rows(document)
    assert (held.verdict, whole.verdict) == ("held", "deviated")
    assert whole.fault == "whole run"
    assert whole.reasons == document.reasons


def test_a_pure_steady_state_check_has_a_row():
    (row,) = rows(run(injections=(), recoveries=()))
    assert (row.fault, row.verdict, row.residue) == ("steady state", "held", "—")


@pytest.mark.parametrize(
    ("changes", "residue", "verdict"),
    [
        ({}, "none", "held"),
        ({"residue_checked": False}, "not checked", "inconclusive"),
        ({"residue": ("worker-1: a rule",)}, "1 left", "inconclusive"),
        ({"injections": (injection(effects=(effect(T0_NS, state="stranded"),)),)}, "stranded", "inconclusive"),
        ({"injections": (injection(effects=(effect(T0_NS, residue=("a", "b")),)),)}, "2 left", "inconclusive"),
    ],
)
def test_none_is_said_of_residue_only_when_an_audit_found_none(changes: dict[str, object], residue: str, verdict: str):
    row = rows(run(**changes))[0]
    assert (row.residue, row.verdict) == (residue, verdict)


def test_an_outage_that_goes_on_is_not_given_a_length():
    lasting = replace(outage(T0_NS, 10), end_lo_wall_ns=0, end_hi_wall_ns=0)
    row = rows(run(recoveries=(recovery(outages=(lasting,), recovery=None, result="missed"),)))[0]
    assert (row.outage, row.recovery, row.verdict) == ("not over", "not recovered", "deviated")


def test_the_whole_is_the_worst_of_what_was_tested():
    assert overall([]).verdict == "not tested"
    assert overall([skipped_run()]).verdict == "not tested"
    assert overall([run(), skipped_run()]).words == "The system held (1 held, 1 not tested)."
    assert overall([run(), unproven_run()]).verdict == "inconclusive"
    assert overall([run(verdict="")]).verdict == "inconclusive"
    left = overall([run(residue=("worker-1: a rule",))])
    assert left.stranded
    assert "human" in left.words


def suites(documents: list[RunDocument]) -> ET.Element:
    return ET.fromstring(to_junit(documents, "Quickstart <&> \x00 gameday"))


def test_junit_keeps_to_what_every_reader_knows():
    root = suites(gameday())
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        assert set(suite.attrib) <= SUITE
        assert [child.tag for child in suite][:1] == ["properties"]
        cases = suite.findall("testcase")
        assert len(suite) == 1 + len(cases)
        assert cases
        assert all(set(case.attrib) == CASE for case in cases)
        tags = [[child.tag for child in case] for case in cases]
        assert tags == [sorted(found, key=CASE_ORDER.index) for found in tags]
        assert suite.get("tests") == str(len(cases))
        for count, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert suite.get(count) == str(len(suite.findall(f"testcase/{tag}")))
    assert [root.get(name) for name in ("failures", "errors", "skipped")] == ["2", "1", "1"]


def test_junit_shows_each_verdict_in_its_own_way():
    held, _, deviated, skipped, unproven = suites(gameday())
    assert {child.tag for case in held.findall("testcase") for child in case} == {"system-out"}
    failure = deviated.find("testcase/failure")
    assert failure is not None
    assert "past the objective of 15 s" in failure.get("message", "")
    assert skipped.find("testcase/skipped") is not None
    error = unproven.find("testcase/error")
    assert error is not None
    assert "no proof of effect" in error.get("message", "")


def test_junit_is_never_green_when_the_run_is_not():
    red = suites([run(verdict="deviated", reasons=("The engine reported a deviation.",))])
    assert red.get("failures") == "1"
    assert suites([run(verdict="")]).get("errors") == "1"


def test_junit_has_a_case_for_the_residue():
    def case(**changes):
        root = suites([run(**changes)])
        return next(found for found in root.iter("testcase") if found.get("name") == "zero residue")

    assert [child.tag for child in case()] == ["system-out"]
    assert "changed by others: worker-1: + routes" in case().findtext("system-out")
    assert "made no certificate" in case(certificates=()).find("skipped").get("message")
    left = case(certificates=(certified(ours=("+ tables: b_7",)),), verdict="inconclusive")
    assert "worker-1: + tables: b_7" in left.find("error").text


def test_json_says_it_too():
    (document,) = json.loads(to_json([run()], "t"))["runs"]
    assert document["zero_residue"]["certified"] is True
    assert document["certificates"][0]["checks"]["tables"] == 2


def test_junit_survives_any_text():
    hostile = run('</testsuite> "&<script>\x1b[31m \ud800', reasons=("\x00",))
    root = suites([hostile])
    assert "</testsuite>" in (root[0].get("name") or "")
    assert "\x1b" not in (root[0].get("name") or "")


@pytest.mark.parametrize(
    ("form", "media_type", "start"),
    [
        ("html", "text/html; charset=utf-8", b"<!DOCTYPE html>"),
        ("json", "application/json", b"{"),
        ("junit", "application/xml", b"<?xml"),
    ],
)
def test_the_door_knows_every_form(form: str, media_type: str, start: bytes):
    found, content = render(gameday(), "Quickstart", form)
    assert found == media_type
    assert content.lstrip().startswith(start)


def test_an_unknown_form_is_answered_with_the_known_ones():
    with pytest.raises(SpecError) as raised:
        render([], "x", "pdf")
    assert "'pdf'" in str(raised.value)
    assert all(form in str(raised.value) for form in FORMATS)
