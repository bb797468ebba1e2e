"""GPUs through NVML: limits, clocks, memory, and who uses them.

Invariant: a GPU is named by its UUID, never by its index, which can change. NVML is opened and closed around each use.
Source: NVIDIA Management Library reference; the module `pynvml` of the distribution nvidia-ml-py.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any, NamedTuple

from protos.error import FaultError, Problem, SpecError


class Gpu(NamedTuple):
    """One GPU as it is now; power in milliwatts, clocks in MHz."""

    uuid: str
    number: int  # the index that NVML gives it now
    name: str
    limit_mw: int
    default_mw: int
    least_mw: int
    most_mw: int
    clock_max_mhz: int


def missing() -> str:
    """Why there is no GPU to work on, in words; empty if there is one."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return "no GPU (no NVIDIA driver library)"
    try:
        import pynvml  # noqa: F401
    except ImportError:
        return "the gpu extra (nvidia-ml-py)"
    try:
        return "" if gpus() else "no GPU"
    except FaultError as error:
        return f"no GPU ({error})"


@contextlib.contextmanager
def opened() -> Iterator[Any]:
    """The module, between nvmlInit and nvmlShutdown; FaultError for whatever NVML refuses."""
    try:
        import pynvml
    except ImportError as error:
        raise FaultError("nvidia-ml-py is not installed") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise FaultError(str(error)) from error
    try:
        yield pynvml
    except pynvml.NVMLError as error:
        raise FaultError(f"NVML: {error}") from error
    finally:
        pynvml.nvmlShutdown()


def gpus() -> list[Gpu]:
    """All GPUs of the node."""
    with opened() as nvml:
        return [_read(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]


def _read(nvml: Any, index: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    least, most = nvml.nvmlDeviceGetPowerManagementLimitConstraints(device)
    return Gpu(
        text(nvml.nvmlDeviceGetUUID(device)), index, text(nvml.nvmlDeviceGetName(device)),
        nvml.nvmlDeviceGetPowerManagementLimit(device), nvml.nvmlDeviceGetPowerManagementDefaultLimit(device),
        least, most, nvml.nvmlDeviceGetMaxClockInfo(device, nvml.NVML_CLOCK_GRAPHICS),
    )  # fmt: skip


def text(value: Any) -> str:
    """What NVML says, which older modules give as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def chosen(names: list[str]) -> list[Gpu]:
    """The GPUs that *names* mean (UUIDs or indices), all for none; SpecError for one that is not there."""
    there = gpus()
    if not names:
        return there
    found = []
    for at, name in enumerate(names):
        match = [gpu for gpu in there if name in (gpu.uuid, str(gpu.number))]
        if not match:
            known = ", ".join(f"{gpu.number} ({gpu.uuid})" for gpu in there)
            raise SpecError(Problem(f"spec.gpus[{at}]", f"no GPU {name!r} on this node", f"there are: {known}"))
        found += match
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def device(uuid: str) -> Iterator[tuple[Any, Any]]:
    """The module and the handle of one GPU."""
    with opened() as nvml:
        yield nvml, nvml.nvmlDeviceGetHandleByUUID(uuid)


def used_bytes(uuid: str) -> int:
    """Device memory in use."""
    with device(uuid) as (nvml, handle):
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).used)


def free_bytes(uuid: str) -> int:
    """Device memory that is free."""
    with device(uuid) as (nvml, handle):
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).free)


def processes(uuid: str) -> list[int]:
    """Pids that hold the GPU, for computing or for graphics."""
    with device(uuid) as (nvml, handle):
        rows = [
            *nvml.nvmlDeviceGetComputeRunningProcesses(handle), *nvml.nvmlDeviceGetGraphicsRunningProcesses(handle),
        ]  # fmt: skip
    return sorted({int(row.pid) for row in rows})


def encoder_sessions(uuid: str) -> int:
    """Encode sessions that are open on the GPU."""
    with device(uuid) as (nvml, handle):
        return int(nvml.nvmlDeviceGetEncoderStats(handle)[0])


def settings() -> frozenset[str]:
    """Power limits and clocks that a fault may have left changed; nothing, and no cost, without a driver."""
    if missing():
        return frozenset()
    with contextlib.suppress(FaultError):
        return frozenset(f"{gpu.uuid} power limit {gpu.limit_mw} mW" for gpu in gpus())
    return frozenset()
