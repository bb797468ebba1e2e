"""What faults have in common that a holder keeps in force in Kubernetes, and what all of them ask of a cluster."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final, TypeVar

from agent.faults import kube_hold
from agent.faults.base import Effect, Injected, Receipt, Touched, Undo
from agent.faults.held import HeldFault, holder_of
from agent.system import kube, kube_access, process
from agent.system.kube_wire import Api, KubeError
from protos.error import FaultError, Problem, RefusedError, SpecError

T = TypeVar("T")
_LET_GO_S: Final = 1.5  # for a holder that is told to end, or whose agent is dead, to give back by itself
_KEEP_S: Final = 15.0  # the helper stays for the end of what is in force
ENDS: Final = (
    "A holder that outlives the agent sets it back at the deadline, or when the agent is gone; behind it stand the "
    "guardian and the journal, also after a reboot. "
)


@contextlib.contextmanager
def planning() -> Iterator[Api]:
    """The cluster, for a plan. RefusedError where RBAC says no, SpecError for whatever else is in the way."""
    try:
        yield kube.SESSION
    except KubeError as error:
        if error.denied:
            raise RefusedError(str(error)) from error
        raise SpecError(Problem("cluster", str(error))) from error


async def ask(effect: Effect, what: Callable[[Api], T]) -> T:
    """What *what* gets from the cluster, in a thread; FaultError in the server's words."""
    try:
        return await asyncio.to_thread(what, kube.SESSION)
    except KubeError as error:
        raise FaultError(f"{effect.description}: {error}") from error


async def until(effect: Effect, look: Callable[[Api], T], timeout_s: float, pause_s: float = 0.05) -> T:
    """What *look* finds once it is true; what it found last, when it does not become true in time."""
    end = time.monotonic() + timeout_s
    while not (found := await ask(effect, look)) and time.monotonic() < end:
        await asyncio.sleep(pause_s)
    return found


def effect(
    kind: str, undo: Undo, *, resource: str, description: str, touches: Touched, facts: dict[str, Any]
) -> Effect:
    """An effect whose facts know its id, by which its marks in the cluster are known."""
    made = Effect(
        fault=kind, resource=resource, description=description, undo=undo, touches=touches, facts=dict(facts),
        survives_reboot=undo is not Undo.SELF_HEALING,
    )  # fmt: skip
    made.facts["effect"] = made.id
    return made


def receipt(injected: Injected, *, confirmed: bool, text: str) -> Receipt:
    return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)


class KubeFault:
    """What every one of them needs."""

    plans_elsewhere: ClassVar[bool] = True

    def missing(self) -> str:
        return kube_access.missing()

    async def warm(self) -> None:
        """Starts the helper before the plan, which waits for it."""
        await asyncio.to_thread(kube.SESSION.warm)


class HeldKube(KubeFault, HeldFault, abc.ABC):
    """A holder gives it back at its deadline or when the agent is gone, and revert if it could not."""

    grip = "kube"
    ends_elsewhere: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()  # effects whose holder was told to take hold

    async def inject(self, effect: Effect) -> Injected:
        self._told.add(effect.id)
        self._keep(effect)
        injected = await super().inject(effect)
        effect.facts["settled"] = True  # the server has answered: nothing is on its way to it
        return injected

    def _keep(self, effect: Effect) -> None:
        """Its end must not wait for a helper that has to be started first."""
        left_s = (effect.deadline_ns - time.monotonic_ns()) / 1e9
        kube.SESSION.keep(left_s + _KEEP_S)

    async def revert(self, effect: Effect) -> None:
        await self._release(effect)
        await ask(effect, lambda api: kube_hold.give_back(api, effect.facts))
        if said := await ask(effect, lambda api: kube_hold.foreign(api, effect.facts)):
            effect.facts["ended"] = said

    async def _release(self, effect: Effect) -> None:
        """Lets the holder finish what it has begun: a request that is on its way must not come after the revert."""
        holder, one = self._holders.get(effect.id), holder_of(effect)
        if holder is not None:
            holder.dismiss()
        if holder is not None and effect.id not in self._told:
            effect.facts["settled"] = True  # nothing was asked
        if one is not None and (holder is None or effect.id in self._told):
            await process.gone([one], _LET_GO_S)
        self._told.discard(effect.id)
        await super()._release(effect)

    def gone(self, effect: Effect) -> bool:
        """Objects of a cluster are not watched for that: a revert finds out."""
        del effect
        return False

    def _left(self, effect: Effect) -> list[str]:
        try:
            return list(filter(None, [kube_hold.left(kube.SESSION, effect.facts)]))
        except KubeError as error:
            raise FaultError(f"{effect.description}: whether it is as before cannot be told: {error}") from error

    def remedy(self, effect: Effect) -> str:
        return "; ".join(filter(None, (super().remedy(effect), self._by_hand(effect.facts))))

    @abc.abstractmethod
    def _by_hand(self, facts: dict[str, Any]) -> str:
        """What a human tells kubectl."""
