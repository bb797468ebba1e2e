"""Which containers a fault means, and what the engine is asked to do with them.

Invariant: what is undone is undone to that very container, by its full id: one that has taken its name is not touched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from agent.faults import container_change
from agent.faults.base import Effect, Injected, Receipt, Touched, Undo
from agent.faults.held import HeldFault
from agent.system import engine, proc
from agent.system.engine import Container, Engine
from protos.error import FaultError, Problem, RefusedError, SpecError

_LOOK_TIMEOUT_S = 2.0  # for a residue: an engine that hangs is not waited for longer
_EVENT_S = 0.5  # for the engine to tell what it saw
_LOOK_S = 0.05
LIMITS = (
    "The engine must be this node's own, so that /proc has its containers. "
    "Where several containers match, each is a target. "
)


class ContainerSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Exactly one of *name*, *label* and *image* names the containers."""

    name: Annotated[str, Meta(description="the container's name, or its id")] = ""
    label: Annotated[str, Meta(description="`key` or `key=value`: every running container that bears it")] = ""
    image: Annotated[str, Meta(description="every running container of this image, or of one built on it")] = ""
    engine: Annotated[
        str, Meta(pattern="^$|^unix:///", description="the engine's socket; empty: DOCKER_HOST, or the usual place")
    ] = ""


def resolve(spec: ContainerSpec) -> tuple[str, list[Container]]:
    """The engine's address and the running containers that *spec* means, at least one.

    Raises:
        SpecError: none is meant, or the engine does not answer.
        RefusedError: one of them is stopped or paused already, or is not on this node.
    """
    if sum(map(bool, (spec.name, spec.label, spec.image))) != 1:
        raise SpecError(Problem("spec", "exactly one of name, label and image must name the containers"))
    host = engine.address(spec.engine)
    try:
        with Engine(host) as one:
            found = _named(one, spec.name) if spec.name else _matching(one, spec)
    except OSError as error:
        raise SpecError(Problem("spec.engine", str(error))) from error
    for container in found:
        if container.status != "running":
            raise RefusedError(f"container {container.name} is {container.status} already, not by us")
        if container.first is None:
            raise RefusedError(f"container {container.name}: its first process is not in this node's /proc")
    return host, found


def _named(one: Engine, name: str) -> list[Container]:
    container = one.find(name)
    if container is None or not (container.name == name.lstrip("/") or container.id.startswith(name)):
        raise SpecError(Problem("spec.name", f"no such container: {name!r}", "zero targets is never a success"))
    return [container]


def _matching(one: Engine, spec: ContainerSpec) -> list[Container]:
    found = one.containers(label=spec.label) if spec.label else one.containers(ancestor=spec.image)
    if not found:
        where, what = ("spec.label", spec.label) if spec.label else ("spec.image", spec.image)
        raise SpecError(Problem(where, f"no running container matches {what!r}", "zero targets is never a success"))
    return found


def effect(kind: str, host: str, container: Container, undo: Undo, description: str, **facts: Any) -> Effect:
    """An effect on one container, with what every one of them has to know."""
    first = container.first
    assert first is not None
    return Effect(
        fault=kind,
        resource=f"container:{container.id}",
        description=f"{description} of container {container.name} ({container.image})",
        undo=undo,
        touches=Touched(containers=[container.name], processes=[first]),
        facts={
            "engine": host, "id": container.id, "name": container.name, "started_at": container.started_at,
            "first": msgspec.to_builtins(first), **facts,
        },
    )  # fmt: skip


def first_of(effect: Effect) -> proc.Identity:
    """The container's first process, as it was when planned."""
    return msgspec.convert(effect.facts["first"], proc.Identity)


def receipt(injected: Injected, *, confirmed: bool, text: str) -> Receipt:
    return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)


async def told(effect: Effect, injected: Injected, *names: str) -> str:
    """What the engine's own events say, for a receipt: `; the engine's event die came 12 ms after the order`.

    They come from the engine's log of what it saw, not from the answer to our order. That it has none is said; the
    receipt rests on the kernel.
    """
    off_ns = time.time_ns() - time.monotonic_ns()
    until_ns = time.monotonic_ns() + int(_EVENT_S * 1e9)
    found: list[tuple[str, int]] = []

    def look(one: Engine) -> list[tuple[str, int]]:
        return one.events(effect.facts["id"], names, injected.lo_ns + off_ns, time.time_ns())

    while not found and time.monotonic_ns() < until_ns:
        try:
            found = await ask(effect, look)
        except FaultError as error:
            return f"; its events cannot be read: {error}"
        await asyncio.sleep(0 if found else _LOOK_S)
    if not found:
        return f"; the engine has told of no {' or '.join(names)} within {_EVENT_S:g} s"
    name, at_ns = found[0]
    return f"; the engine's event {name} came {(at_ns - off_ns - injected.lo_ns) / 1e6:.0f} ms after the order"


async def ask(effect: Effect, what: Callable[[Engine], Any], timeout_s: float = engine.QUICK_S) -> Any:
    """What *what* gets from the effect's engine, in a thread; FaultError in the engine's words."""

    def there() -> Any:
        with Engine(effect.facts["engine"], timeout_s) as one:
            return what(one)

    try:
        return await asyncio.to_thread(there)
    except OSError as error:
        raise FaultError(f"{effect.description}: {error}") from error


async def act(effect: Effect, what: Callable[[Engine], None], timeout_s: float = engine.QUICK_S) -> Injected:
    """Has the engine do something to the planned container, still in the run in which it was planned."""

    def checked(one: Engine) -> tuple[int, int]:
        container_change.require(one, effect.facts)
        lo_ns = time.monotonic_ns()
        what(one)
        return lo_ns, time.monotonic_ns()

    return Injected(*await ask(effect, checked, timeout_s))


def command(effect: Effect, *words: str) -> str:
    """What a human runs to do what revert could not."""
    host = effect.facts["engine"]
    return " ".join(["docker", *(["-H", host] if host != "unix:///var/run/docker.sock" else []), *words])


class HeldContainer(HeldFault):
    """A container that a holder gives back at its deadline or when the agent is gone, and revert if it could not."""

    grip = "container"

    def __init__(self) -> None:
        super().__init__()
        self._waiting: set[str] = set()  # effects prepared here and not told to take hold: nothing of theirs is ours

    def prepare(self, effect: Effect) -> None:
        super().prepare(effect)
        self._waiting.add(effect.id)

    async def inject(self, effect: Effect) -> Injected:
        self._waiting.discard(effect.id)
        return await super().inject(effect)

    async def revert(self, effect: Effect) -> None:
        await super().revert(effect)
        if effect.id not in self._waiting:
            await ask(effect, lambda one: container_change.give_back(one, effect.facts))
        self._waiting.discard(effect.id)

    async def _settled(self, effect: Effect) -> None:
        """The holder was killed: what it held is given back by whoever called, not by itself."""

    def gone(self, effect: Effect) -> bool:
        """Only a paused container's first process can but go by itself."""
        return effect.facts["change"] == "pause" and super().gone(effect)

    def _left(self, effect: Effect) -> list[str]:
        facts = effect.facts
        try:
            with Engine(facts["engine"], _LOOK_TIMEOUT_S) as one:
                return list(filter(None, [container_change.left(one, facts)]))
        except OSError as error:
            raise FaultError(f"container {facts['name']}: {error}: whether it is as before cannot be told") from error
