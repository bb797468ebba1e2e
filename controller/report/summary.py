"""The rows of the final table and the verdict over all runs, as strings: made once, shown by page, JUnit and CLI alike.

Invariant: a row's verdict is drawn from the same findings as the run's. Where the run is graver than all of its rows (a
broken step, a deviated hypothesis), a row of its own says so: no table looks better than its runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from controller.finding import Finding, Verdict, worst
from controller.report import format as fmt
from controller.report.document import Interval
from controller.verdict import injection_findings, recovery_findings, stranded, uncertified

if TYPE_CHECKING:
    from collections.abc import Sequence

    from controller.report.document import InjectionEntry, OutageEntry, RecoveryEntry, RunDocument

NOT_TESTED: Final = "not tested"
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the final table; every field but *reasons* is ready to be shown."""

    name: str  # of the injection, or of the run where a row stands for the whole run
    fault: str
    target: str
    receipt: str
    outage: str
    recovery: str  # "1.42 s [1.40, 1.43]"
    rto: str  # "60 s met"
    verdict: str  # held, inconclusive, deviated, not tested
    residue: str
    provenance: str  # by what the recovery was measured
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overall:
    """All runs of a report together."""

    verdict: str  # held, inconclusive, deviated, not tested
    words: str  # one sentence
    held: int
    inconclusive: int
    deviated: int
    skipped: int
    stranded: bool


def rows(document: RunDocument) -> tuple[Row, ...]:
    """At least one row for every run."""
    if document.skipped:
        return (_bare(document, NOT_TESTED, (fmt.sentence(document.skipped),)),)
    pairs: list[tuple[InjectionEntry | None, RecoveryEntry | None]] = []
    names = {injection.name for injection in document.injections}
    for injection in document.injections:
        after = [recovery for recovery in document.recoveries if recovery.after == injection.name]
        pairs += [(injection, recovery) for recovery in after] or [(injection, None)]
    pairs += [(None, recovery) for recovery in document.recoveries if recovery.after not in names]
    made = tuple(_row(document, injection, recovery) for injection, recovery in pairs)
    verdict = verdict_of(document)
    if made and verdict <= worst(Verdict(row.verdict) for row in made):
        return made
    told = {reason for row in made for reason in row.reasons}
    left = tuple(reason for reason in document.reasons if reason not in told)
    return (*made, _bare(document, verdict.value, left))


def overall(documents: Sequence[RunDocument]) -> Overall:
    """The worst verdict of the runs that were made, with the number of those that were not."""
    tested = [document for document in documents if not document.skipped]
    verdicts = [verdict_of(document) for document in tested]
    counts = {verdict: verdicts.count(verdict) for verdict in Verdict}
    skipped = len(documents) - len(tested)
    left = any(stranded(document.injections, document.residue, document.certificates) for document in tested)
    parts = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]]
    parts += [f"{skipped} not tested"] if skipped else []
    tally = f" ({', '.join(parts)})" if len(documents) > 1 else ""
    if not tested:
        return Overall(NOT_TESTED, "Nothing was tested.", 0, 0, 0, skipped, stranded=False)
    verdict = worst(verdicts)
    words = {
        Verdict.HELD: "The system held",
        Verdict.INCONCLUSIVE: "Inconclusive: not everything could be proven",
        Verdict.DEVIATED: "The system deviated",
    }[verdict]
    tail = " Something was left behind: a human must clean up." if left else ""
    return Overall(
        verdict.value,
        f"{words}{tally}.{tail}",
        counts[Verdict.HELD],
        counts[Verdict.INCONCLUSIVE],
        counts[Verdict.DEVIATED],
        skipped,
        stranded=left,
    )


def verdict_of(document: RunDocument) -> Verdict:
    """The run's verdict; a run that has none yet is inconclusive."""
    return Verdict(document.verdict) if document.verdict in set(Verdict) else Verdict.INCONCLUSIVE


def outage_interval(outage: OutageEntry) -> Interval | None:
    """The length of *outage*, middle and bounds; None while it lasts."""
    if not outage.end_hi_wall_ns:
        return None
    lo = max(0, outage.end_lo_wall_ns - outage.start_hi_wall_ns) / _NS
    hi = (outage.end_hi_wall_ns - outage.start_lo_wall_ns) / _NS
    return Interval((lo + hi) / 2, lo, hi)


