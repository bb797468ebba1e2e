"""`container.kill`: a signal, SIGKILL by default, to a container's first process. Nothing to undo."""

from __future__ import annotations

import signal
import time
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from agent.faults import container_target as target
from agent.faults.base import Effect, Injected, Page, Receipt
from agent.faults.once import OnceFault
from agent.system import engine, proc, process
from protos.error import FaultError

_GONE_S = 5.0


class KillSpec(target.ContainerSpec, kw_only=True, forbid_unknown_fields=True):
    signal: Annotated[
        Literal["KILL", "TERM", "INT", "HUP", "QUIT", "ABRT"], Meta(description="signal sent to the first process")
    ] = "KILL"
    via: Annotated[
        Literal["engine", "process"],
        Meta(description="engine: as `docker kill` does; process: as a crash, after which the restart policy applies"),
    ] = "engine"


class ContainerKill(OnceFault):
    """The end is seen by pidfd and in /proc, which know of no engine."""

    kind: ClassVar[str] = "container.kill"
    spec: ClassVar[type[msgspec.Struct]] = KillSpec
    page: ClassVar[Page] = Page(
        does="A signal, SIGKILL by default, ends a container's first process, and with it all the others.",
        mechanism="`via: engine`: the engine's API; `via: process`: pidfd_send_signal(2) to the first process.",
        proof="The pidfd of the first process reports the exit, and /proc does not have it any more. "
        "The engine's own event is named beside it.",
        ends="There is nothing to undo: the system under test recovers or does not.",
        limits=target.LIMITS + "What is killed via the engine counts as stopped by hand: the engine does not apply its "
        "restart policy. A container that is removed when it ends (`--rm`) is gone for good.",
        example={"label": "role=encoder", "via": "process"},
        source="Docker Engine API, ContainerKill; pidfd_send_signal(2)",
    )

    def missing(self) -> str:
        return engine.missing()

    def plan(self, spec: KillSpec) -> list[Effect]:
        host, found = target.resolve(spec)
        return [
            target.effect(
                self.kind, host, one, self.undo, f"SIG{spec.signal} via the {spec.via}, to the first process",
                signal=f"SIG{spec.signal}", via=spec.via,
            )
            for one in found
        ]  # fmt: skip

    async def inject(self, effect: Effect) -> Injected:
        facts, first = effect.facts, target.first_of(effect)
        if facts["via"] == "engine":
            injected = await target.act(effect, lambda one: one.kill(facts["id"], facts["signal"]))
            lo_ns, hi_ns = injected.lo_ns, injected.hi_ns
        else:
            lo_ns = time.monotonic_ns()
            if not process.send(first, signal.Signals[facts["signal"]]):
                raise FaultError(f"{effect.description}: its first process was gone before the signal")
            hi_ns = time.monotonic_ns()
        ends = await process.gone([first], _GONE_S)
        return Injected(lo_ns, max([hi_ns, *(at for _, at in ends)]))

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        first, within_ms = target.first_of(effect), (injected.hi_ns - injected.lo_ns) / 1e6
        if proc.alive(first):
            text = f"the first process {first.name} (pid {first.pid}) runs on after {_GONE_S:g} s"
            return target.receipt(injected, confirmed=False, text=text)
        text = f"the first process {first.name} (pid {first.pid}) is not in /proc any more, within {within_ms:.0f} ms"
        return target.receipt(injected, confirmed=True, text=text + await target.told(effect, injected, "die"))
