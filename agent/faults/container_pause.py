"""`container.pause`: all processes of a container stand still, and run again at the end."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import msgspec

from agent.faults import container_target as target
from agent.faults.base import Effect, Injected, Page, Receipt, Undo
from agent.system import engine, proc

_STILL_S = 0.05


class PauseSpec(target.ContainerSpec, kw_only=True, forbid_unknown_fields=True):
    """All of it is the container."""


class ContainerPause(target.HeldContainer):
    """The kernel says that the cgroup is frozen, and its first process gains no processor time."""

    kind: ClassVar[str] = "container.pause"
    spec: ClassVar[type[msgspec.Struct]] = PauseSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="All processes of a container stand still, and run again at the end: a hang, not a death.",
        mechanism="The engine's API, which freezes the container's cgroup.",
        proof="The kernel's cgroup file says frozen, and the first process gains no processor time. "
        "The engine's own event is named beside it.",
        ends="A holder that outlives the agent has the engine resume the container at the deadline, or when the agent "
        "is gone; behind it stand the guardian and the journal. Only that very run of that container is resumed.",
        limits=target.LIMITS + "Connections to it stay open and hang. A container that is paused already is refused. "
        "Where the cgroup's file cannot be read, processor time alone confirms.",
        example={"name": "postgres"},
        source="Docker Engine API, ContainerPause; cgroups(7), freezer",
    )

    def missing(self) -> str:
        return engine.missing()

    def plan(self, spec: PauseSpec) -> list[Effect]:
        host, found = target.resolve(spec)
        return [target.effect(self.kind, host, one, self.undo, "pause", change="pause") for one in found]

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        first = target.first_of(effect)
        before = _ticks(first)
        await asyncio.sleep(_STILL_S)
        frozen, still = engine.is_frozen(first.pid), _ticks(first) == before
        confirmed = proc.alive(first) and frozen is not False and still
        says = {True: "frozen", False: "not frozen", None: "nothing that can be read here"}[frozen]
        text = f"the cgroup of pid {first.pid} says {says}; {'no' if still else 'some'} processor time in 50 ms"
        text += await target.told(effect, injected, "pause")
        return target.receipt(injected, confirmed=confirmed, text=text)

    def remedy(self, effect: Effect) -> str:
        return "; ".join(filter(None, (super().remedy(effect), target.command(effect, "unpause", effect.facts["id"]))))


def _ticks(one: proc.Identity) -> int:
    found = proc.stat(one.pid)
    return found.cpu_ticks if found else -1
