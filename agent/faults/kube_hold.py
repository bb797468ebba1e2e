"""What a holder keeps in force in Kubernetes, by the facts' `change`: a changed object, or one that was made.

The four of them work from the effect's facts alone: in the holder, in the agent, in the guardian, at the next start.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from agent.system.kube_wire import Api, KubeError, NoAnswerError

Facts = dict[str, Any]
_MODULES: Final = {
    "cordon": "kube_change", "taint": "kube_change", "scale": "kube_change", "image": "kube_change",
    "pdb": "kube_made", "quota": "kube_made", "lease": "kube_lease",
}  # fmt: skip


class Kind(Protocol):
    """Modules that `_MODULES` names have these."""

    take: Callable[[Api, Facts], tuple[int, int]]
    give_back: Callable[[Api, Facts], None]
    left: Callable[[Api, Facts], str]


def take(api: Api, facts: Facts) -> tuple[int, int]:
    """Puts it in force; the bounds of the instant. KubeError if it cannot be.

    The facts are `settled` after an answer of the server's: nothing is on its way any more. Without one `give_back`
    sees to it that what was asked does not come true later.
    """
    try:
        bounds = _kind(facts).take(api, facts)
    except NoAnswerError:
        raise
    except KubeError:
        facts["settled"] = True
        raise
    facts["settled"] = True
    return bounds


def give_back(api: Api, facts: Facts) -> None:
    """Ends it where it is still ours; harmless to repeat."""
    _kind(facts).give_back(api, facts)


def left(api: Api, facts: Facts) -> str:
    """What has not been given back yet, in words."""
    return _kind(facts).left(api, facts)


def foreign(api: Api, facts: Facts) -> str:
    """What somebody else did to it meanwhile, in words."""
    look = getattr(_kind(facts), "foreign", None)
    return str(look(api, facts)) if look is not None else ""


def tend(api: Api, facts: Facts) -> None:
    """What has to be done while it is in force."""
    renew = getattr(_kind(facts), "tend", None)
    if renew is not None:
        renew(api, facts)


def _kind(facts: Facts) -> Kind:
    kind: Kind = importlib.import_module(f"agent.faults.{_MODULES[facts['change']]}")
    return kind
