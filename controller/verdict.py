"""The verdict on a run: held, inconclusive or deviated, and why, a sentence each.

Invariant: the verdict is the worst of independent findings, each drawn from one part of the evidence, so that a bad
part can never improve it. A fault without proof of effect is inconclusive, never held; so is a run in which nothing
was checked. Pure functions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from controller.finding import Finding, Verdict, worst
from controller.report import format as fmt
from controller.report.engine_journal import EngineJournal, read_journal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from controller.report.document import (
        CascadeEntry,
        CertificateEntry,
        EffectEntry,
        HypothesisEntry,
        InjectionEntry,
        Interval,
        LossEntry,
        RecoveryEntry,
        ShareEntry,
    )
    from controller.report.goal import GoalEntry


class Judgement(NamedTuple):
    """The verdict with its reasons, the gravest first."""

    verdict: Verdict
    reasons: tuple[str, ...]


def judge(
    *,
    outcome: str,
    journal: Mapping[str, Any] | None,
    injections: Sequence[InjectionEntry] = (),
    recoveries: Sequence[RecoveryEntry] = (),
    losses: Sequence[LossEntry] = (),
    shares: Sequence[ShareEntry] = (),
    cascades: Sequence[CascadeEntry] = (),
    goals: Sequence[GoalEntry] = (),
    residue: Sequence[str] = (),
    residue_checked: bool = False,
    certificates: Sequence[CertificateEntry] = (),
) -> Judgement:
    """The verdict on one run.

    Args:
        outcome: completed, aborted, failed or lost.
        journal: Chaos Toolkit's; None when the engine delivered none.
        injections: every call of `inject` that was admitted.
        recoveries: every recovery that was measured.
        losses: every ledger that was read back.
        shares: every share of good attempts that was counted.
        cascades: every order of failures that was looked at.
        goals: every objective that a workload was held against.
        residue: what the audit found left behind, over all agents.
        residue_checked: whether the audit could be made on every agent that the run touched.
        certificates: of the agents' nodes, before and after.
    """
    engine = read_journal(journal) if journal is not None else None
    findings = [
        *outcome_findings(outcome, engine),
        *(found for injection in injections for found in injection_findings(injection)),
        *(found for recovery in recoveries for found in recovery_findings(recovery)),
        *(found for loss in losses for found in loss_findings(loss)),
        *(found for share in shares for found in share_findings(share)),
        *(found for cascade in cascades for found in cascade_findings(cascade)),
        *(goal_finding(goal) for goal in goals),
        *residue_findings(injections, [*residue, *uncertified(certificates)], residue_checked=residue_checked),
    ]
    if engine is not None:
        findings += _engine_findings(engine, faulted=bool(injections))
    if (
        not _checked(engine, recoveries)
        and not losses
        and not goals
        and all(share.result == "not tested" for share in shares)
    ):
        findings.append(
            Finding(
                Verdict.INCONCLUSIVE, "Nothing was checked: no hypothesis was declared and no recovery was measured."
            )
        )
    verdict = worst(finding.verdict for finding in findings)
    grave = sorted((found for found in findings if found.verdict > Verdict.HELD), key=lambda f: -f.verdict.severity)
    told = grave or [*findings, *_clean(injections)]
    return Judgement(verdict, tuple(dict.fromkeys(finding.sentence for finding in told)))


def stranded(
    injections: Iterable[InjectionEntry], residue: Sequence[str], certificates: Sequence[CertificateEntry] = ()
) -> bool:
    """Whether a human must clean up: something was left behind, or an effect could not be reverted."""
    effects = (effect for injection in injections for effect in injection.effects)
    left = bool(residue) or bool(uncertified(certificates))
    return left or any(effect.state == "stranded" or effect.residue for effect in effects)


def uncertified(certificates: Iterable[CertificateEntry]) -> list[str]:
    """What the certificates say was left by us and has not been cleared since."""
    return [f"{one.agent_id}: {text}" for one in certificates if not one.cleared for text in one.ours]


def injection_findings(injection: InjectionEntry) -> Iterator[Finding]:
    """One finding for each effect without proof; none when every effect has its receipt."""
    if not injection.effects:
        yield _open(f"{injection.name} ({injection.fault}) reached no target")
    for effect in injection.effects:
        subject = f"{injection.name} ({injection.fault}) on {effect.agent_id}"
        if effect.state == "injected" and effect.undo != "self_healing":
            yield _open(f"{effect.description} on {effect.agent_id}: its end was not seen.")
        if not effect.confirmed:
            yield _open(f"{subject} has no proof of effect{_why(effect)}")
        elif effect.state == "failed":
            yield _open(f"{subject} failed{_why(effect)}")


def recovery_findings(recovery: RecoveryEntry) -> Iterator[Finding]:
    """Exactly one finding. The bounds are set against the objective here too, whatever `result` says."""
    subject = f"{recovery.probe} on {recovery.agent_id}"
    after = f" after {recovery.after}" if recovery.after else ""
    note = f": {recovery.note}" if recovery.note else ""
    if recovery.result == "inconclusive":
        yield _open(f"The recovery of {subject}{after} could not be measured well enough{note}")
    elif recovery.recovery is None:
        yield Finding(Verdict.DEVIATED, fmt.sentence(f"{subject} did not recover{after} while it was watched{note}"))
    else:
        yield _timed_finding(recovery, recovery.recovery, f"{subject} recovered", after, note)


def loss_findings(loss: LossEntry) -> Iterator[Finding]:
    """Exactly one finding: what was acknowledged is there, or not, or nobody could tell."""
    subject = f"{loss.probe} on {loss.agent_id}"
    if not loss.complete or loss.result == "inconclusive":
        nothing = loss.complete and not loss.acknowledged
        why = "no record was acknowledged" if nothing else loss.note
        yield _open(f"What {subject} wrote could not be {'counted' if nothing else 'read back'}: {why}")
        return
    parts = [f"{loss.lost} of {loss.acknowledged} acknowledged records of {subject} were lost"]
    parts += [f"within {loss.lost_s:.3f} s"] if loss.lost else []
    parts += [f"against an objective of {fmt.objective(loss.rpo_s)}"] if loss.rpo_s is not None else []
    parts += [f"and {loss.duplicated} are there twice"] if loss.duplicated else []
    verdict = Verdict.HELD if loss.result == "met" else Verdict.DEVIATED
    yield Finding(verdict, fmt.sentence(" ".join(parts)))


def _timed_finding(recovery: RecoveryEntry, took: Interval, subject: str, after: str, note: str) -> Finding:
    rto_s = recovery.rto_s
    text = f"{subject} in {fmt.interval(took)}{after}"
    limit = f"the objective of {fmt.objective(rto_s)}" if rto_s is not None else "its objective"
    if not (math.isfinite(took.lo) and math.isfinite(took.hi) and took.lo <= took.hi):
        return _open(f"{subject}, but the bounds of the time are not known{after}{note}")
    if recovery.result == "missed" or (rto_s is not None and took.lo > rto_s):
        return Finding(Verdict.DEVIATED, fmt.sentence(f"{text}, past {limit}{note}"))
    if rto_s is not None and took.hi > rto_s:
        return _open(f"{text}, and {limit} lies between these bounds{note}")
    if recovery.result not in ("met", "not tested"):
        return _open(f"{text}, with the unknown result '{recovery.result}'{note}")
    within = f"within {limit}" if rto_s is not None else "without an objective"
    return Finding(Verdict.HELD, fmt.sentence(f"{text}, {within}{note}"))


def residue_findings(
    injections: Sequence[InjectionEntry], residue: Sequence[str], *, residue_checked: bool
) -> Iterator[Finding]:
    """Residue is Blackstart's own failure, not the system's: inconclusive, and the run is stranded."""
    for injection in injections:
        for effect in injection.effects:
            if effect.state == "stranded":
                yield _open(f"{injection.name} on {effect.agent_id} could not be reverted: {effect.description}")
    left = dict.fromkeys([*residue, *(text for i in injections for e in i.effects for text in e.residue)])
    for text in left:
        yield _open(f"Residue was left behind: {text}")
    if injections and not residue_checked:
        yield _open("The audit for residue could not be made on every agent")


def share_findings(share: ShareEntry) -> Iterator[Finding]:
    """What a share of good attempts says beside its objective; without one it is a figure, and no finding."""
    if share.result == "not tested":
        return
    subject = f"{share.probe} on {share.agent_id}"
    subject += f" while {share.after} was in force" if share.after else ""
    word = "goodput of that before" if share.kind == "capacity" else "available in this run"
    bound = f"at least {share.at_least:.2%}" if share.at_most is None else f"at most {share.at_most:.2%}"
    if share.period == "month":
        bound += " of a month, of which this run spends its outages only"
    text = (
        f"{subject}: {share.share.value:.2%} [{share.share.lo:.2%}, {share.share.hi:.2%}] {word}, objective {bound}"
        f"{'; ' + share.note if share.note else ''}"
    )
    verdict = {"met": Verdict.HELD, "missed": Verdict.DEVIATED}.get(share.result, Verdict.INCONCLUSIVE)
    yield Finding(verdict, fmt.sentence(text))


def goal_finding(goal: GoalEntry) -> Finding:
    """What a workload's figure says beside its objective."""
    verdict = {"met": Verdict.HELD, "missed": Verdict.DEVIATED}.get(goal.result, Verdict.INCONCLUSIVE)
    return Finding(verdict, goal.sentence())


