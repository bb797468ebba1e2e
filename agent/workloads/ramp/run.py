"""A ramp from its first pod to the proof that all is gone.

Invariant: whatever happens after the first request, `Ramp.run` comes to the removal, and says what it left.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable
from typing import Any, Final

from agent.workloads.ramp import limiter, measure, objects, stage
from agent.workloads.ramp.api import MERGE_TYPE, Api
from agent.workloads.ramp.columns import Columns
from agent.workloads.ramp.creator import DELETE_NOW, Answer, Creators
from agent.workloads.ramp.read import Reader
from agent.workloads.ramp.sample import Moment, Sampler
from agent.workloads.ramp.spec import RampSpec
from agent.workloads.ramp.sweep import sweep
from agent.workloads.ramp.watch import Patience, Watcher
from protos.error import ProbeError

Json = dict[str, Any]
Say = Callable[[str], None]
_SAY_S: Final = 2.0
_DECIDE_S: Final = 0.2  # between two looks at what an autoscaler wants


class Ramp:
    """One ramp. *say*: progress, for a human."""

    def __init__(self, spec: RampSpec, ramp: str, run: str, say: Say) -> None:
        self._spec, self._say = spec, say
        self._objects = objects.Objects(spec, ramp, run)
        self._levels = stage.levels(spec)
        own = spec.mode == "pods"
        self._columns = Columns(f"{ramp}-" if own else "", spec.to)
        self._api = Api()  # first: creators are forked with the library loaded, before there is any connection
        self._creators = Creators(spec.creators, spec.threads, self._objects.template()) if own else None
        self._sampler = Sampler(self._api, spec.metrics, spec.processes)
        self._latency: array[int] = array("q")
        self.removal: Json | None = None  # once it was tried
        self._wanted = 0  # pods that should be there by now
        until_ns = time.monotonic_ns() + int((spec.timeout_s - spec.removal_s) * 1e9)
        self._patience = Patience(self._columns, until_ns, spec.stall_s, self._progress)

    def run(self) -> Json:
        """The result; ProbeError and RefusedError once what was made is gone again."""
        try:  # whatever ends it, Ctrl-C and SIGTERM too: no creator goes on, and then what they made is removed
            try:
                result = self._measure()
            finally:
                self._close()
        finally:
            removal = self._remove()
        return result | {"removal": removal}

    def _close(self) -> None:
        if self._creators is not None:
            self._creators.close()

    def _remove(self) -> Json:
        spec = self._spec
        self._say(f"removing what ramp {self._objects.ramp} made")
        removed = threading.Event()
        threading.Thread(target=self._count_down, args=(removed,), daemon=True).start()
        self.removal = sweep(self._api, spec.namespace, self._objects.ramp, spec.removal_s, forced=spec.played)
        removed.set()
        return self.removal

    def _count_down(self, removed: threading.Event) -> None:
        while not removed.wait(_SAY_S):
            self._say(f"removing: {self._columns.live('seen')} pods left")

    def _measure(self) -> Json:
        spec, api = self._spec, self._api
        version = api.call("GET", "/version")["gitVersion"]
        offered = objects.room(api, spec)
        self._objects.prepare(api, self._say, self._patience.until_ns)
        pods = f"/api/v1/namespaces/{spec.namespace}/pods?limit=1"
        self._watcher = Watcher(api, spec.namespace, self._objects.selector, self._columns)
        self._watcher.start(str(api.call("GET", pods)["metadata"]["resourceVersion"]))
        self._reader = Reader(api, spec.namespace, self._objects.selector)
        self._sampler.start()
        self._reader.start()
        first = self._sampler.moment()
        try:
            stages = self._up()
            top = self._at_top(offered)
            last = self._sampler.moment()
            if spec.down and stages[-1]["ended"] != "timeout":
                stages += self._down()
        finally:
            for part in (self._reader, self._sampler):  # the watch goes on: it shows how the removal does
                part.stop()
        return {"spec": _document(spec), "version": version, "stages": stages, "top": top, **self._whole(first, last)}

    def _up(self) -> list[Json]:
        found = []
        low = 0
        for number, high in enumerate(self._levels):
            if low == high:
                continue
            found.append(self._rise(low, high, first=number == 0))
            low = high
            if found[-1]["ended"]:
                break  # higher stages would only wait for the same
        return found

    def _rise(self, low: int, high: int, *, first: bool) -> Json:
        spec, columns, pods = self._spec, self._columns, range(low, high)
        before = self._sampler.moment()
        self._sampler.take_gauges()
        self._wanted, answers, decided = high, list[Answer](), 0.0
        begin_ns = self._order_up(low, high)
        watch = self._decision(high, begin_ns) if spec.mode == "hpa" and not first else None
        ended = self._patience.wait(lambda: columns.live() >= high, self._progressed)
        if self._creators is not None:
            answers = self._take(ended)
        if watch is not None:
            decided = watch()
        end_ns = time.monotonic_ns()
        after = self._sampler.moment()
        if self._creators is None:
            for at in pods:
                columns.ns["asked"][at], columns.ns["acked"][at] = begin_ns, columns.ns["seen"][at]
        unfinished = sum(1 for at in pods if not columns.ns["ready"][at])
        rates = measure.rates(columns, pods, begin_ns)
        span_s = rates["ready"]["span_s"] if not unfinished else (end_ns - begin_ns) / 1e9
        counters = measure.evidence(spec, before, after, self._sampler.take_gauges(), answers, span_s)
        waiting = measure.waits(columns, pods, begin_ns, end_ns)
        seen = measure.joined(waiting, decided, unfinished, high - low, span_s, counters)
        return {
            "way": "up", "from": low, "to": high, "ended": ended, "unfinished": unfinished, "begin_ns": begin_ns,
            "took_s": span_s, "end_ns": begin_ns + int(span_s * 1e9), "rates": rates,
            "latency": measure.latencies(columns, pods), "limiter": limiter.bound(seen)._asdict(),
            "evidence": {name: getattr(seen, name) for name in seen.__dataclass_fields__},
            "slo": measure.slo(before, after), "errors": [answer.error for answer in answers if answer.error][:3],
        }  # fmt: skip

    def _order_up(self, low: int, high: int) -> int:
        """Has pods made up to *high*; the instant from which they were asked for."""
        spec, path = self._spec, self._objects.deployments
        if self._creators is not None:
            return self._creators.begin("POST", low, high, self._rate(), self._patience.until_ns)
        begin_ns = time.monotonic_ns()
        if low == 0:
            self._api.call("POST", path, self._objects.deployment() | {})
        if (low == 0 and high != spec.start) or (low and spec.mode == "deployment"):
            self._scale(high)
        elif low:
            scalers = f"/apis/autoscaling/v2/namespaces/{spec.namespace}/horizontalpodautoscalers"
            self._api.call("POST", scalers, self._objects.autoscaler(), spare=409)
        return begin_ns

    def _scale(self, replicas: int) -> None:
        path = f"{self._objects.deployments}/{self._objects.ramp}"
        self._api.call("PATCH", path, {"spec": {"replicas": replicas}}, MERGE_TYPE)

    def _rate(self) -> float:
        """Of requests, all creators together; 0: none."""
        spec = self._spec
        spread = (spec.to - spec.start) / spec.duration_s if spec.duration_s else 0.0
        return min(filter(None, (spec.qps, spread)), default=0.0)

    def _take(self, ended: str) -> list[Answer]:
        """The creators' answers; where the stage was given up they are ended in the middle of theirs."""
        assert self._creators is not None
        until = time.monotonic() + 5.0
        while ended and not self._creators.done() and time.monotonic() < until:
            time.sleep(0.05)
        if ended and not self._creators.done():
            raise ProbeError(f"the ramp was given up ({ended}) while requests were still under way")
        answers = list(self._creators.answers())
        for answer in answers:
            task = answer.task
            numbers = range(task.low + task.first, task.high, task.step)
            if task.method == "POST":
                self._columns.requests("asked", numbers, answer.asked)
                self._columns.requests("acked", numbers, answer.acked)
            self._latency.extend(answer.latency)
        return answers

    def _decision(self, high: int, begin_ns: int) -> Callable[[], float]:
        """Follows what an autoscaler wants; a call ends it: mean seconds a pod until it was wanted."""
        from agent.workloads.ramp.decide import Decisions

        path = f"{self._objects.deployments}/{self._objects.ramp}"
        return Decisions(self._api, path, high, begin_ns, _DECIDE_S).stop

    def _down(self) -> list[Json]:
        """From what there is to the lowest level, by the same stages."""
        columns, found = self._columns, list[Json]()
        there = max(columns.live("seen"), 0)
        levels = [level for level in reversed(self._levels) if level < there]
        for level in levels:
            begin_ns, gone = self._order_down(level, there), columns.count["gone"]
            self._wanted = level
            ended = self._patience.wait(lambda level=level: columns.live("seen") <= level, self._progressed)  # type: ignore[misc]
            answers = self._take(ended) if self._creators is not None else []
            stamps = sorted(stamp for stamp in columns.ns["gone"] if stamp)[gone:]
            rate, refused = measure.rate(stamps, begin_ns), sum(answer.refused for answer in answers)
            found.append({
                "way": "down", "from": there, "to": level, "ended": ended, "begin_ns": begin_ns,
                "rates": {"delete": rate}, "took_s": rate["span_s"], "refused": refused,
            })  # fmt: skip
            there = level
            if ended:
                break
        return found

    def _order_down(self, level: int, there: int) -> int:
        if self._creators is not None:
            query = DELETE_NOW if self._spec.played else ""
            return self._creators.begin("DELETE", level, there, self._spec.qps, self._patience.until_ns, query)
        begin_ns = time.monotonic_ns()
        if self._spec.mode == "hpa":
            path = f"/apis/autoscaling/v2/namespaces/{self._spec.namespace}/horizontalpodautoscalers"
            self._api.call("DELETE", f"{path}/{self._objects.ramp}", spare=404)
        self._scale(level)
        return begin_ns

    def _at_top(self, offered: Json) -> Json:
        """Requested against allocatable, of the pods that have a node now; gangs."""
        spec, count = self._spec, self._columns.live("scheduled")
        each = {"pods": 1.0, "cpu": objects.quantity(spec.cpu), "memory": objects.quantity(spec.memory),
                "gpus": float(spec.gpus)}  # fmt: skip
        asked = {name: count * value for name, value in each.items()}
        found = {"scheduled": count, "ready": self._columns.live(), "allocatable": offered, "requested": asked,
                 "fraction": {name: asked[name] / offered[name] for name in each if offered[name]}}  # fmt: skip
        if spec.gang:
            found["gangs"] = measure.gangs(self._columns, spec.gang, spec.to, spec.gpus, time.monotonic_ns())
        return found

    def _whole(self, first: Moment, last: Moment) -> Json:
        """Over all stages: calls as this client saw them, the control plane's processes, the watch."""
        pods = range(self._spec.start, self._spec.to)
        seen = self._sampler.processes
        processes = {name: {"rss_bytes_max": one.rss_bytes_max, "cpu_s": one.cpu_s} for name, one in seen.items()}
        return {
            "latency": measure.latencies(self._columns, pods), "slo": measure.slo(first, last),
            "calls": {
                "mutating_s": measure.spread(ns / 1e9 for ns in self._latency),
                "reading_s": measure.spread(ns / 1e9 for ns in self._reader.latency),
                "reading_failed": self._reader.failed,
            },
            "processes": processes, "unasked": self._sampler.unasked,
            "watch": {"events": self._watcher.events, "gaps": self._watcher.gaps},
        }  # fmt: skip

    def _progressed(self) -> float:
        return float(sum(self._columns.count.values()))

    def _progress(self) -> None:
        count = self._columns.live
        self._say(f"pods: {count('seen')} there, {count('scheduled')} with a node, {count()} Ready, of {self._wanted}")


def _document(spec: RampSpec) -> Json:
    import msgspec

    document: Json = msgspec.to_builtins(spec)
    return document
