"""What became of each pod, as columns: a ramp of ten thousand makes no object a pod.

Times in ns are on this machine's monotonic clock, as requests began and ended and as watch events arrived; 0: not yet.
Times in s are the API server's own stamps, whole seconds, of whichever clock wrote them.
"""

from __future__ import annotations

import calendar
import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

NS_COLUMNS: Final = ("asked", "acked", "seen", "scheduled", "started", "ready", "gone")
S_COLUMNS: Final = ("api_created", "api_scheduled", "api_started", "api_ready")


class Condition(msgspec.Struct):
    type: str
    status: str
    lastTransitionTime: str | None = None  # noqa: N815 the API's name


class Metadata(msgspec.Struct):
    name: str = ""
    creationTimestamp: str | None = None  # noqa: N815
    resourceVersion: str = ""  # noqa: N815


class Status(msgspec.Struct):
    startTime: str | None = None  # noqa: N815
    conditions: list[Condition] = []


class Pod(msgspec.Struct):
    metadata: Metadata = msgspec.field(default_factory=Metadata)
    status: Status = msgspec.field(default_factory=Status)


class Columns:
    """Of one ramp. Pods of this client have their number in their name; others get the next one."""

    def __init__(self, prefix: str, count: int) -> None:
        self._prefix, self._named = prefix, dict[str, int]()
        self.ns = {name: array("q", bytes(8 * count)) for name in NS_COLUMNS}
        self.s = {name: array("d", bytes(8 * count)) for name in S_COLUMNS}
        self.count = dict.fromkeys(NS_COLUMNS, 0)
        self._alive = dict.fromkeys(NS_COLUMNS, 0)
        self._ready = bytearray(count)  # now
        self.changed = threading.Condition()

    def __len__(self) -> int:
        return len(self.ns["asked"])

    def take(self, kind: str, pod: Pod, at_ns: int) -> None:
        """One event of the watch."""
        at = self._index(pod.metadata.name)
        with self.changed:
            self._stamp("seen", at, at_ns)
            self._second("api_created", at, pod.metadata.creationTimestamp)
            if pod.status.startTime is not None:
                self._stamp("started", at, at_ns)
                self._second("api_started", at, pod.status.startTime)
            for condition in pod.status.conditions:
                if condition.status == "True" and condition.type in _BY_CONDITION:
                    name = _BY_CONDITION[condition.type]
                    self._stamp(name, at, at_ns)
                    self._second(f"api_{name}", at, condition.lastTransitionTime)
                if condition.type == "Ready":
                    self._now_ready(at, condition.status == "True" and not self.ns["gone"][at])
            if kind == "DELETED":
                self._stamp("gone", at, at_ns)
                self._now_ready(at, False)
            self.changed.notify_all()

    def reconcile(self, names: Iterable[str], at_ns: int) -> None:
        """Those there are now, by a fresh list: others that were there have gone unseen, at *at_ns* the latest."""
        there = {self._index(name) for name in names}
        with self.changed:
            for at, seen in enumerate(self.ns["seen"]):
                if seen and at not in there:
                    self._stamp("gone", at, at_ns)
                    self._now_ready(at, False)
            self.changed.notify_all()

    def requests(self, name: str, numbers: Sequence[int], stamps: Sequence[int]) -> None:
        """Stamps of this client's own requests."""
        column = self.ns[name]
        for at, stamp in zip(numbers, stamps, strict=True):
            column[at] = stamp

    def live(self, name: str = "ready") -> int:
        """Pods that got so far and are not gone; `ready`: those that are Ready now."""
        return self._alive[name]

    def spans(self, earlier: str, later: str, pods: range) -> Iterator[float]:
        """Seconds from one to the other, of pods that have both."""
        first, last = self.ns[earlier], self.ns[later]
        return ((last[at] - first[at]) / 1e9 for at in pods if first[at] and last[at])

    def _stamp(self, name: str, at: int, ns: int) -> None:
        if not self.ns[name][at]:
            self.ns[name][at] = ns
            self.count[name] += 1
            self._alive[name] += name != "ready"
            if name == "gone":
                for before in NS_COLUMNS:
                    self._alive[before] -= before != "ready" and bool(self.ns[before][at])

    def _now_ready(self, at: int, ready: bool) -> None:
        self._alive["ready"] += ready - self._ready[at]
        self._ready[at] = ready

    def _second(self, name: str, at: int, stamp: str | None) -> None:
        if stamp and not self.s[name][at]:
            self.s[name][at] = epoch_s(stamp)

    def _index(self, name: str) -> int:
        if self._prefix and name.startswith(self._prefix) and name[len(self._prefix) :].isdigit():
            return int(name[len(self._prefix) :])
        at = self._named.setdefault(name, len(self._named))
        if at >= len(self):
            more = max(1000, at + 1 - len(self))
            for stamps in self.ns.values():
                stamps.extend([0] * more)
            for seconds in self.s.values():
                seconds.extend([0.0] * more)
            self._ready.extend(bytes(more))
        return at


_BY_CONDITION: Final = {"PodScheduled": "scheduled", "Ready": "ready"}
_DAYS: Final[dict[str, int]] = {}


def epoch_s(stamp: str) -> float:
    """Seconds since 1970 of `2026-11-28T18:00:00Z`, the one form that the API server writes them in."""
    day = stamp[:10]
    if day not in _DAYS:
        _DAYS[day] = calendar.timegm((int(day[:4]), int(day[5:7]), int(day[8:]), 0, 0, 0))
    hours, minutes, seconds = stamp[11:19].split(":")
    return float(_DAYS[day] + int(hours) * 3600 + int(minutes) * 60 + int(seconds))
