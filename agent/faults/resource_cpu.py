"""`resource.cpu`: processor load on the node, a fraction of each of a number of processors."""

from __future__ import annotations

import asyncio
import os
from typing import ClassVar

import msgspec

from agent.faults.base import Effect, Injected, Receipt, Undo
from agent.system import proc
from agent.system.holder import Holder, engage, release
from protos.error import Problem, SpecError

_WINDOW_S = 0.4
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SHARE_MIN = 0.5  # of the load asked, that the workers must have got
_SHARE_SATURATED_MIN = 0.2  # the same on a node with nothing left to give: then they compete, which is the effect
_SATURATED = 0.95
_BUSY_MIN = 0.7  # of the load asked: what the node as a whole must show


class CpuSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    load_fraction: float = 1.0  # of each processor, in (0, 1]
    workers: int = 0  # processors loaded; 0: all that the agent may use


class ResourceCpu:
    """The load is seen in the workers' own processor time and confirmed by the node's busy fraction."""

    kind: ClassVar[str] = "resource.cpu"
    spec: ClassVar[type[msgspec.Struct]] = CpuSpec
    undo: ClassVar[Undo] = Undo.KERNEL

    def __init__(self) -> None:
        self._holders: dict[str, Holder] = {}

    def missing(self) -> str:
        return ""

    def plan(self, spec: CpuSpec) -> list[Effect]:
        processors = len(os.sched_getaffinity(0))
        problems = []
        if not 0 < spec.load_fraction <= 1:
            problems.append(Problem("spec.load_fraction", f"{spec.load_fraction} is not in (0, 1]"))
        if not 0 <= spec.workers <= processors:
            problems.append(
                Problem("spec.workers", f"{spec.workers} is not in 0..{processors}, this node's processors")
            )
        if problems:
            raise SpecError(*problems)
        workers = spec.workers or processors
        return [
            Effect(
                fault=self.kind,
                resource="node:cpu",
                description=f"{spec.load_fraction:.0%} load on {workers} of {processors} processors",
                undo=self.undo,
                facts={"load_fraction": spec.load_fraction, "workers": workers, "processors": processors},
            )
        ]

    def prepare(self, effect: Effect) -> None:
        arguments = {"load_fraction": effect.facts["load_fraction"], "workers": effect.facts["workers"]}
        holder = Holder("cpu", arguments, effect.deadline_ns)
        self._holders[effect.id] = holder
        effect.facts["holder"] = msgspec.to_builtins(holder.identity)

    async def inject(self, effect: Effect) -> Injected:
        report = await engage(self._holders.get(effect.id))
        effect.facts["burners"] = report["workers"]
        return Injected(report["lo_ns"], report["hi_ns"])

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        burners, facts = _burners(effect), effect.facts
        ticks, (busy, total) = _ticks(burners), proc.cpu_busy_ticks()
        await asyncio.sleep(_WINDOW_S)
        cores = (_ticks(burners) - ticks) / _TICKS_PER_S / _WINDOW_S
        busy_after, total_after = proc.cpu_busy_ticks()
        fraction = (busy_after - busy) / max(1, total_after - total)
        asked = facts["load_fraction"] * facts["workers"]
        share_min = _SHARE_SATURATED_MIN if fraction >= _SATURATED else _SHARE_MIN
        confirmed = cores >= share_min * asked and fraction >= _BUSY_MIN * asked / facts["processors"]
        text = (
            f"workers used {cores:.2f} of {asked:.2f} processors asked, the node was {fraction:.0%} busy,"
            f" over {_WINDOW_S * 1000:.0f} ms"
        )
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    async def revert(self, effect: Effect) -> None:
        if holder := effect.facts.get("holder"):
            await release(msgspec.convert(holder, proc.Identity))
        self._holders.pop(effect.id, None)
        for _ in range(200):
            if not self.residue(effect):
                return
            await asyncio.sleep(0.002)

    def residue(self, effect: Effect) -> list[str]:
        holder = effect.facts.get("holder")
        held = [msgspec.convert(holder, proc.Identity)] if holder else []
        return [f"load worker (pid {one.pid}) still runs" for one in [*held, *_burners(effect)] if proc.alive(one)]

    def remedy(self, effect: Effect) -> str:
        holder = effect.facts.get("holder")
        pids = [str(one.pid) for one in _burners(effect)] + ([str(holder["pid"])] if holder else [])
        return f"kill -KILL {' '.join(pids)}"


def _burners(effect: Effect) -> list[proc.Identity]:
    return msgspec.convert(effect.facts.get("burners", []), list[proc.Identity])


def _ticks(identities: list[proc.Identity]) -> int:
    return sum(found.cpu_ticks for one in identities if (found := proc.stat(one.pid)))