def cascade_findings(cascade: CascadeEntry) -> Iterator[Finding]:
    """Whether a failure spread in the order that was expected; without one it is a record, and no finding."""
    if not cascade.order:
        return
    expected = ", then ".join(" and ".join(group) for group in cascade.order)
    verdict = {"met": Verdict.HELD, "missed": Verdict.DEVIATED}.get(cascade.result, Verdict.INCONCLUSIVE)
    note = f": {cascade.note}" if cascade.note else ""
    word = "failed" if verdict is Verdict.HELD else "were expected to fail"
    yield Finding(verdict, fmt.sentence(f"After {cascade.after}, {expected} {word} in this order{note}"))


def outcome_findings(outcome: str, engine: EngineJournal | None) -> Iterator[Finding]:
    """What kept the run from its end."""
    said = {
        "aborted": "The run was aborted before its end.",
        "failed": "The run broke before its end.",
        "refused": "The run was refused before anything was injected.",
        "lost": "The run was lost: its runner or the controller died.",
    }
    if outcome != "completed":
        yield Finding(Verdict.INCONCLUSIVE, said.get(outcome, f"The run ended with the unknown outcome '{outcome}'."))
    elif engine is None:
        yield Finding(Verdict.INCONCLUSIVE, "The engine delivered no journal of the run.")


