"""Reading calls beside the ramp, ten a second: what another client of the API server meets meanwhile."""

from __future__ import annotations

import threading
import time
from array import array
from typing import Final
from urllib.parse import quote

import urllib3

from agent.workloads.ramp.api import Api

_EVERY_S: Final = 0.1


class Reader:
    """A thread; *latency*: ns of each call from when it was due. *failed*: answers that were none."""

    def __init__(self, api: Api, namespace: str, selector: str) -> None:
        self._api, self._ended = api, threading.Event()
        self._paths = (
            f"/api/v1/namespaces/{namespace}/pods?labelSelector={quote(selector)}&limit=10",
            f"/api/v1/namespaces/{namespace}",
        )
        self.latency, self.failed = array("q"), 0
        self._thread = threading.Thread(target=self._follow, name="read", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    def _follow(self) -> None:
        due, number = time.monotonic_ns(), 0
        while not self._ended.wait(max(0.0, (due - time.monotonic_ns()) / 1e9)):
            try:
                answer = self._api.send("GET", self._paths[number % 2])
                self.failed += answer.status >= 400
            except urllib3.exceptions.HTTPError:
                self.failed += 1
            self.latency.append(time.monotonic_ns() - due)
            due, number = max(due + int(_EVERY_S * 1e9), time.monotonic_ns() - int(1e9)), number + 1
