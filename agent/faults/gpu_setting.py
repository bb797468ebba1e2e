"""What `gpu.power_cap` and `gpu.clock_lock` have in common: a driver's setting that outlives whoever set it."""

from __future__ import annotations

import abc
import time
from typing import Annotated, Any

from msgspec import Meta

from agent.faults.base import Effect, Injected
from agent.system import nvml

Gpus = Annotated[list[str], Meta(description="GPUs by UUID or index; empty: all of the node")]


class GpuSetting(abc.ABC):
    """prepare and inject; a fault adds `_set`, and what it means."""

    def missing(self) -> str:
        return nvml.missing()

    def prepare(self, effect: Effect) -> None:
        """Nothing has to live for a setting: what it was before is in the facts."""
        del effect

    async def inject(self, effect: Effect) -> Injected:
        lo_ns = time.monotonic_ns()
        with nvml.device(effect.facts["uuid"]) as (module, handle):
            self._set(module, handle, effect.facts)
        return Injected(lo_ns, time.monotonic_ns())

    @abc.abstractmethod
    def _set(self, module: Any, handle: Any, facts: dict[str, Any]) -> None:
        """Makes the setting on the GPU of *handle*."""


def there(effect: Effect) -> bool:
    """Whether the GPU is still on the node."""
    return not nvml.missing() and any(gpu.uuid == effect.facts["uuid"] for gpu in nvml.gpus())
