"""`gpu.memory_hog`: a GPU's memory is used up."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from agent.faults.base import Effect, Injected, Page, Receipt, Undo
from agent.faults.gpu_setting import Gpus
from agent.faults.held import HeldFault, holder_of
from agent.system import nvml
from protos.error import Problem, SpecError

_MB = 1_000_000


class MemoryHogSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    gpus: Gpus = []
    leave_mb: Annotated[float, Meta(ge=0, description="device memory left free, megabytes")] = 256.0


class GpuMemoryHog(HeldFault):
    """Confirmed by NVML's count of used memory and by the holder's entry among its processes."""

    kind: ClassVar[str] = "gpu.memory_hog"
    spec: ClassVar[type[msgspec.Struct]] = MemoryHogSpec
    undo: ClassVar[Undo] = Undo.KERNEL
    grip: ClassVar[str] = "gpu_memory"
    page: ClassVar[Page] = Page(
        does="A GPU's memory is used up: encoders and models that start now fail to allocate.",
        mechanism="A holder allocates device memory through the CUDA driver API.",
        proof="NVML shows the memory in use, and the holder among the GPU's processes.",
        ends="The driver frees the memory with the holder, which dies with the agent.",
        limits="What runs already keeps its memory. Tried on a stand-in library only, not on a GPU.",
        example={"gpus": ["0"], "leave_mb": 100},
        source="CUDA Driver API, cuMemAlloc",
    )

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, int] = {}

    def missing(self) -> str:
        return nvml.missing()

    def plan(self, spec: MemoryHogSpec) -> list[Effect]:
        effects = []
        for gpu in nvml.chosen(spec.gpus):
            size = nvml.free_bytes(gpu.uuid) - int(spec.leave_mb * _MB)
            if size <= 0:
                raise SpecError(Problem("spec.leave_mb", f"{gpu.name} {gpu.number} has not as much free", "leave less"))
            effects.append(
                Effect(
                    fault=self.kind,
                    resource=f"gpu:{gpu.uuid}:memory",
                    description=f"{size / _MB:.0f} MB of the memory of {gpu.name} {gpu.number} taken",
                    undo=self.undo,
                    facts={"uuid": gpu.uuid, "bytes": size},
                )
            )
        return effects

    async def inject(self, effect: Effect) -> Injected:
        self._before[effect.id] = nvml.used_bytes(effect.facts["uuid"])
        return await super().inject(effect)

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        uuid, holder = effect.facts["uuid"], holder_of(effect)
        more = nvml.used_bytes(uuid) - self._before.pop(effect.id)
        seen = holder is not None and holder.pid in nvml.processes(uuid)
        text = f"{more / _MB:.0f} MB more in use; the holder is {'' if seen else 'not '}among the GPU's processes"
        confirmed = seen and more >= 0.9 * effect.facts["bytes"]
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)
