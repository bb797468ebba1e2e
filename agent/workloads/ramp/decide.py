"""What an autoscaler wants over time, read from the deployment that it scales."""

from __future__ import annotations

import threading
import time
from typing import Any

from agent.workloads.ramp.api import Api
from protos.error import BlackstartError


class Decisions:
    """A thread that looks at `spec.replicas`; `stop` answers the mean seconds a pod until it was wanted."""

    def __init__(self, api: Api, path: str, high: int, begin_ns: int, every_s: float) -> None:
        self._api, self._path, self._high, self._every_s = api, path, high, every_s
        self._ended, self._missing_s, self._last_ns = threading.Event(), 0.0, begin_ns
        self._low, self._count = 0, 0
        self._thread = threading.Thread(target=self._follow, name="decide", daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._ended.set()
        self._thread.join()
        return self._missing_s / max(1, self._high - self._low)

    def _follow(self) -> None:
        while True:
            try:
                found: Any = self._api.call("GET", self._path)
            except BlackstartError:
                found = None
            if found is not None:
                now_ns, replicas = time.monotonic_ns(), int(found["spec"]["replicas"])
                self._low = self._low or replicas
                self._missing_s += max(0, self._high - replicas) * (now_ns - self._last_ns) / 1e9
                self._last_ns = now_ns
            if self._ended.wait(self._every_s):
                return
