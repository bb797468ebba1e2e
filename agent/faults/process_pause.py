"""`process.pause`: a process and its descendants stand still, and run again at the end.

Two mechanisms: *ptrace* (the kernel resumes the targets when the holder dies) where tracing is allowed, else *sigstop*.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from agent.faults import target
from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.held import HeldFault
from agent.system import proc, process
from agent.system.privilege import may_trace, tracer
from protos.error import RefusedError

_STILL_S = 0.05  # five clock ticks: a process that runs gains at least one


class PauseSpec(target.ProcessSpec, kw_only=True, forbid_unknown_fields=True):
    mechanism: Annotated[Literal["auto", "ptrace", "sigstop"], Meta(description="how they are stopped")] = "auto"


class ProcessPause(HeldFault):
    """The stop is seen in /proc, thread by thread, and confirmed by processor time that stands still."""

    kind: ClassVar[str] = "process.pause"
    spec: ClassVar[type[msgspec.Struct]] = PauseSpec
    undo: ClassVar[Undo] = Undo.KERNEL
    page: ClassVar[Page] = Page(
        does="A process and its descendants stand still, and run again at the end: a hang, not a death.",
        mechanism="`ptrace`: a holder seizes and interrupts every thread; `sigstop`: a holder sends SIGSTOP. "
        "`auto` takes ptrace where it is allowed.",
        proof="Every thread is in a stopped state in /proc and gains no processor time.",
        ends="With ptrace the kernel resumes the targets when the holder dies, and the holder dies with the agent. "
        "With sigstop the holder outlives the agent and sends SIGCONT; behind it stand the guardian and the journal.",
        limits="A traced process cannot be debugged meanwhile, and its TracerPid shows. "
        "A stop by sigstop outlasts the death of holder, agent and guardian at once, until the agent starts again.",
        example={"pattern": "ffmpeg .*live"},
        source="ptrace(2), signal(7)",
    )

    def missing(self) -> str:
        return ""

    def plan(self, spec: PauseSpec) -> list[Effect]:
        effects = []
        for root in target.resolve(spec):
            members = proc.tree(root) if spec.tree else [root]
            tracing = _traceable(members) if spec.mechanism == "auto" else spec.mechanism == "ptrace"
            effects.append(
                Effect(
                    fault=self.kind,
                    resource=f"process:{root.pid}:{root.start}",
                    description=f"pause of {target.describe([root], len(members))}",
                    undo=Undo.KERNEL if tracing else Undo.GUARDIAN,
                    touches=Touched(processes=members),
                    facts={
                        "targets": msgspec.to_builtins(members),
                        "tree": spec.tree,
                        "mechanism": "ptrace" if tracing else "sigstop",
                    },
                )
            )
        return effects

    def prepare(self, effect: Effect) -> None:
        if stopped := [one for one in _targets(effect) if proc.is_stopped(one)]:
            named = target.describe(stopped, len(stopped))
            raise RefusedError(f"already stopped by somebody else, who would find it running afterwards: {named}")
        super().prepare(effect)

    def _grip(self, effect: Effect) -> str:
        return "pause" if effect.facts["mechanism"] == "ptrace" else "stop"

    def _arguments(self, effect: Effect) -> dict[str, Any]:
        return {"targets": effect.facts["targets"], "tree": effect.facts["tree"]}

    async def inject(self, effect: Effect) -> Injected:
        report = await self._engage(effect)
        effect.facts["targets"] = report["held"]
        return Injected(report["lo_ns"], report["hi_ns"])

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        targets = _targets(effect)
        before = {one.pid: _ticks(one) for one in targets}
        await asyncio.sleep(_STILL_S)
        moving = [one for one in targets if not proc.is_stopped(one) or _ticks(one) != before[one.pid]]
        confirmed = bool(targets) and not moving
        named = target.describe(moving, len(moving)) if moving else ""
        text = (
            f"all threads of {len(targets)} processes stand still, no processor time in {_STILL_S * 1000:.0f} ms"
            if confirmed
            else f"not standing still: {named or 'no target left'}"
        )
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    async def revert(self, effect: Effect) -> None:
        await self._release(effect)
        if effect.facts["mechanism"] == "sigstop":
            for one in reversed(_with_descendants(effect)):
                process.send(one, signal.SIGCONT)
        await self._settled(effect)

    def _left(self, effect: Effect) -> list[str]:
        return [
            f"process {one.name} (pid {one.pid}) is still stopped" for one in _targets(effect) if proc.is_stopped(one)
        ]

    def remedy(self, effect: Effect) -> str:
        pids = " ".join(str(one.pid) for one in _targets(effect))
        return "; ".join(filter(None, (super().remedy(effect), f"kill -CONT {pids}")))


def _targets(effect: Effect) -> list[proc.Identity]:
    return msgspec.convert(effect.facts["targets"], list[proc.Identity])


def _with_descendants(effect: Effect) -> list[proc.Identity]:
    """What was planned, and what it forked before it stood still."""
    targets = _targets(effect)
    if not effect.facts["tree"]:
        return targets
    extra = dict.fromkeys(one for root in targets for one in proc.tree(root) if one not in targets)
    return [*targets, *(one for one in extra if proc.is_stopped(one))]


def _ticks(one: proc.Identity) -> int:
    found = proc.stat(one.pid)
    return found.cpu_ticks if found else -1


def _traceable(members: list[proc.Identity]) -> bool:
    return all(may_trace(one.pid) and not tracer(one.pid) for one in members)
