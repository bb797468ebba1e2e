"""`process.restart_loop`: a service is killed again as often as it comes back."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from agent.faults import target
from agent.faults.base import Effect, Injected, Page, Receipt, Touched, Undo
from agent.faults.held import HeldFault
from agent.system import proc
from protos.error import FaultError, Problem, SpecError

_LOOK_S = 1.0  # for how long the receipt looks for a restart


class RestartLoopSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """By selector only: a bare pid does not come back."""

    pid_file: Annotated[str, Meta(description="file that holds the target's pid")] = ""
    pattern: Annotated[str, Meta(description="regular expression, searched in the command lines")] = ""
    tree: Annotated[bool, Meta(description="the targets' descendants too")] = True
    interval_s: Annotated[float, Meta(ge=0.05, le=3600, description="time between two kills at the least, seconds")] = (
        0.5
    )
    kills_max: Annotated[int, Meta(ge=1, le=100_000, description="kills in all")] = 1000


class ProcessRestartLoop(HeldFault):
    """Confirmed by the first targets' absence from /proc."""

    kind: ClassVar[str] = "process.restart_loop"
    spec: ClassVar[type[msgspec.Struct]] = RestartLoopSpec
    undo: ClassVar[Undo] = Undo.KERNEL
    grip: ClassVar[str] = "restart"
    page: ClassVar[Page] = Page(
        does="A service is killed again as often as it comes back: a crash loop.",
        mechanism="A holder looks for the selector twenty times a second at the most and sends SIGKILL by pidfd.",
        proof="/proc has none of the first targets left; the text says whether one came back and was killed again.",
        ends="The holder dies with the agent: from then on nobody kills. Whether the service is started again is up to "
        "whoever restarts it.",
        limits="Never more processes at once than the plan found. Service managers give up on services that crash too "
        "often (systemd's start limit): then the service stays down after the fault, which is a finding.",
        example={"pid_file": "/run/segmenter.pid", "interval_s": 1.0},
        source="pidfd_send_signal(2)",
    )

    def missing(self) -> str:
        return ""

    def plan(self, spec: RestartLoopSpec) -> list[Effect]:
        if bool(spec.pid_file) == bool(spec.pattern):
            raise SpecError(Problem("spec", "exactly one of pid_file and pattern must name the target"))
        roots = target.resolve(target.ProcessSpec(pid_file=spec.pid_file, pattern=spec.pattern))
        members = [one for root in roots for one in (proc.tree(root) if spec.tree else [root])]
        return [
            Effect(
                fault=self.kind,
                resource=f"service:{spec.pid_file or spec.pattern}",
                description=f"SIGKILL, again and again, to {target.describe(roots, len(members))}",
                undo=self.undo,
                touches=Touched(processes=members),
                facts={
                    "pid_file": spec.pid_file, "pattern": spec.pattern, "tree": spec.tree,
                    "interval_s": spec.interval_s, "kills_max": spec.kills_max, "targets_max": len(members),
                    "protected_names": [], "spared_pids": sorted(_ancestors()),
                },
            )
        ]  # fmt: skip

    async def inject(self, effect: Effect) -> Injected:
        report = await self._engage(effect)
        if not report["hit"]:
            await self.revert(effect)
            raise FaultError(f"{effect.description}: the target was gone before the first kill")
        effect.facts["hit"] = report["hit"]
        return Injected(report["lo_ns"], report["hi_ns"])

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        hit = [proc.Identity(*row) for row in effect.facts["hit"]]
        for _ in range(50):
            if not any(map(proc.alive, hit)):
                break
            await asyncio.sleep(0.01)
        left = [one for one in hit if proc.alive(one)]
        again = await self._killed_again(effect, hit) if not left else ""
        text = f"/proc has {len(left)} of the first {len(hit)} left; {again or 'none came back'} within {_LOOK_S:g} s"
        return Receipt(confirmed=not left, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    async def _killed_again(self, effect: Effect, hit: list[proc.Identity]) -> str:
        """What became of the successors that were seen."""
        spec = target.ProcessSpec(pid_file=effect.facts["pid_file"], pattern=effect.facts["pattern"])
        seen: list[proc.Identity] = []
        until = asyncio.get_running_loop().time() + _LOOK_S
        while asyncio.get_running_loop().time() < until:
            try:
                seen += [one for one in target.resolve(spec) if one not in hit and one not in seen]
            except SpecError:
                pass
            if dead := [one for one in seen if not proc.alive(one)]:
                return f"{dead[0].name} (pid {dead[0].pid}) came back and was killed again"
            await asyncio.sleep(0.02)
        return f"{len(seen)} came back and not yet killed" if seen else ""

    def gone(self, effect: Effect) -> bool:
        del effect
        return False  # that its targets go away is what it is for


def _ancestors() -> set[int]:
    found, pid = set[int](), os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        stat = proc.stat(pid)
        pid = stat.parent if stat else 0
    return found
