"""Reports as JUnit XML: a suite a run; a test case a row of its table, an evaluation of its hypothesis, its residue.

Invariant: a suite is green only when its run held. Deviated is a `<failure>` (the system under test failed),
inconclusive an `<error>` (the test itself could not tell; CI systems show both as red), not tested is `<skipped>`.
Elements and attributes keep to what Jenkins, GitLab and GitHub read in common.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from controller.finding import Verdict
from controller.report import format as fmt
from controller.report.certificate import certificate
from controller.report.summary import Row, rows
from controller.verdict import cascade_findings, goal_finding, hypothesis_finding, loss_findings, share_findings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.report.document import CascadeEntry, LossEntry, RunDocument, ShareEntry
    from controller.report.goal import GoalEntry

_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NS: Final = 1_000_000_000


def to_junit(documents: Sequence[RunDocument], title: str) -> bytes:
    """The report as one `<testsuites>` document, UTF-8."""
    root = ET.Element("testsuites", name=_clean(title))
    for document in documents:
        root.append(_suite(document))
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in root):.3f}")
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _suite(document: RunDocument) -> ET.Element:
    seconds = max(0, document.ended_wall_ns - document.started_wall_ns) / _NS
    suite = ET.Element("testsuite", name=_clean(document.title), timestamp=fmt.iso(document.started_wall_ns))
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("run", document.id),
        ("source", document.source),
        ("actor", document.actor),
        ("seed", str(document.seed)),
        ("verdict", document.verdict or "not tested"),
        ("outcome", document.outcome),
    ):
        ET.SubElement(properties, "property", name=name, value=_clean(value))
    cases = [_case(document, row) for row in rows(document)]
    for entry in document.hypotheses:
        finding = hypothesis_finding(entry)
        case = _element(document, f"steady state {entry.when} the method", 0.0)
        _result(case, finding.verdict.value, (finding.sentence,))
        cases.append(case)
    cases += [_loss_case(document, loss) for loss in document.losses]
    cases += [_share_case(document, share) for share in document.shares if share.result != "not tested"]
    cases += [_cascade_case(document, cascade) for cascade in document.cascades if cascade.order]
    cases += [_goal_case(document, goal) for goal in document.goals]
    if document.injections and not document.skipped:
        cases.append(_residue_case(document))
    suite.extend(cases)
    suite.set("tests", str(len(cases)))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("time", f"{seconds:.3f}")
    return suite


def _case(document: RunDocument, row: Row) -> ET.Element:
    recovered = [entry.recovery for entry in document.recoveries if entry.after == row.name and entry.recovery]
    case = _element(document, _case_name(row), max((took.value for took in recovered), default=0.0))
    _result(case, row.verdict, row.reasons)
    lines = (
        ("target", row.target), ("receipt", row.receipt), ("outage", row.outage), ("recovery", row.recovery),
        ("RTO", row.rto), ("residue", row.residue), ("provenance", row.provenance),
    )  # fmt: skip
    text = "\n".join(f"{name}: {value}" for name, value in lines if value and value != fmt.NONE)
    if text:
        ET.SubElement(case, "system-out").text = _clean(text)
    return case


def _loss_case(document: RunDocument, loss: LossEntry) -> ET.Element:
    """Red when acknowledged records are lost beyond the objective, or there twice."""
    case = _element(document, f"data loss: {loss.probe} on {loss.agent_id}", loss.lost_s)
    (finding,) = loss_findings(loss)
    _result(case, finding.verdict.value, (finding.sentence,))
    ET.SubElement(case, "system-out").text = _clean(finding.sentence)
    return case


def _share_case(document: RunDocument, share: ShareEntry) -> ET.Element:
    """Red when the share of good attempts is beyond its objective."""
    after = f" after {share.after}" if share.after else ""
    case = _element(document, f"{share.kind}: {share.probe} on {share.agent_id}{after}", share.span_s)
    (finding,) = share_findings(share)
    _result(case, finding.verdict.value, (finding.sentence,))
    ET.SubElement(case, "system-out").text = _clean(finding.sentence)
    return case


def _cascade_case(document: RunDocument, cascade: CascadeEntry) -> ET.Element:
    """Red when a failure did not spread in the order that was expected."""
    case = _element(document, f"order of failure after {cascade.after}", 0.0)
    (finding,) = cascade_findings(cascade)
    _result(case, finding.verdict.value, (finding.sentence,))
    ET.SubElement(case, "system-out").text = _clean(finding.sentence)
    return case


def _goal_case(document: RunDocument, goal: GoalEntry) -> ET.Element:
    """Red when a workload missed its objective."""
    case = _element(document, f"{goal.workload} on {goal.agent_id}: {goal.name}", goal.lo if goal.unit == "s" else 0.0)
    _result(case, goal_finding(goal).verdict.value, (goal.sentence(),))
    ET.SubElement(case, "system-out").text = _clean(goal.sentence())
    return case


def _residue_case(document: RunDocument) -> ET.Element:
    """Red when something was left, skipped when no node was compared, green when all were and are clean."""
    found = certificate(document)
    case = _element(document, "zero residue", 0.0)
    if not found.clean:
        _result(case, Verdict.INCONCLUSIVE.value, (found.words, *found.left))
    elif not found.certified:
        _result(case, "not tested", (found.words,))
    told = [found.words, *(f"changed by others: {text}" for text in found.others)]
    ET.SubElement(case, "system-out").text = _clean("\n".join(told))
    return case


def _case_name(row: Row) -> str:
    return row.name if row.fault == fmt.NONE else f"{row.name}: {row.fault}"


def _element(document: RunDocument, name: str, seconds: float) -> ET.Element:
    # A dot separates packages from classes in every reader: one in a title would split it.
    classname = "blackstart." + _clean(document.title).replace(".", "_")
    return ET.Element("testcase", classname=classname, name=_clean(name), time=f"{seconds:.3f}")


def _result(case: ET.Element, verdict: str, reasons: Sequence[str]) -> None:
    if verdict == Verdict.HELD.value:
        return
    tag = {"deviated": "failure", "inconclusive": "error"}.get(verdict, "skipped")
    told = [_clean(reason) for reason in reasons] or [verdict]
    element = ET.SubElement(case, tag, message=told[0])
    if tag != "skipped":
        element.set("type", f"blackstart.{verdict}")
        element.text = "\n".join(told)


def _clean(text: str) -> str:
    """*text* without the characters that XML 1.0 cannot carry even when escaped."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
