"""`process.kill`: a signal, SIGKILL by default, to a process and its descendants. Nothing to undo."""

from __future__ import annotations

import signal
import time
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from agent.faults import target
from agent.faults.base import Effect, Injected, Page, Receipt, Touched
from agent.faults.once import OnceFault
from agent.system import proc, process
from protos.error import FaultError


class KillSpec(target.ProcessSpec, kw_only=True, forbid_unknown_fields=True):
    signal: Annotated[
        Literal["KILL", "TERM", "INT", "HUP", "QUIT", "ABRT", "SEGV"], Meta(description="signal sent")
    ] = "KILL"
    gone_within_s: Annotated[
        float, Meta(gt=0, le=60, description="a target that catches the signal is given this long to end, seconds")
    ] = 5.0


class ProcessKill(OnceFault):
    """The ends are seen by pidfd and then confirmed in /proc."""

    kind: ClassVar[str] = "process.kill"
    spec: ClassVar[type[msgspec.Struct]] = KillSpec
    page: ClassVar[Page] = Page(
        does="A signal, SIGKILL by default, is sent to a process and its descendants.",
        mechanism="pidfd_send_signal(2), to the very processes that the plan named.",
        proof="Each pidfd reports the exit, and /proc has none of the processes left.",
        ends="There is nothing to undo: the system under test recovers or does not.",
        limits="A child that is forked between plan and signal is not hit. "
        "A target that catches the signal has `gone_within_s` to end; if it does not, the receipt is not confirmed.",
        example={"pid_file": "/run/encoder.pid"},
        source="pidfd_send_signal(2)",
    )

    def missing(self) -> str:
        return ""

    def plan(self, spec: KillSpec) -> list[Effect]:
        effects = []
        for root in target.resolve(spec):
            members = proc.tree(root) if spec.tree else [root]
            effects.append(
                Effect(
                    fault=self.kind,
                    resource=f"process:{root.pid}:{root.start}",
                    description=f"SIG{spec.signal} to {target.describe([root], len(members))}",
                    undo=self.undo,
                    touches=Touched(processes=members),
                    facts={
                        "targets": msgspec.to_builtins(members),
                        "signal": f"SIG{spec.signal}",
                        "gone_within_s": spec.gone_within_s,
                    },
                )
            )
        return effects

    async def inject(self, effect: Effect) -> Injected:
        targets = _targets(effect)
        number = signal.Signals[effect.facts["signal"]]
        lo_ns = time.monotonic_ns()
        try:
            reached = [one for one in targets if process.send(one, number)]
        except PermissionError as error:
            raise FaultError(
                f"{effect.description}: not permitted: run the agent as the target's user or root"
            ) from error
        if not reached:
            raise FaultError(f"{effect.description}: the target was gone before the signal")
        ends = await process.gone(reached, effect.facts["gone_within_s"])
        return Injected(lo_ns, max((at for _, at in ends), default=time.monotonic_ns()))

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        left = [one for one in _targets(effect) if proc.alive(one)]
        if left:
            text = f"still running after the signal: {target.describe(left, len(left))}"
            return Receipt(confirmed=False, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)
        within_ms = (injected.hi_ns - injected.lo_ns) / 1e6
        text = f"/proc has none of the {len(_targets(effect))} left; the last ended within {within_ms:.1f} ms"
        return Receipt(confirmed=True, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)


def _targets(effect: Effect) -> list[proc.Identity]:
    return msgspec.convert(effect.facts["targets"], list[proc.Identity])
