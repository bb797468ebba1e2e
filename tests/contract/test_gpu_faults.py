"""What is particular to `gpu.*`, on a stand-in library: it shows which calls are made, nothing of a real GPU."""

from __future__ import annotations

import asyncio
import ctypes
import time
from typing import Any

import pytest

from agent.faults import registry
from agent.faults.base import Effect
from agent.system import cuda, nvml, proc
from protos.error import SpecError
from tests.chaos import standin
from tests.chaos.subject import gpu as subjects

pytestmark = pytest.mark.skipif(bool(standin.missing()), reason=standin.missing() or "can run")


def planned(kind: str, spec: dict[str, Any]) -> tuple[Any, Effect]:
    faults = registry.all_faults()
    (effect,) = registry.plan(faults, kind, spec)
    effect.boot_id, effect.deadline_ns = proc.boot_id(), time.monotonic_ns() + 20_000_000_000
    return faults[kind], effect


def test_the_structures_are_those_of_the_header() -> None:
    library = ctypes.CDLL(str(standin.libraries() / "libnvidia-encode.so.1"))
    for name in ("sizeof_list", "sizeof_params", "offset_open"):
        getattr(library, f"standin_{name}").restype = ctypes.c_size_t
    assert cuda.FunctionList.open_session.offset == library.standin_offset_open()
    assert ctypes.sizeof(cuda.FunctionList) >= library.standin_sizeof_list()
    assert ctypes.sizeof(cuda.SessionParameters) == library.standin_sizeof_params()


def test_without_a_gpu_every_kind_says_so() -> None:
    faults = registry.all_faults()
    for kind in ("power_cap", "clock_lock", "memory_hog", "process_kill", "encode_sessions"):
        assert faults[f"gpu.{kind}"].missing().startswith("no GPU")
    assert nvml.settings() == frozenset()


async def test_somebody_elses_limit_is_left_alone() -> None:
    with subjects.gpu() as uuid:
        fault, effect = planned("gpu.power_cap", {"fraction": 0.7})
        await fault.inject(effect)
        with nvml.device(uuid) as (module, handle):
            module.nvmlDeviceSetPowerManagementLimit(handle, 61000)
        await fault.revert(effect)
        assert subjects.seen(uuid)["limit"] == 61000
        assert fault.residue(effect) == []


async def test_all_sessions_are_taken_and_come_back_with_the_holders_death() -> None:
    with subjects.gpu() as uuid:
        fault, effect = planned("gpu.encode_sessions", {})
        fault.prepare(effect)
        receipt = await fault.observe(effect, await fault.inject(effect))
        assert receipt.confirmed, receipt.text
        assert "refused with status 10" in receipt.text
        assert nvml.encoder_sessions(uuid) == 5
        await fault.revert(effect)
        assert nvml.encoder_sessions(uuid) == 0


async def test_only_processes_that_match_are_killed() -> None:
    with subjects.gpu() as uuid, subjects.worker(uuid) as process:
        with pytest.raises(SpecError, match="names no target"):
            planned("gpu.process_kill", {"pattern": "no such program"})
        fault, effect = planned("gpu.process_kill", {"pattern": "Context"})
        receipt = await fault.observe(effect, await fault.inject(effect))
        assert receipt.confirmed, receipt.text
        assert await asyncio.to_thread(process.wait, 5) == -9


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("gpu.power_cap", {"power_w": 900}, "is not in stand-in GPU's 40..75 W"),
        ("gpu.power_cap", {"gpus": ["7"]}, "no GPU '7' on this node"),
        ("gpu.clock_lock", {"clock_mhz": 9000}, "runs at 2040 MHz at the most"),
        ("gpu.memory_hog", {"leave_mb": 1e6}, "has not as much free"),
    ],
)
def test_what_the_gpu_cannot_do_is_refused_in_words(kind: str, spec: dict[str, Any], said: str) -> None:
    with subjects.gpu(), pytest.raises(SpecError, match=said):
        planned(kind, spec)


def test_the_fingerprint_holds_the_power_limit() -> None:
    with subjects.gpu() as uuid:
        assert nvml.settings() == {f"{uuid} power limit 72000 mW"}