def hypothesis_finding(entry: HypothesisEntry) -> Finding:
    """What one evaluation of the steady-state hypothesis says."""
    moment = {"before": "before the method", "during": "during the method", "after": "after the method"}[entry.when]
    if entry.result == "held":
        return Finding(Verdict.HELD, f"The steady state held {moment}.")
    if entry.result == "deviated":
        return Finding(Verdict.DEVIATED, fmt.sentence(f"The steady state did not hold {moment}: {entry.detail}"))
    if entry.when == "before":
        return _open(f"The steady state was not established before the method, so nothing was tested: {entry.detail}")
    return _open(f"The steady state could not be checked {moment}: {entry.detail}")


def _engine_findings(engine: EngineJournal, *, faulted: bool) -> Iterator[Finding]:
    """The journal, activity by activity: its own status is believed only where it is bad."""
    for entry in engine.hypotheses:
        yield hypothesis_finding(entry)
    results = {entry.when: entry.result for entry in engine.hypotheses}
    stopped = results.get("before", "held") != "held"
    if engine.hypothesis and not results:
        yield _open("The steady-state hypothesis was never evaluated")
    elif engine.hypothesis and faulted and not stopped and not results.keys() & {"during", "after"}:
        yield _open("The steady-state hypothesis was not evaluated after the faults")
    for step in engine.steps:
        kind = "Rollback" if step.kind == "rollback" else "Step"
        if step.status == "failed":
            yield _open(f"{kind} '{step.name}' failed: {step.detail}")
        elif step.status != "succeeded":
            yield _open(f"{kind} '{step.name}' did not finish")
    ran = sum(step.kind != "rollback" for step in engine.steps)
    if ran < engine.steps_declared and not stopped:
        yield _open(f"Only {ran} of {engine.steps_declared} steps of the method ran")
    if engine.deviated and results.get("after", "held") == "held":
        yield Finding(Verdict.DEVIATED, "The engine reported a deviation from the steady state.")
    if engine.status != "completed" and not stopped and results.get("after", "held") == "held":
        yield _open(f"The engine ended with the status '{engine.status or 'unknown'}'")


def _checked(engine: EngineJournal | None, recoveries: Sequence[RecoveryEntry]) -> bool:
    return bool(recoveries) or (engine is not None and bool(engine.hypothesis))


def _clean(injections: Sequence[InjectionEntry]) -> Iterator[Finding]:
    """What else stands behind a verdict of held."""
    effects = sum(len(injection.effects) for injection in injections)
    if effects:
        text = f"{fmt.plural(effects, 'effect')} confirmed by receipt, no residue left."
        yield Finding(Verdict.HELD, text)


def _why(effect: EffectEntry) -> str:
    return f": {effect.receipt}" if effect.receipt else ""


def _open(text: str) -> Finding:
    return Finding(Verdict.INCONCLUSIVE, fmt.sentence(text))
