"""What GPUs do while they work, read several times a second.

Invariant: a gauge that a GPU does not have is not a number, never 0: who reads it cannot take it for idle.
Source: NVIDIA Management Library reference; a GPU's energy counter is there from Volta on.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from agent.system import nvml

_IDLE: Final = 0x1
_SLOWER: Final = {
    0x2: "clocks set", 0x4: "power cap", 0x8: "hardware slowdown", 0x20: "software thermal", 0x40: "hardware thermal",
    0x80: "power brake",
}  # fmt: skip  # bits of nvmlClocksEventReasons


class Reading(NamedTuple):
    """One GPU at one instant, shares as fractions of 1. *slower*: bits of why its clocks are held down."""

    sm: float
    encoder: float
    decoder: float
    memory_mb: float
    power_w: float
    clock_mhz: float
    video_clock_mhz: float
    energy_j: float  # since the driver was loaded
    slower: int
    errors: float  # of memory, uncorrected


def reasons(bits: int) -> list[str]:
    """In words, why clocks were held down; an idle GPU's are not."""
    return [text for bit, text in _SLOWER.items() if bits & bit]


class Watch:
    """All GPUs of the node, from now on. FaultError where NVML refuses, with its words."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._nvml: Any = self._stack.enter_context(nvml.opened())
        count = self._nvml.nvmlDeviceGetCount()
        self._handles = [self._nvml.nvmlDeviceGetHandleByIndex(number) for number in range(count)]
        self.names = [(nvml.text(self._nvml.nvmlDeviceGetUUID(one)), nvml.text(self._nvml.nvmlDeviceGetName(one)))
                      for one in self._handles]  # fmt: skip
        self._events = self._told()

    def _told(self) -> Any:
        """Where the driver tells of Xid errors; None where it does not."""
        try:
            events = self._nvml.nvmlEventSetCreate()
            for one in self._handles:
                self._nvml.nvmlDeviceRegisterEvents(one, self._nvml.nvmlEventTypeXidCriticalError, events)
        except (self._nvml.NVMLError, AttributeError):
            return None
        self._stack.callback(self._nvml.nvmlEventSetFree, events)
        return events

    def read(self) -> list[Reading]:
        """Each GPU now, in the order of `names`."""
        return [self._read(one) for one in self._handles]

    def xids(self) -> list[int]:
        """Xid errors since the last call."""
        found: list[int] = []
        while self._events is not None and len(found) < 100:
            try:
                found.append(int(self._nvml.nvmlEventSetWait_v2(self._events, 0).eventData))
            except self._nvml.NVMLError:
                break  # no more of them
        return found

    def close(self) -> None:
        self._stack.close()

    def _read(self, handle: Any) -> Reading:
        module = self._nvml

        def gauge(read: Callable[[], Any], unit: float = 1.0) -> float:
            try:
                return float(read()) * unit
            except module.NVMLError:
                return math.nan

        bits = gauge(lambda: module.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        return Reading(
            gauge(lambda: module.nvmlDeviceGetUtilizationRates(handle).gpu, 0.01),
            gauge(lambda: module.nvmlDeviceGetEncoderUtilization(handle)[0], 0.01),
            gauge(lambda: module.nvmlDeviceGetDecoderUtilization(handle)[0], 0.01),
            gauge(lambda: module.nvmlDeviceGetMemoryInfo(handle).used, 1e-6),
            gauge(lambda: module.nvmlDeviceGetPowerUsage(handle), 1e-3),
            gauge(lambda: module.nvmlDeviceGetClockInfo(handle, module.NVML_CLOCK_SM)),
            gauge(lambda: module.nvmlDeviceGetClockInfo(handle, module.NVML_CLOCK_VIDEO)),
            gauge(lambda: module.nvmlDeviceGetTotalEnergyConsumption(handle), 1e-3),
            0 if math.isnan(bits) else int(bits) & ~_IDLE,
            gauge(lambda: module.nvmlDeviceGetTotalEccErrors(
                handle, module.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, module.NVML_VOLATILE_ECC)),
        )  # fmt: skip
