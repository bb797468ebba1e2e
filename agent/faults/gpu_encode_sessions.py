"""`gpu.encode_sessions`: a GPU's hardware encoder has no session left."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from agent.faults.base import Effect, Injected, Page, Receipt, Undo
from agent.faults.gpu_setting import Gpus
from agent.faults.held import HeldFault
from agent.system import cuda, nvml


class EncodeSessionsSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    gpus: Gpus = []
    sessions: Annotated[int, Meta(ge=0, le=4096, description="sessions to open; 0: until none is left")] = 0


class GpuEncodeSessions(HeldFault):
    """Confirmed by NVML's count of sessions, and by the encoder's refusal where all were taken."""

    kind: ClassVar[str] = "gpu.encode_sessions"
    spec: ClassVar[type[msgspec.Struct]] = EncodeSessionsSpec
    undo: ClassVar[Undo] = Undo.KERNEL
    grip: ClassVar[str] = "gpu_sessions"
    page: ClassVar[Page] = Page(
        does="The hardware encoder of a GPU has no session left: the next encode fails to open.",
        mechanism="A holder opens NVENC sessions (nvEncOpenEncodeSessionEx) on a CUDA context until none is left.",
        proof="NVML counts the sessions; with all taken, NVENC refused one more.",
        ends="The driver closes the sessions with the holder, which dies with the agent.",
        limits="Data-centre GPUs have no fixed limit of sessions: there memory runs out first. "
        "Tried on a stand-in library only, not on a GPU.",
        example={"gpus": ["0"]},
        source="NVIDIA Video Codec SDK, NVENC programming guide",
    )

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, int] = {}

    def missing(self) -> str:
        return nvml.missing()

    def plan(self, spec: EncodeSessionsSpec) -> list[Effect]:
        return [
            Effect(
                fault=self.kind,
                resource=f"gpu:{gpu.uuid}:encoder",
                description=f"{spec.sessions or 'all'} encode sessions of {gpu.name} {gpu.number} taken",
                undo=self.undo,
                facts={"uuid": gpu.uuid, "sessions": spec.sessions},
            )
            for gpu in nvml.chosen(spec.gpus)
        ]

    async def inject(self, effect: Effect) -> Injected:
        self._before[effect.id] = nvml.encoder_sessions(effect.facts["uuid"])
        report = await self._engage(effect)
        effect.facts |= {"opened": report["opened"], "status": report["status"]}
        return Injected(report["lo_ns"], report["hi_ns"])

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        facts = effect.facts
        more = nvml.encoder_sessions(facts["uuid"]) - self._before.pop(effect.id)
        refused = facts["sessions"] or facts["status"] == cuda.NVENC_OUT_OF_MEMORY
        text = f"NVML counts {more} sessions more, {facts['opened']} were opened"
        text += "" if facts["sessions"] else f"; one more was refused with status {facts['status']}"
        confirmed = more >= facts["opened"] > 0 and bool(refused)
        return Receipt(confirmed=confirmed, text=text, lo_ns=injected.lo_ns, hi_ns=injected.hi_ns)
