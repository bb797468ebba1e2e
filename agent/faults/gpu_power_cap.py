"""`gpu.power_cap`: a GPU may draw less power than it is used to, and slows down under load."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

from agent.faults.base import Effect, Injected, Page, Receipt, Undo
from agent.faults.gpu_setting import Gpus, GpuSetting, there
from agent.system import nvml
from protos.error import Problem, SpecError

_STEP_MW: Final = 1000


class PowerCapSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    gpus: Gpus = []
    power_w: Annotated[float, Meta(ge=0, description="power limit, watts; 0: by fraction")] = 0.0
    fraction: Annotated[float, Meta(gt=0, lt=1, description="of the present limit, where no power is given")] = 0.6


class GpuPowerCap(GpuSetting):
    """Confirmed by the limit that the driver enforces, which is not the one that was set."""

    kind: ClassVar[str] = "gpu.power_cap"
    spec: ClassVar[type[msgspec.Struct]] = PowerCapSpec
    undo: ClassVar[Undo] = Undo.GUARDIAN
    page: ClassVar[Page] = Page(
        does="A GPU may draw less power than it is used to: under load its clocks fall.",
        mechanism="nvmlDeviceSetPowerManagementLimit, within what the board allows.",
        proof="The enforced power limit, which the driver works out from all that bears on it.",
        ends="The agent, the guardian, or the agent's next start sets the limit back; a reboot does so by itself.",
        limits="Needs root. An idle GPU feels nothing: watch its clocks under load. Tried on a stand-in library only, "
        "not on a GPU.",
        example={"gpus": ["0"], "fraction": 0.6},
        source="NVML reference, Device Commands",
    )

    def plan(self, spec: PowerCapSpec) -> list[Effect]:
        effects = []
        for gpu in nvml.chosen(spec.gpus):
            wanted = round(spec.power_w * 1000) if spec.power_w else round(gpu.limit_mw * spec.fraction)
            if spec.power_w and not gpu.least_mw <= wanted <= gpu.most_mw:
                bounds = f"{gpu.least_mw / 1000:g}..{gpu.most_mw / 1000:g} W"
                raise SpecError(Problem("spec.power_w", f"{spec.power_w:g} W is not in {gpu.name}'s {bounds}"))
            wanted = max(wanted, gpu.least_mw)
            if wanted >= gpu.limit_mw:
                what = f"{wanted / 1000:g} W is no less than the present limit of {gpu.name} {gpu.number}"
                raise SpecError(Problem("spec.power_w", what, f"its least is {gpu.least_mw / 1000:g} W"))
            effects.append(
                Effect(
                    fault=self.kind,
                    resource=f"gpu:{gpu.uuid}:power",
                    description=f"power of {gpu.name} {gpu.number} capped at {wanted / 1000:g} W",
                    undo=self.undo,
                    facts={"uuid": gpu.uuid, "before_mw": gpu.limit_mw, "wanted_mw": wanted, "marks": [gpu.uuid]},
                )
            )
        return effects

    def _set(self, module: Any, handle: Any, facts: dict[str, Any]) -> None:
        module.nvmlDeviceSetPowerManagementLimit(handle, facts["wanted_mw"])

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        with nvml.device(effect.facts["uuid"]) as (module, handle):
            enforced = int(module.nvmlDeviceGetEnforcedPowerLimit(handle))
        confirmed = enforced <= effect.facts["wanted_mw"] < effect.facts["before_mw"]
        text = f"{enforced / 1000:g} W enforced (limit before: {effect.facts['before_mw'] / 1000:g} W)"
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)

    async def revert(self, effect: Effect) -> None:
        facts = effect.facts
        if not there(effect):
            return
        with nvml.device(facts["uuid"]) as (module, handle):
            if _ours(int(module.nvmlDeviceGetPowerManagementLimit(handle)), facts):  # not somebody else's
                module.nvmlDeviceSetPowerManagementLimit(handle, facts["before_mw"])

    def residue(self, effect: Effect) -> list[str]:
        facts = effect.facts
        if there(effect):
            with nvml.device(facts["uuid"]) as (module, handle):
                limit = int(module.nvmlDeviceGetPowerManagementLimit(handle))
            if _ours(limit, facts):
                return [f"the power limit of {facts['uuid']} is still {limit / 1000:g} W"]
        return []

    def remedy(self, effect: Effect) -> str:
        return f"nvidia-smi -i {effect.facts['uuid']} -pl {effect.facts['before_mw'] / 1000:g}"


def _ours(limit_mw: int, facts: dict[str, Any]) -> bool:
    """Whether the limit is the one that was set, which a driver may round to its own steps."""
    off_mw = abs(limit_mw - int(facts["wanted_mw"]))
    return off_mw <= _STEP_MW and off_mw < abs(limit_mw - int(facts["before_mw"]))
