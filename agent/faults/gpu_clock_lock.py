"""`gpu.clock_lock`: a GPU's clocks are locked low."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from agent.faults.base import Effect, Injected, Page, Receipt, Undo
from agent.faults.gpu_setting import Gpus, GpuSetting, there
from agent.system import nvml
from protos.error import Problem, SpecError


class ClockLockSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    gpus: Gpus = []
    clock_mhz: Annotated[int, Meta(ge=1, description="graphics clock that it is held at, MHz")]


class GpuClockLock(GpuSetting):
    """Confirmed by the clock that the GPU reports, read after the lock."""

    kind: ClassVar[str] = "gpu.clock_lock"
    spec: ClassVar[type[msgspec.Struct]] = ClockLockSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="A GPU's graphics clock is held at a low frequency.",
        mechanism="nvmlDeviceSetGpuLockedClocks.",
        proof="The graphics clock that the GPU reports afterwards.",
        ends="The agent, the guardian, or the agent's next start resets the lock; a reboot does so by itself.",
        limits="Needs root. NVML cannot say whether somebody else has locked the clocks: their lock is lost at the "
        "end. "
        "An idle GPU may be slower than the lock anyway. Tried on a stand-in library only, not on a GPU.",
        example={"gpus": ["0"], "clock_mhz": 600},
        source="NVML reference, Device Commands",
    )

    def plan(self, spec: ClockLockSpec) -> list[Effect]:
        effects = []
        for gpu in nvml.chosen(spec.gpus):
            if spec.clock_mhz >= gpu.clock_max_mhz:
                raise SpecError(Problem("spec.clock_mhz", f"{gpu.name} runs at {gpu.clock_max_mhz} MHz at the most"))
            effects.append(
                Effect(
                    fault=self.kind,
                    resource=f"gpu:{gpu.uuid}:clock",
                    description=f"clock of {gpu.name} {gpu.number} locked at {spec.clock_mhz} MHz",
                    undo=self.undo,
                    facts={"uuid": gpu.uuid, "clock_mhz": spec.clock_mhz, "locked": True},
                )
            )
        return effects

    def _set(self, module: Any, handle: Any, facts: dict[str, Any]) -> None:
        module.nvmlDeviceSetGpuLockedClocks(handle, facts["clock_mhz"], facts["clock_mhz"])

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        clock = _clock(effect)
        text = f"the graphics clock is {clock} MHz"
        confirmed = clock <= effect.facts["clock_mhz"]
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    async def revert(self, effect: Effect) -> None:
        if there(effect):
            with nvml.device(effect.facts["uuid"]) as (module, handle):
                module.nvmlDeviceResetGpuLockedClocks(handle)
        effect.facts["locked"] = False

    def residue(self, effect: Effect) -> list[str]:
        """The driver does not tell of locks: what is known is whether the reset was accepted."""
        still = effect.facts["locked"] and there(effect)
        return [f"the clock of {effect.facts['uuid']} is still locked"] if still else []

    def remedy(self, effect: Effect) -> str:
        return f"nvidia-smi -i {effect.facts['uuid']} -rgc"


def _clock(effect: Effect) -> int:
    with nvml.device(effect.facts["uuid"]) as (module, handle):
        return int(module.nvmlDeviceGetClockInfo(handle, module.NVML_CLOCK_GRAPHICS))
