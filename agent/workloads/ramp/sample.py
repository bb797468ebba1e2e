"""What the components and this machine tell while a ramp goes on: counters at each end of a stage, gauges each second.

Invariant: what cannot be asked is None in the evidence, never 0.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import psutil
import urllib3

from agent.workloads.ramp import prometheus
from agent.workloads.ramp.api import Api
from agent.workloads.ramp.prometheus import Scrape
from protos.error import ProbeError

_EVERY_S: Final = 1.0
_OF_API: Final = (
    "apiserver_request_sli_duration_seconds_", "apiserver_request_duration_seconds_sum",
    "apiserver_flowcontrol_rejected_requests_total", "apiserver_flowcontrol_request_wait_duration_seconds_",
    "etcd_request_duration_seconds_sum", "etcd_request_duration_seconds_count",
)  # fmt: skip
_OF_COMPONENT: Final = (
    "rest_client_rate_limiter_duration_seconds_sum", "scheduler_pending_pods",
    "scheduler_scheduling_algorithm_duration_seconds_sum", "scheduler_scheduling_attempt_duration_seconds_",
    "workqueue_depth", "workqueue_work_duration_seconds_sum",
)  # fmt: skip


@dataclass
class Process:
    """One of the control plane's: highest resident memory seen, processor time since the beginning."""

    handle: psutil.Process
    cpu_before_s: float
    rss_bytes_max: int = 0
    cpu_s: float = 0.0


@dataclass
class Moment:
    """Counters of one instant. A component that could not be asked is missing."""

    scrapes: dict[str, Scrape]
    cpu_first: Any  # times of this machine's processors, before asking
    cpu_last: Any  # and after: what asking costs is in no stage
    own_s: float | None  # processor time of the control plane and of the ramp; None: where that is is not known


@dataclass
class Gauges:
    """The highest seen since they were taken last."""

    depth: float = 0.0
    unschedulable: float = 0.0


class Sampler:
    """A thread that looks once a second. *metrics*: pages of components; *pids*: of processes on this machine."""

    def __init__(self, api: Api, metrics: Mapping[str, str], pids: Mapping[str, int]) -> None:
        self._api, self._metrics = api, metrics
        self.unasked: dict[str, str] = {}  # components that could not be asked, and why
        self.processes: dict[str, Process] = {}
        for name, pid in pids.items():
            with contextlib.suppress(psutil.Error):
                handle = psutil.Process(pid)
                self.processes[name] = Process(handle, _cpu_s(handle))
        self._gauges, self._lock, self._ended = Gauges(), threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._follow, name="sample", daemon=True)

    def start(self) -> None:
        self._look()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._look()

    def moment(self) -> Moment:
        """Counters of now."""
        scrapes, cpu_first = {}, psutil.cpu_times()
        for name, url in {"api": "/metrics", **self._metrics}.items():
            if (found := self._scrape(name, url, _OF_API if name == "api" else _OF_COMPONENT)) is not None:
                scrapes[name] = found
        return Moment(scrapes, cpu_first, psutil.cpu_times(), self._own_s())

    def _own_s(self) -> float | None:
        if not self.processes:
            return None
        own = psutil.Process()
        found = 0.0
        for handle in (own, *own.children(), *(one.handle for one in self.processes.values())):
            with contextlib.suppress(psutil.Error):
                found += _cpu_s(handle)
        return found

    def take_gauges(self) -> Gauges:
        with self._lock:
            taken, self._gauges = self._gauges, Gauges()
        return taken

    def _follow(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(psutil.Error):
                process.rss_bytes_max = max(process.rss_bytes_max, process.handle.memory_info().rss)
                process.cpu_s = _cpu_s(process.handle) - process.cpu_before_s
        for name, url in self._metrics.items():
            scrape = self._scrape(name, url, ("workqueue_depth", "scheduler_pending_pods"))
            if scrape is None:
                continue
            depth = prometheus.total(scrape, "workqueue_depth", of_ramp)
            waiting = prometheus.total(scrape, "scheduler_pending_pods", lambda at: at["queue"] == "unschedulable")
            with self._lock:
                self._gauges.depth = max(self._gauges.depth, depth or 0.0)
                self._gauges.unschedulable = max(self._gauges.unschedulable, waiting or 0.0)

    def _scrape(self, name: str, url: str, wanted: tuple[str, ...]) -> Scrape | None:
        try:
            return prometheus.parse(self._api.text(url), wanted)
        except (ProbeError, urllib3.exceptions.HTTPError, OSError) as error:
            self.unasked.setdefault(name, str(error)[:300])
            return None


def of_ramp(labels: Mapping[str, str]) -> bool:
    """Whether a work queue is of the controllers that make pods."""
    return labels.get("name") in ("deployment", "replicaset", "horizontalpodautoscaler")


def busy_fraction(before: Any, after: Any) -> float:
    """Of this machine's processors, by whomever."""
    whole = sum(after) - sum(before) - (after.guest - before.guest) - (after.guest_nice - before.guest_nice)
    idle = after.idle + after.iowait - before.idle - before.iowait
    return 1.0 - idle / whole if whole > 0 else 0.0


def own_fraction(before: Moment, after: Moment) -> float | None:
    """Of this machine's processors, by the control plane and the ramp."""
    if before.own_s is None or after.own_s is None:
        return None
    whole = sum(after.cpu_last) - sum(before.cpu_last)
    return (after.own_s - before.own_s) / whole if whole > 0 else None


def _cpu_s(handle: psutil.Process) -> float:
    times = handle.cpu_times()
    return float(times.user + times.system)
