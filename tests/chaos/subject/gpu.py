"""Targets of `gpu.*`: a GPU that a stand-in library plays (`tests.chaos.standin`), with state of its own a case."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.faults.gpu_xid_log import GpuXidLog
from agent.system import nvml
from tests.chaos import standin
from tests.chaos.case import Case, end, line, subject

WORKER = """
from agent.system.cuda import Context
import sys, time
Context(sys.argv[1]).allocate(1 << 30)
print("ready", flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def gpu() -> Iterator[str]:
    """The UUID of a stand-in GPU that this process and its children see."""
    with tempfile.TemporaryDirectory(prefix="blackstart-test-") as folder:
        added = standin.environment(Path(folder) / "gpu")
        before = {key: os.environ.get(key) for key in added}
        os.environ.update(added)
        try:
            yield nvml.gpus()[0].uuid
        finally:
            for key, value in before.items():
                os.environ.pop(key) if value is None else os.environ.update({key: value})


def seen(uuid: str) -> dict[str, Any]:
    with nvml.device(uuid) as (module, handle):
        clock = module.nvmlDeviceGetClockInfo(handle, module.NVML_CLOCK_GRAPHICS)
        limit = module.nvmlDeviceGetPowerManagementLimit(handle)
    return {
        "limit": limit, "clock": clock, "used": nvml.used_bytes(uuid), "sessions": nvml.encoder_sessions(uuid),
    }  # fmt: skip


def changing(kind: str, spec: dict[str, Any]) -> Iterator[Case]:
    with gpu() as uuid:
        before = seen(uuid)
        yield Case(kind, spec, lambda: seen(uuid), in_force=lambda: seen(uuid) != before)


@subject("gpu.power_cap", missing=standin.missing)
def power_cap() -> Iterator[Case]:
    yield from changing("gpu.power_cap", {"power_w": 50})


@subject("gpu.clock_lock", missing=standin.missing)
def clock_lock() -> Iterator[Case]:
    yield from changing("gpu.clock_lock", {"clock_mhz": 600})


@subject("gpu.memory_hog", missing=standin.missing)
def memory_hog() -> Iterator[Case]:
    yield from changing("gpu.memory_hog", {"leave_mb": 100})


@subject("gpu.encode_sessions", missing=standin.missing)
def encode_sessions() -> Iterator[Case]:
    yield from changing("gpu.encode_sessions", {})


@contextlib.contextmanager
def worker(uuid: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds memory of the GPU."""
    process = subprocess.Popen([sys.executable, "-c", WORKER, uuid], stdout=subprocess.PIPE)
    line(process)
    try:
        yield process
    finally:
        end(process)


@subject("gpu.process_kill", missing=standin.missing)
def process_kill() -> Iterator[Case]:
    with gpu() as uuid, worker(uuid) as process:
        yield Case(
            "gpu.process_kill", {}, lambda: {"processes": nvml.processes(uuid)}, spent=frozenset({"processes"}),
            vanish=lambda: (process.kill(), process.wait(), None)[-1],
        )  # fmt: skip


@subject("gpu.xid_log", missing=lambda: GpuXidLog().missing() and "needs root and a kernel log")
def xid_log() -> Iterator[Case]:
    yield Case("gpu.xid_log", {"xid": 79})
