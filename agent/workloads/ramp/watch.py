"""The watch of a ramp's pods: each event is stamped as it arrives, before it is looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote

import msgspec
import urllib3

from agent.workloads.ramp.api import Api
from agent.workloads.ramp.columns import Columns, Pod
from protos.error import BlackstartError

_READ: Final = 1 << 16
_AGAIN_S: Final = 0.2
_PAGE: Final = 1000
_SAY_NS: Final = 1_000_000_000
_IDLE_S: Final = 30.0  # without any event, bookmarks among them


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class Watcher:
    """A thread that keeps the columns up to date. *gaps*: how often the watch had to begin anew."""

    def __init__(self, api: Api, namespace: str, selector: str, columns: Columns) -> None:
        self._api, self._columns = api, columns
        self._all = f"/api/v1/namespaces/{namespace}/pods?labelSelector={quote(selector)}"
        self._path = f"{self._all}&watch=1&allowWatchBookmarks=true"
        self._decoder, self._pod = msgspec.json.Decoder(_Event), msgspec.json.Decoder(Pod)
        self._version, self._ended = "", threading.Event()
        self._answer: Any = None
        self.gaps, self.events = 0, 0
        self._thread = threading.Thread(target=self._follow, name="watch", daemon=True)

    def start(self, version: str) -> None:
        """From the list's resource version on: no pod is missed."""
        self._version = version
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    def _follow(self) -> None:
        while not self._ended.is_set():
            try:
                self._read()
            except (urllib3.exceptions.HTTPError, OSError, ValueError, msgspec.DecodeError, BlackstartError):
                self.gaps += 1
                time.sleep(_AGAIN_S)

    def _read(self) -> None:
        if not self._version:
            self._list()
        path = f"{self._path}&resourceVersion={self._version}"
        answer = self._api.open(path, _IDLE_S)
        try:
            if answer.status == 410:  # too old to go on from
                self._version, self.gaps = "", self.gaps + 1
                return
            if answer.status != 200:
                raise ValueError(f"the watch is answered by {answer.status}")
            rest = b""
            while not self._ended.is_set() and (part := answer.read1(_READ)):
                at_ns = time.monotonic_ns()
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    if not self._take(line, at_ns):
                        return
        finally:
            answer.close()

    def _list(self) -> None:
        """The state of now, where what led to it is not to be had any more: what went in between is gone too."""
        pods, more = list[Pod](), ""
        while True:
            page = self._api.call("GET", f"{self._all}&limit={_PAGE}{more}")
            pods += msgspec.convert(page.get("items") or [], list[Pod])
            if not (token := page["metadata"].get("continue")):
                break
            more = f"&continue={quote(token)}"
        at_ns = time.monotonic_ns()
        for pod in pods:
            self._columns.take("MODIFIED", pod, at_ns)
        self._columns.reconcile((pod.metadata.name for pod in pods), at_ns)
        self._version = str(page["metadata"]["resourceVersion"])

    def _take(self, line: bytes, at_ns: int) -> bool:
        """False when the watch has to begin anew."""
        event = self._decoder.decode(line)
        if event.type == "ERROR":
            self._version, self.gaps = "", self.gaps + 1
            return False
        pod = self._pod.decode(event.object)
        self._version = pod.metadata.resourceVersion
        if event.type != "BOOKMARK":
            self.events += 1
            self._columns.take(event.type, pod, at_ns)
        return True


class Patience:
    """How long a stage may take: to the end of the ramp's time, and *stall_s* without progress."""

    def __init__(self, columns: Columns, until_ns: int, stall_s: float, say: Callable[[], None]) -> None:
        self._columns, self.until_ns, self._stall_ns, self._say = columns, until_ns, stall_s * 1e9, say

    def wait(self, reached: Callable[[], bool], progress: Callable[[], float]) -> str:
        """Empty once *reached*; else "timeout", or "stalled" where *progress* did not change."""
        last, since_ns = progress(), time.monotonic_ns()
        said_ns = since_ns
        while not reached():
            now_ns = time.monotonic_ns()
            if now_ns >= self.until_ns:
                return "timeout"
            if (now := progress()) != last:
                last, since_ns = now, now_ns
            if now_ns - since_ns >= self._stall_ns:
                return "stalled"
            if now_ns - said_ns >= _SAY_NS:
                said_ns = now_ns
                self._say()
            with self._columns.changed:
                self._columns.changed.wait(0.1)
        return ""
