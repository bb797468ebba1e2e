"""What the node did from beginning to end, five times a second, in columns.

Invariant: nothing is made up: a gauge that is not there is not a number, and says why. The instants are those of the
node's monotonic clock, so that faults can be laid beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import statistics
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import psutil

from agent.system import nvml
from agent.system.board import Board
from agent.system.energy import Meter
from agent.system.gpu_gauge import Reading, Watch, reasons

Json = dict[str, Any]
STEP_S: Final = 0.2
_ROWS_MAX: Final = 600  # of what is told
_GAUGES: Final = ("sm", "encoder", "decoder", "memory_mb", "power_w", "clock_mhz", "video_clock_mhz")


class Gpu:
    """Columns of one GPU, a row a sample."""

    def __init__(self, uuid: str, name: str) -> None:
        self.uuid, self.name = uuid, name
        self.columns = {gauge: array("d") for gauge in Reading._fields if gauge != "slower"}
        self.slower: array[int] = array("Q")

    def add(self, reading: Reading) -> None:
        for gauge, column in self.columns.items():
            column.append(getattr(reading, gauge))
        self.slower.append(reading.slower)

    def over(self, low: int, high: int, span_s: float) -> Json:
        """Of the samples from *low* to *high*: `{gauge: {mean, max}}` of those it has, energy, throttling, errors."""
        found: Json = {"uuid": self.uuid, "name": self.name, "samples": high - low}
        found["hz"] = (high - low) / span_s if span_s else 0.0
        for gauge in _GAUGES:
            values = [value for value in self.columns[gauge][low:high] if not math.isnan(value)]
            if values:
                found[gauge] = {"mean": statistics.fmean(values), "max": max(values)}
        for gauge in ("energy_j", "errors"):
            values = [value for value in self.columns[gauge][low:high] if not math.isnan(value)]
            if values:
                found[gauge] = values[-1] - values[0]
        bits = 0
        for row in self.slower[low:high]:
            bits |= row
        found["slower"] = reasons(bits)
        return found


class Timeline:
    """Samples while `running`; asked of afterwards."""

    def __init__(self, board: Board) -> None:
        self._board, self._meter = board, Meter()
        self._at: array[int] = array("q")
        self._pictures: array[int] = array("q")
        self._busy = array("d")
        self._joules = array("d")
        self._watch: Watch | None = None
        self.no_gpu, self.no_meter = nvml.missing(), self._meter.missing
        if not self.no_gpu:
            try:
                self._watch = Watch()
            except Exception as error:  # noqa: BLE001 - whatever a driver has to say is no reason not to encode
                self.no_gpu = f"no GPU ({error})"
        self._gpus = [Gpu(*one) for one in self._watch.names] if self._watch else []
        self.xids: list[int] = []
        self._cpu = processors()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Timeline]:
        """Samples meanwhile."""
        task = asyncio.create_task(self._sample())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            if self._watch is not None:
                with contextlib.suppress(Exception):
                    self.xids += self._watch.xids()
                    self._watch.close()

    async def _sample(self) -> None:
        due = time.monotonic()
        while True:
            self._once()
            due += STEP_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - STEP_S)  # what was missed is not made up for

    def _once(self) -> None:
        cpu = processors()
        whole = cpu[1] - self._cpu[1]
        self._at.append(time.monotonic_ns())
        self._pictures.append(self._board.pictures())
        self._busy.append((cpu[0] - self._cpu[0]) / whole if whole else math.nan)
        self._joules.append(self._meter.joules() if not self._meter.missing else math.nan)
        self._cpu = cpu
        if self._watch is not None and not self.no_gpu:
            try:
                for gpu, reading in zip(self._gpus, self._watch.read(), strict=True):
                    gpu.add(reading)
                self.xids += self._watch.xids()
            except Exception as error:  # noqa: BLE001 - a GPU that falls off its bus is a finding, the encoding goes on
                self.no_gpu = f"the GPU's gauges ended after {len(self._at)} samples: {error}"

    def gpus(self, from_ns: int, to_ns: int) -> list[Json]:
        """What each did between two instants."""
        low, high = bisect_left(self._at, from_ns), bisect_right(self._at, to_ns)
        return [one.over(low, high, (to_ns - from_ns) / 1e9) for one in self._gpus]

    def joules(self, from_ns: int, to_ns: int) -> float | None:
        """What the processors took between two instants; None without a meter."""
        low, high = bisect_left(self._at, from_ns), bisect_right(self._at, to_ns) - 1
        if self._meter.missing or high <= low:
            return None
        return self._joules[high] - self._joules[low]

    def document(self) -> Json:
        """`{at_ns, pictures_s, cpu_busy, gpu_encoder, gpu_sm}`, at most 600 rows: means of neighbours."""
        step = max(1, -(-(len(self._at) - 1) // _ROWS_MAX))
        edges = list(range(0, len(self._at), step))
        found: Json = {"at_ns": [], "pictures_s": [], "cpu_busy": []}
        found |= {f"gpu_{name}": [] for name in ("sm", "encoder")} if self._gpus else {}
        for low, high in itertools.pairwise(edges):
            span_s = (self._at[high] - self._at[low]) / 1e9
            found["at_ns"].append(self._at[high])
            found["pictures_s"].append(round((self._pictures[high] - self._pictures[low]) / span_s, 2))
            found["cpu_busy"].append(_mean(self._busy[low + 1 : high + 1]))
            for name in ("sm", "encoder") if self._gpus else ():
                rows = [value for one in self._gpus for value in one.columns[name][low + 1 : high + 1]]
                found[f"gpu_{name}"].append(_mean(rows))
        return found


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return round(statistics.fmean(known), 4) if known else None


def processors() -> tuple[float, float]:
    """Busy and all processor seconds of the node so far."""
    times = psutil.cpu_times()
    whole = sum(value for name, value in times._asdict().items() if not name.startswith("guest"))
    return whole - times.idle - getattr(times, "iowait", 0.0), whole