def provenance(document: RunDocument, recovery: RecoveryEntry) -> str:
    """By which probe, how often, where: the origin of a recovery time."""
    for probe in document.probes:
        if (probe.name, probe.agent_id) == (recovery.probe, recovery.agent_id):
            how = f"{probe.kind}, {fmt.rate(probe.interval_ms)}, {fmt.plural(probe.attempts, 'attempt')}"
            return f"measured by probe {probe.name} ({how}) on {probe.agent_id}"
    return f"measured by probe {recovery.probe} on {recovery.agent_id}"


def took(recovery: RecoveryEntry) -> str:
    """The recovery time with its bounds, or why there is none: it never came, or nobody could tell."""
    if recovery.recovery is not None:
        return fmt.interval(recovery.recovery)
    return "not measured" if recovery.result == "inconclusive" else "not recovered"


def _row(document: RunDocument, injection: InjectionEntry | None, recovery: RecoveryEntry | None) -> Row:
    findings: list[Finding] = []
    findings += injection_findings(injection) if injection else ()
    findings += recovery_findings(recovery) if recovery else ()
    residue = _residue(document, injection)
    unclean = injection is not None and residue != "none"
    verdict = worst([*(found.verdict for found in findings), Verdict.INCONCLUSIVE if unclean else Verdict.HELD])
    return Row(
        name=injection.name if injection else document.title,
        fault=injection.fault if injection else fmt.NONE,
        target=injection.targets if injection else (recovery.probe if recovery else fmt.NONE),
        receipt=_receipt(injection),
        outage=_outage(recovery),
        recovery=took(recovery) if recovery else fmt.NONE,
        rto=_rto(recovery),
        verdict=verdict.value,
        residue=residue,
        provenance=provenance(document, recovery) if recovery else "",
        reasons=tuple(found.sentence for found in findings if found.verdict is verdict),
    )


def _bare(document: RunDocument, verdict: str, reasons: tuple[str, ...]) -> Row:
    """The row of a run as a whole."""
    dash = fmt.NONE
    residue = dash if document.skipped else _residue(document, None)
    whole = "whole run" if document.injections or document.recoveries else "steady state"
    fault = dash if document.skipped else whole
    return Row(document.title, fault, dash, dash, dash, dash, dash, verdict, residue, "", reasons)


def _receipt(injection: InjectionEntry | None) -> str:
    if injection is None:
        return fmt.NONE
    if not injection.effects:
        return "no target"
    proven, total = sum(effect.confirmed for effect in injection.effects), len(injection.effects)
    if proven == total:
        return "confirmed" if total == 1 else f"confirmed {proven}/{total}"
    return "no proof" if not proven else f"proof {proven}/{total}"


def _outage(recovery: RecoveryEntry | None) -> str:
    if recovery is None:
        return fmt.NONE
    if not recovery.outages:
        return "none seen"
    lengths = [outage_interval(outage) for outage in recovery.outages]
    ended = [length for length in lengths if length is not None]
    if len(ended) < len(lengths):
        return "not over"
    total = Interval(sum(x.value for x in ended), sum(x.lo for x in ended), sum(x.hi for x in ended))
    return fmt.interval(total) + (f" in {len(ended)} spans" if len(ended) > 1 else "")


def _rto(recovery: RecoveryEntry | None) -> str:
    if recovery is None or recovery.rto_s is None:
        return "none" if recovery is not None else fmt.NONE
    finding = next(iter(recovery_findings(recovery)))
    word = {Verdict.HELD: "met", Verdict.INCONCLUSIVE: "unproven", Verdict.DEVIATED: "missed"}[finding.verdict]
    return f"{fmt.objective(recovery.rto_s)} {word}"


def _residue(document: RunDocument, injection: InjectionEntry | None) -> str:
    """Says `none` only where an audit looked: elsewhere what was found, or that nobody could look."""
    effects = injection.effects if injection else tuple(e for i in document.injections for e in i.effects)
    found = sum(len(effect.residue) for effect in effects)
    if injection is None or len(document.injections) == 1:
        found += len({*document.residue, *uncertified(document.certificates)})
    if found or any(effect.state == "stranded" for effect in effects):
        return f"{found} left" if found else "stranded"
    if document.injections and not document.residue_checked:
        return "not checked"
    return "none" if document.injections else fmt.NONE
