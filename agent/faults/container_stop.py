"""`container.stop`: a container is stopped, and started again at the end."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from agent.faults import container_target as target
from agent.faults.base import Effect, Injected, Page, Receipt, Undo
from agent.system import engine, proc
from protos.error import RefusedError


class StopSpec(target.ContainerSpec, kw_only=True, forbid_unknown_fields=True):
    grace_s: Annotated[
        int, Meta(ge=0, le=8, description="between the container's stop signal and SIGKILL, seconds")
    ] = 2


class ContainerStop(target.HeldContainer):
    """Its first process is gone from /proc, and no other one has its cgroup."""

    kind: ClassVar[str] = "container.stop"
    spec: ClassVar[type[msgspec.Struct]] = StopSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="A container is stopped for a while, and started again at the end.",
        mechanism="The engine's API: the container's stop signal, SIGKILL after `grace_s`.",
        proof="The first process is gone from /proc, and no process is in the container's cgroup. "
        "The engine's own event is named beside it.",
        ends="A holder that outlives the agent has the engine start the container shortly before the deadline, or when "
        "the agent is gone; behind it stand the guardian and the journal, also after a reboot. A container that was "
        "started meanwhile, or another under its name, is left alone.",
        limits=target.LIMITS + "The restart policy is not changed; the engine does not apply it to what was stopped by "
        "hand, but `always` starts the container when the engine itself restarts. A start takes some tenths of a "
        "second. Addresses that the engine chooses may change. Containers that are removed when they stop are refused.",
        example={"name": "redis", "grace_s": 1},
        source="Docker Engine API, ContainerStop; Docker's page on restart policies",
    )

    def missing(self) -> str:
        return engine.missing()

    def plan(self, spec: StopSpec) -> list[Effect]:
        host, found = target.resolve(spec)
        if doomed := [one.name for one in found if one.auto_remove]:
            raise RefusedError(f"container {doomed[0]} is removed when it stops (--rm): it could not be started again")
        effects = [
            target.effect(self.kind, host, one, self.undo, "stop", change="stop", grace_s=spec.grace_s) for one in found
        ]
        for effect in effects:
            effect.survives_reboot = True
        return effects

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        first = target.first_of(effect)
        others = [pid for pid in proc.pids() if effect.facts["id"] in engine.cgroups(pid)]
        gone = not proc.alive(first)
        text = f"the first process (pid {first.pid}) is {'not' if gone else 'still'} in /proc; {len(others)} others are"
        text += await target.told(effect, injected, "die")
        return target.receipt(injected, confirmed=gone and not others, text=text)

    def remedy(self, effect: Effect) -> str:
        return "; ".join(filter(None, (super().remedy(effect), target.command(effect, "start", effect.facts["id"]))))
