"""`resource.cpu`: processor load on the node, a fraction of each of a number of processors."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from agent.faults.base import Effect, Injected, Page, Receipt, Undo
from agent.faults.held import HeldFault, holder_of
from agent.system import proc
from protos.error import Problem, SpecError

_WINDOW_S = 0.4
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SHARE_MIN = 0.5  # of the load asked, that the workers must have got
_SHARE_SATURATED_MIN = 0.2  # the same on a node with nothing left to give: then they compete, which is the effect
_SATURATED = 0.95
_BUSY_MIN = 0.7  # of the load asked: what the node as a whole must show


class CpuSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    load_fraction: Annotated[float, Meta(gt=0, le=1, description="of each processor loaded")] = 1.0
    workers: Annotated[int, Meta(ge=0, description="processors loaded; 0: all that the agent may use")] = 0


class ResourceCpu(HeldFault):
    """The load is seen in the workers' own processor time and confirmed by the node's busy fraction."""

    kind: ClassVar[str] = "resource.cpu"
    spec: ClassVar[type[msgspec.Struct]] = CpuSpec
    undo: ClassVar[Undo] = Undo.KERNEL
    grip: ClassVar[str] = "cpu"
    page: ClassVar[Page] = Page(
        does="Processors of the node are kept busy for a fraction of the time.",
        mechanism="Worker processes that compute for a part of every 20 ms.",
        proof="The workers' own processor time, and the node's busy fraction from /proc/stat.",
        ends="The workers die with their holder and the holder with the agent (PR_SET_PDEATHSIG); "
        "each has the deadline of its own.",
        limits="A share, not a reservation: on a saturated node the workers get what the scheduler gives them.",
        example={"load_fraction": 0.9, "workers": 2},
        source="prctl(2), proc(5)",
    )

    def missing(self) -> str:
        return ""

    def plan(self, spec: CpuSpec) -> list[Effect]:
        processors = len(os.sched_getaffinity(0))
        if spec.workers > processors:
            raise SpecError(Problem("spec.workers", f"{spec.workers} is more than this node's {processors} processors"))
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

    def _arguments(self, effect: Effect) -> dict[str, Any]:
        return {"load_fraction": effect.facts["load_fraction"], "workers": effect.facts["workers"]}

    async def inject(self, effect: Effect) -> Injected:
        report = await self._engage(effect)
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

    def _left(self, effect: Effect) -> list[str]:
        return [f"load worker (pid {one.pid}) still runs" for one in _burners(effect) if proc.alive(one)]

    def remedy(self, effect: Effect) -> str:
        holder = holder_of(effect)
        pids = [str(one.pid) for one in [*_burners(effect), *([holder] if holder else [])]]
        return f"kill -KILL {' '.join(pids)}"


def _burners(effect: Effect) -> list[proc.Identity]:
    return msgspec.convert(effect.facts.get("burners", []), list[proc.Identity])


def _ticks(identities: list[proc.Identity]) -> int:
    return sum(found.cpu_ticks for one in identities if (found := proc.stat(one.pid)))
