"""`gpu.process_kill`: the processes that hold a GPU are killed."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from agent.faults import target
from agent.faults.base import Effect, Injected, Page, Receipt, Touched
from agent.faults.gpu_setting import Gpus
from agent.faults.process_kill import ProcessKill
from agent.system import nvml, proc
from protos.error import Problem, SpecError


class GpuProcessKillSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    gpus: Gpus = []
    pattern: Annotated[str, Meta(description="regular expression, searched in the command lines; empty: all")] = ""


class GpuProcessKill(ProcessKill):
    """As `process.kill`; confirmed by NVML's list of processes, too."""

    kind: ClassVar[str] = "gpu.process_kill"
    spec: ClassVar[type[msgspec.Struct]] = GpuProcessKillSpec
    page: ClassVar[Page] = Page(
        does="The processes that hold a GPU are killed.",
        mechanism="NVML names them; SIGKILL by pidfd to those very processes.",
        proof="/proc has none of them left, and NVML lists none of them any more.",
        ends="There is nothing to undo: the system under test recovers or does not.",
        limits="In a container NVML may show pids of the host, or none. Tried on a stand-in library only, not on a "
        "GPU.",
        example={"gpus": ["0"], "pattern": "ffmpeg"},
        source="NVML reference, nvmlDeviceGetComputeRunningProcesses",
    )

    def missing(self) -> str:
        return nvml.missing()

    def plan(self, spec: GpuProcessKillSpec) -> list[Effect]:  # type: ignore[override]  # another spec, by intent
        try:
            pattern = re.compile(spec.pattern)
        except re.error as error:
            raise SpecError(Problem("spec.pattern", f"not a regular expression: {error}")) from error
        effects = []
        for gpu in nvml.chosen(spec.gpus):
            pids = [pid for pid in nvml.processes(gpu.uuid) if pattern.search(proc.command_line(pid))]
            members = [identity for pid in pids if (identity := proc.identify(pid))]
            if members:
                effects.append(
                    Effect(
                        fault=self.kind,
                        resource=f"gpu:{gpu.uuid}:processes",
                        description=f"SIGKILL to {target.describe(members, len(members))} on {gpu.name} {gpu.number}",
                        undo=self.undo,
                        touches=Touched(processes=members),
                        facts={
                            "uuid": gpu.uuid, "targets": msgspec.to_builtins(members), "signal": "SIGKILL",
                            "gone_within_s": 5.0,
                        },
                    )
                )  # fmt: skip
        return effects

    async def observe(self, effect: Effect, injected: Injected) -> Receipt:
        receipt = await super().observe(effect, injected)
        pids = {row["pid"] for row in effect.facts["targets"]}
        listed = await asyncio.to_thread(nvml.processes, effect.facts["uuid"])
        left = pids & set(listed)
        text = f"{receipt.text}; NVML lists {len(left)} of them"
        return msgspec.structs.replace(receipt, confirmed=receipt.confirmed and not left, text=text)
