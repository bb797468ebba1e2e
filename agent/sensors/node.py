"""The node's own gauges: processor, memory, load; and what the agent itself uses."""

from __future__ import annotations

import os
from typing import Final

import psutil

SERIES: Final = (
    ("node_cpu_busy_fraction", "1"),
    ("node_memory_available_bytes", "B"),
    ("node_load1", "1"),
    ("agent_rss_bytes", "B"),
    ("agent_cpu_fraction", "1"),
)


class NodeSensor:
    """Reads every series of `SERIES`, in that order. The first read's fractions cover no time and are 0."""

    def __init__(self) -> None:
        self._self = psutil.Process()
        self._self.cpu_percent()
        psutil.cpu_percent()

    def read(self) -> list[float]:
        return [
            psutil.cpu_percent() / 100,
            float(psutil.virtual_memory().available),
            os.getloadavg()[0],
            float(self._self.memory_info().rss),
            self._self.cpu_percent() / 100,
        ]
