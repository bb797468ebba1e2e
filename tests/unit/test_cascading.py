"""The order in which a failure spreads: what bounds decide, and what they leave open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackstart.cli.validate import problems_of
from controller.finding import Verdict
from controller.fleet import EXACT
from controller.report.document import CascadeEntry, CascadeStep, Interval
from controller.report.junit import to_junit
from controller.report.page import to_html
from controller.run import cascading
from controller.run.active import Injection
from controller.run.lint import Allowed, lint
from controller.verdict import cascade_findings, judge
from protos.error import SpecError
from protos.reference import order_problem
from tests.unit.report_sample import run

S = 1_000_000_000


def step(lo_ns: int, hi_ns: int, *, failed: bool = True, before: bool = False) -> dict:
    return {"lo_ns": lo_ns, "hi_ns": hi_ns, "failed": failed, "before": before}


@pytest.mark.parametrize(
    ("encode", "result", "note"),
    [
        (step(30, 40), "met", ""),
        (step(15, 40), "inconclusive", "database and encode cannot be told apart"),
        (step(1, 9), "missed", "encode failed before database"),
        (step(0, 0, failed=False), "inconclusive", "encode was not seen to fail"),
        (step(30, 40, before=True), "inconclusive", "encode was failing before the fault"),
    ],
)
def test_what_bounds_say_of_an_expected_order(encode, result, note):
    steps = {"database": step(10, 20), "encode": encode}
    assert cascading.judged(steps, [["database"], ["encode"]]) == (result, note)


def test_what_may_fail_together_is_not_compared():
    steps = {"database": step(10, 20), "api": step(12, 25), "encode": step(30, 40)}
    assert cascading.judged(steps, [["database", "api"], ["encode"]])[0] == "met"
    assert cascading.judged(steps, [["database"], ["api"], ["encode"]])[0] == "inconclusive"


@given(st.permutations([0, 1, 2, 3]))
def test_only_the_true_order_of_separate_spans_is_met(order):
    names = "abcd"
    steps = {names[k]: step(10 * place, 10 * place + 5) for k, place in enumerate(order)}
    result, _ = cascading.judged(steps, [[name] for name in names])
    assert (result == "met") == (list(order) == sorted(order))


@pytest.mark.parametrize(
    ("probes", "order", "what"),
    [
        (["a", "b"], "database", "not a list"), (["a", "b"], [["a"], 3], "not a list"), (["a", "b"], [], "not a list"),
        (["a", "b"], [[]], "not a list"), (["a", "b"], {}, "not a list"), (["a", "b"], ["a", "x"], "names x"),
        (["a", "b"], ["a", ["a", "b"]], "twice"), (["a", "a"], None, "twice"), (["a"], None, "at least two"),
        ("database", None, "at least two"), ([["a"], "b"], None, "at least two"), (None, None, "at least two"),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_told(probes, order, what):
    assert what in order_problem(probes, order)
    document = {"title": "x", "method": [{"type": "probe", "name": "x", "provider": {
        "type": "python", "module": "blackstart.chaos", "func": "cascade",
        "arguments": {"probes": probes, "order": order},
    }}]}  # fmt: skip
    with pytest.raises(SpecError, match=what):
        lint(document, Allowed())


class Reach:
    """A fleet on one kernel."""

    class fleet:  # noqa: N801 - an attribute
        member = staticmethod(lambda name: SimpleNamespace(id=name))
        translation = staticmethod(lambda *_: EXACT)


def row(probe: str, *outages: tuple[float, float, float, float], agent: str = "a", recovered: bool = True) -> dict:
    names = ("start_lo_ns", "start_hi_ns", "end_lo_ns", "end_hi_ns")
    spans = [{name: round(at * S) for name, at in zip(names, outage, strict=True)} for outage in outages]
    return {"probe": probe, "agent_id": agent, "outages": spans, "recovered": recovered}


def cascade(rows: list[dict], order: list, reverted_s: float | None = None) -> dict:
    ended = {} if reverted_s is None else {"reverted_ns": round(reverted_s * S)}
    effect = {"agent_id": "a", "id": "e", "state": "injected", "confirmed": True, "undo": "kernel", **ended,
              "injected_lo_ns": 100 * S, "injected_hi_ns": 100 * S + 1}  # fmt: skip
    injection = Injection("kill", "process.kill", "a", ["a"], [effect])
    probes = list(dict.fromkeys(one["probe"] for one in rows))
    return cascading.cascade(Reach, rows, injection, probes, order)


DATABASE = row("db", (99.98, 100.02, 105.0, 105.1))


def test_an_outage_of_the_revert_or_of_before_is_no_part_of_it():
    late = row("enc", (130.0, 130.1, 131.0, 131.1))
    assert cascade([DATABASE, late], ["db", "enc"], reverted_s=129.9)["result"] == "inconclusive"
    assert cascade([DATABASE, late], ["db", "enc"])["result"] == "met", "the fault is in force all the time"
    earlier = row("db", (80.0, 80.1, 105.0, 105.1))
    found = cascade([earlier, row("enc", (102.0, 102.1, 106.0, 106.1))], ["db", "enc"])
    assert (found["result"], found["note"]) == (
        "inconclusive", "db was failing before the fault; db was not seen to fail"
    )  # fmt: skip


def test_of_several_agents_the_first_may_be_any():
    enc = [row("enc", (100.0, 101.0, 105.0, 105.1)), row("enc", (100.5, 100.6, 106.0, 106.1), agent="b")]
    found = cascade([row("x", (100.45, 100.48, 105.0, 105.1)), *enc], ["x", "enc"])
    assert found["result"] == "inconclusive", "on the one it may have failed at once"
    (step,) = [step for step in found["steps"] if step["probe"] == "enc"]
    assert (step["lo_ns"], step["hi_ns"]) == (100 * S, round(100.6 * S))
    assert round(step["end_hi_s"], 1) == 6.1
    enc[1]["recovered"] = False
    assert cascade([DATABASE, *enc], [])["steps"][1]["end_hi_s"] is None


def test_without_its_recovery_there_is_nothing_to_compare():
    effect = {"agent_id": "a", "id": "e", "state": "injected", "injected_lo_ns": 1, "injected_hi_ns": 2}
    with pytest.raises(SpecError, match="recovery of enc after kill first"):
        cascading.cascade(Reach, [DATABASE], Injection("kill", "x", "a", ["a"], [effect]), ["db", "enc"], None)


def entry(result: str = "met", order: tuple = (("database",), ("encode",))) -> CascadeEntry:
    steps = (
        CascadeStep("database", "client", Interval(0.02, 0.0, 0.05), Interval(5.1, 5.0, 5.2)),
        CascadeStep("encode", "client", Interval(2.0, 1.9, 2.1), None),
        CascadeStep("page", "client", None, None),
    )
    return CascadeEntry("kill", steps, order, result, "encode and page cannot be told apart" if result != "met" else "")


@pytest.mark.parametrize(
    ("result", "verdict"),
    [("met", Verdict.HELD), ("missed", Verdict.DEVIATED), ("inconclusive", Verdict.INCONCLUSIVE)],
)
def test_the_verdict(result, verdict):
    (finding,) = cascade_findings(entry(result))
    assert finding.verdict is verdict
    assert "database, then encode" in finding.sentence
    assert not list(cascade_findings(entry("not tested", ()))), "without an expectation it is a record"
    assert judge(outcome="completed", journal=None, cascades=[entry("missed")]).verdict is Verdict.DEVIATED


def test_every_report_tells_it():
    document = replace(run(), cascades=(entry("inconclusive"),))
    page = to_html([document], "x").decode()
    assert "What failed after kill, in order" in page
    assert "[1.9, 2.1]" in page
    assert "was not seen to fail" in page
    assert "order of failure after kill" in to_junit([document], "x").decode()


def test_validate_finds_an_order_or_a_name_that_makes_no_sense_without_a_controller(tmp_path):
    root = Path(__file__).parents[2]
    text = (root / "experiments" / "reliability" / "pipeline-database-killed.yaml").read_text()
    file = tmp_path / "x.yaml"
    file.write_text(text)
    assert not problems_of(file)
    for before, after, what in (
        ("order: [[database, videos], encode]", "order: [[database, videos], encod]", "order names encod"),
        ("order: [[database, videos], encode]", "order: database", "order is not a list"),
        ("{probe: encode, after", "{probe: encoded, after", "no probe of the name"),
        ("after: kill, order", "after: killed, order", "no injection of the name"),
    ):
        assert before in text
        file.write_text(text.replace(before, after))
        (problem,) = problems_of(file)
        assert what in problem.what
        assert "x.yaml:" in problem.where
