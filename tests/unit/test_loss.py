"""What a balance of records means: result, sentence, verdict, and its place in every report."""

from __future__ import annotations

import pytest

from controller.finding import Verdict
from controller.report import document_json, junit, page
from controller.report.document import LossEntry
from controller.run import measure
from controller.verdict import judge, loss_findings
from tests.unit.report_sample import run


def balance(**more):
    return {
        "probe": "ledger", "agent_id": "client", "sent": 120, "acknowledged": 100, "lost": 0, "lost_ranges": [],
        "lost_s": 0.0, "duplicated": 0, "unacknowledged_present": 3, "out_of_order": 0, "unknown": 15, "refused": 5,
        "members": {}, "complete": True, "note": "", "objective": "", "rpo_s": None, **more,
    }  # fmt: skip


def entry(**more):
    row = balance(**more)
    row["lost_ranges"] = tuple(map(tuple, row["lost_ranges"]))
    return LossEntry(**row, result=measure.loss_result(row, row["rpo_s"]))


LOST = {"lost": 17, "lost_ranges": [[40, 56]], "lost_s": 0.85}


@pytest.mark.parametrize(
    ("more", "result", "verdict"),
    [
        ({}, "met", Verdict.HELD),
        (LOST, "missed", Verdict.DEVIATED),
        (LOST | {"rpo_s": 0.0}, "missed", Verdict.DEVIATED),
        (LOST | {"rpo_s": 1.0}, "met", Verdict.HELD),
        ({"lost": 1, "lost_ranges": [[7, 7]], "lost_s": 0.0, "rpo_s": 0.0}, "missed", Verdict.DEVIATED),
        ({"acknowledged": 0}, "inconclusive", Verdict.INCONCLUSIVE),
        (LOST | {"rpo_s": 0.8}, "missed", Verdict.DEVIATED),
        ({"duplicated": 1}, "missed", Verdict.DEVIATED),
        ({"complete": False, "note": "away"}, "inconclusive", Verdict.INCONCLUSIVE),
    ],
)
def test_result_and_verdict(more, result, verdict):
    made = entry(**more)
    assert made.result == result
    (finding,) = loss_findings(made)
    assert finding.verdict is verdict


def test_sentences():
    assert measure.loss_sentence(balance(result="met")) == (
        "ledger on client: 0 of 100 acknowledged records lost: met (3 there and never acknowledged, "
        "15 never answered, 5 refused)"
    )
    (finding,) = loss_findings(entry(**LOST, rpo_s=0.0))
    assert finding.sentence == (
        "17 of 100 acknowledged records of ledger on client were lost within 0.850 s against an objective of 0 s."
    )


def test_a_loss_makes_a_run_deviate_and_a_ledger_alone_is_a_check():
    journal = {"status": "completed", "deviated": False, "experiment": {}, "run": [], "rollbacks": []}
    assert judge(outcome="completed", journal=journal, losses=[entry(**LOST)]).verdict is Verdict.DEVIATED
    assert judge(outcome="completed", journal=journal, losses=[entry()]).verdict is Verdict.HELD


def test_every_report_tells_it():
    from dataclasses import replace

    split = {"db2": {"present": 9, "only_there": 4, "only_there_ranges": [[1, 4]], "acknowledged_only_there": 2}}
    documents = [replace(run(), losses=(entry(**LOST, members=split), entry(complete=False, note="away <x>")))]
    html = page.to_html(documents, "t").decode()
    assert "40 to 56" in html
    assert "db2 alone has 4 records, 2 of them acknowledged" in html
    assert "not known: away &lt;x&gt;" in html
    xml = junit.to_junit(documents, "t").decode()
    assert 'name="data loss: ledger on client"' in xml
    assert document_json.from_json(document_json.to_json(documents, "t"))[1] == documents
