"""The zero-residue certificate of a run, in words: what page, JUnit, JSON and command line say alike.

Invariant: "certified" is said of an agent only where it compared its node before and after and found nothing of ours;
an audit of the effects alone, all that an older agent makes, is called that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.report import format as fmt
from controller.verdict import uncertified

if TYPE_CHECKING:
    from controller.report.document import RunDocument


@dataclass(frozen=True, slots=True)
class Certificate:
    """*words*: one line. *clean*: nothing is left, as far as somebody looked. *certified*: on every agent."""

    words: str
    clean: bool
    certified: bool
    left: tuple[str, ...] = ()  # a line a thing, with the command for a human where there is one
    others: tuple[str, ...] = ()  # changes on the nodes that are not ours


def certificate(document: RunDocument) -> Certificate:
    """What can be said of the run's residue."""
    effects = [effect for injection in document.injections for effect in injection.effects]
    others = tuple(f"{one.agent_id}: {text}" for one in document.certificates for text in one.others)
    if left := _left(document):
        words = f"{fmt.plural(len(left), 'trace')} left behind. A human must clean up."
        return Certificate(words, clean=False, certified=False, left=left, others=others)
    if not effects and not document.certificates:
        words = "No effect was injected, so there was nothing to audit."
        return Certificate(words, clean=True, certified=False)
    if document.injections and not document.residue_checked:
        words = "The audit could not be made on every agent: nothing is certified."
        return Certificate(words, clean=False, certified=False, others=others)
    given = [one for one in document.certificates if one.clean or one.cleared]
    bare = [one.agent_id for one in document.certificates if not one.given]
    cleared = sum(effect.was_stranded for effect in effects)
    after = f" {fmt.plural(cleared, 'effect')} could not be reverted at first and was cleared since." if cleared else ""
    if given and not bare:
        compared = sum(sum(one.checks.values()) for one in given)
        seen = f"; {compared:,} things compared before and after" if compared else ""
        words = f"zero residue: certified on {fmt.plural(len(given), 'agent')}{seen}.{after}"
        return Certificate(words, clean=True, certified=True, others=others)
    agents = sorted({effect.agent_id for effect in effects})
    audited = f"{fmt.plural(len(effects), 'effect')} on {', '.join(agents)} audited after the end"
    whose = f"not certified on {', '.join(bare)}" if bare else "not certified"
    words = f"{audited}: no process, rule or file was left behind ({whose}: the agent made no certificate).{after}"
    return Certificate(words, clean=True, certified=False, others=others)


def _left(document: RunDocument) -> tuple[str, ...]:
    """Effects that are stranded, each with its remedy; then traces that none of them explains."""
    lines: dict[str, None] = {}
    told: set[str] = set()
    for injection in document.injections:
        for effect in injection.effects:
            if effect.state == "stranded":
                by_hand = f"; by hand: {effect.remedy}" if effect.remedy else ""
                lines[f"{effect.agent_id}: {effect.description} could not be reverted{by_hand}"] = None
            else:
                lines |= dict.fromkeys(f"{effect.agent_id}: {text}" for text in effect.residue)
            told |= {f"{effect.agent_id}: {effect.description}: {text}" for text in effect.residue}
    for text in (*document.residue, *uncertified(document.certificates)):
        if text not in told:
            lines[text] = None
    return tuple(lines)
