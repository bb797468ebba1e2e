"""Which agents a step means, here and now: by label, and by what their own probes say (`where`)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from controller.selector import Candidate, Selector, parse, select
from protos.error import BlackstartError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.run.reach import Reach

ASK_S: Final = 10.0


async def pick(
    reach: Reach, family: str, kind: str, targets: object, *, seed: int, place: str = "targets"
) -> tuple[Selector, list[str]]:
    """The selector and the ids that it picks, sorted; agents are asked one question where it has a `where`.

    Raises:
        SpecError: the selector is wrong, or nobody fits it.
    """
    selector = parse(targets, place)
    candidates = await asked(reach, selector, reach.fleet.candidates(family, kind))
    return selector, select(selector, candidates, seed=seed, kind=kind)


async def asked(reach: Reach, selector: Selector, candidates: Iterable[Candidate]) -> list[Candidate]:
    """*candidates*, those for whom the selector's `where` does not hold with the reason for which they are left out."""
    found = list(candidates)
    if selector.where is None:
        return found
    wanted = [one.id for one in found if not one.missing and selector.labels.items() <= dict(one.labels).items()]
    answers = await reach.dispatch.order_all(wanted, "probe.ask", dict(selector.where), timeout_s=ASK_S)
    return [
        replace(one, missing=one.missing or _reason(answers[one.id])) if one.id in answers else one for one in found
    ]


def _reason(answer: dict[str, Any] | BlackstartError) -> str:
    if isinstance(answer, BlackstartError):
        return f"could not be asked: {answer}"
    return "" if answer.get("ok") else f"`where` does not hold: {answer.get('code')}"
