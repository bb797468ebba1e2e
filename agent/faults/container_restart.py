"""`container.restart`: the engine stops a container and starts it again. Nothing to undo."""

from __future__ import annotations

import asyncio
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from agent.faults import container_target as target
from agent.faults.base import Effect, Injected, Page, Receipt
from agent.faults.once import OnceFault
from agent.system import engine, proc

_BACK_S = 3.0


class RestartSpec(target.ContainerSpec, kw_only=True, forbid_unknown_fields=True):
    grace_s: Annotated[
        int, Meta(ge=0, le=60, description="between the container's stop signal and SIGKILL, seconds")
    ] = 5


class ContainerRestart(OnceFault):
    """Another first process, of the same container, in /proc."""

    kind: ClassVar[str] = "container.restart"
    spec: ClassVar[type[msgspec.Struct]] = RestartSpec
    page: ClassVar[Page] = Page(
        does="A container is stopped and at once started again, as an operator or an update would.",
        mechanism="The engine's API: the container's stop signal, SIGKILL after `grace_s`, start.",
        proof="/proc does not have the old first process any more, and has another whose cgroup is the container's. "
        "The engine's own event is named beside it.",
        ends="There is nothing to undo: the container runs again, or the system under test does without.",
        limits=target.LIMITS + "The instant of injection is known to within the stop: the receipt spans it. "
        "Addresses that the engine chooses may change.",
        example={"name": "redis", "grace_s": 2},
        source="Docker Engine API, ContainerRestart",
    )

    def missing(self) -> str:
        return engine.missing()

    def plan(self, spec: RestartSpec) -> list[Effect]:
        host, found = target.resolve(spec)
        return [target.effect(self.kind, host, one, self.undo, "restart", grace_s=spec.grace_s) for one in found]

    async def inject(self, effect: Effect) -> Injected:
        facts = effect.facts
        return await target.act(
            effect, lambda one: one.restart(facts["id"], facts["grace_s"]), facts["grace_s"] + 2 * engine.QUICK_S
        )

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        old, until = target.first_of(effect), asyncio.get_running_loop().time() + _BACK_S
        while True:
            container = await target.ask(effect, lambda one: one.find(effect.facts["id"]))
            fresh: proc.Identity | None = container.first if container else None
            if fresh or asyncio.get_running_loop().time() > until:
                break
            await asyncio.sleep(0.02)
        confirmed = fresh is not None and fresh != old and not proc.alive(old)
        now = f"pid {fresh.pid} in its place" if fresh else "none in its place"
        text = f"the first process (pid {old.pid}) is {'still' if proc.alive(old) else 'not'} in /proc, {now}"
        text += await target.told(effect, injected, "restart")
        return target.receipt(injected, confirmed=confirmed, text=text)
