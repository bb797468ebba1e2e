"""From columns and counters to what is said of a stage. Pure.

Latencies have two sources. Ours: a pod's request or its first event to the event that showed the condition, on one
monotonic clock; a watch delivers late, never early, so those from a request on are upper bounds. The API server's own
stamps are whole seconds of several clocks: a difference of two is right within a second either way, beside what those
clocks differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from agent.workloads.ramp import prometheus
from agent.workloads.ramp.columns import Columns
from agent.workloads.ramp.creator import Answer
from agent.workloads.ramp.limiter import Evidence
from agent.workloads.ramp.prometheus import Labels, Scrape
from agent.workloads.ramp.sample import Gauges, Moment, busy_fraction, of_ramp, own_fraction
from agent.workloads.ramp.spec import RampSpec

Json = dict[str, Any]
STAMP_ERROR_S: Final = 1.0
_STAMPS: Final = {"asked": "api_created", "scheduled": "api_scheduled", "ready": "api_ready"}
_BY_API: Final = {"acked": "api_created", "scheduled": "api_scheduled", "started": "api_started", "ready": "api_ready"}
_STEPS: Final = ("acked", "scheduled", "started", "ready")
_READS: Final = ("GET", "LIST")
_WRITES: Final = ("POST", "PUT", "PATCH", "DELETE", "DELETECOLLECTION", "APPLY")


def spread(values: Iterable[float]) -> Json:
    """p50, p95, p99, max by nearest rank, and how many."""
    rows = sorted(values)
    if not rows:
        return {"n": 0}
    return {"n": len(rows), **{name: _ranked(rows, part, len(rows)) for name, part in _RANKS.items()}, "max": rows[-1]}


def _ranked(rows: Sequence[float], part: float, count: int) -> float | None:
    """By nearest rank of *count*, of which those beyond *rows* took for ever: None where it is one of them."""
    at = max(0, math.ceil(part * count) - 1)
    return rows[at] if at < len(rows) else None


_RANKS: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def rate(stamps: Iterable[int], begin_ns: int) -> Json:
    """`{n, span_s, mean, peak}`: pods a second from the beginning to the last, and in the best second."""
    rows = sorted(stamp for stamp in stamps if stamp)
    if not rows:
        return {"n": 0, "span_s": 0.0, "mean": 0.0, "peak": 0.0}
    span_s = max(rows[-1] - begin_ns, 1) / 1e9
    best, first = 0, 0
    for at, stamp in enumerate(rows):
        while rows[first] <= stamp - 1_000_000_000:
            first += 1
        best = max(best, at - first + 1)
    return {"n": len(rows), "span_s": span_s, "mean": len(rows) / span_s, "peak": float(best)}


def rates(columns: Columns, pods: range, begin_ns: int) -> Json:
    """Of each step, of the pods of a stage."""
    named = dict(zip(("create", "schedule", "start", "ready"), _STEPS, strict=True))
    found = {}
    for word, name in named.items():
        least_s = _least_s(columns, name, pods, begin_ns)
        found[word] = rate((columns.ns[name][at] for at in pods), begin_ns) | {"least_s": least_s}
    return found


def _least_s(columns: Columns, name: str, pods: range, begin_ns: int) -> float:
    """From the beginning to the last one, at least: none got so far before it was asked for, nor before its stamps."""
    through = [at for at in pods if columns.ns[name][at]]
    asked_s = (max((columns.ns["asked"][at] for at in through), default=0) - begin_ns) / 1e9
    first, last = columns.s["api_created"], columns.s[_BY_API[name]]
    begun_s = min((first[at] for at in through if first[at]), default=0.0)
    stamps_s = max((last[at] for at in through), default=0.0) - begun_s - STAMP_ERROR_S if begun_s else 0.0
    return max(0.0, asked_s, stamps_s)


def latencies(columns: Columns, pods: range) -> Json:
    """By watch, and by the API server's own stamps."""
    pairs = {"create_to_scheduled": ("asked", "scheduled"), "scheduled_to_ready": ("scheduled", "ready"),
             "create_to_ready": ("asked", "ready")}  # fmt: skip
    found: Json = {}
    for name, (earlier, later) in pairs.items():
        first, last = columns.s[_STAMPS[earlier]], columns.s[_STAMPS[later]]
        rows = (last[at] - first[at] for at in pods if first[at] and last[at])
        watch, api = sorted(columns.spans(earlier, later, pods)), sorted(rows)
        found[name] = {
            "watch_s": spread(watch), "api_s": spread(api) | {"error_s": STAMP_ERROR_S},
            "of_all": {"n": len(pods), "watch_p99": _ranked(watch, 0.99, len(pods)),
                       "api_p99": _ranked(api, 0.99, len(pods))},
        }  # fmt: skip
    return found


def waits(columns: Columns, pods: range, begin_ns: int, end_ns: int) -> tuple[float, float, float]:
    """Mean seconds a pod before it was created, had a node, was Ready; one that is not so far waits to the end."""
    sums = [0, 0, 0]
    for at in pods:
        before = begin_ns
        for step, name in enumerate(("acked", "scheduled", "ready")):
            stamp = columns.ns[name][at] or end_ns
            sums[step] += max(0, stamp - before)
            before = max(before, stamp)
    count = max(1, len(pods)) * 1e9
    return sums[0] / count, sums[1] / count, sums[2] / count


def evidence(
    spec: RampSpec, before: Moment, after: Moment, gauges: Gauges, answers: Sequence[Answer], span_s: float
) -> Json:
    """Fields of `Evidence` that come of counters."""
    by = {name: prometheus.difference(scrape, before.scrapes.get(name, {})) for name, scrape in after.scrapes.items()}
    api, scheduler, controllers = by.get("api"), by.get("scheduler"), by.get("controllers")
    whole_s = _sum(api, "apiserver_request_duration_seconds_sum", lambda at: at["verb"] in (*_READS, *_WRITES))
    etcd_s = _sum(api, "etcd_request_duration_seconds_sum")
    queued_s = _sum(api, "apiserver_flowcontrol_request_wait_duration_seconds_sum", _not_exempt)
    throttle = "rest_client_rate_limiter_duration_seconds_sum"
    waited_s = sum((stamp - one.task.begin_ns) / 1e9 for one in answers for stamp in one.acked if stamp)
    requests_s = max((max(answer.acked, default=0) - answer.task.begin_ns for answer in answers), default=0) / 1e9
    thread_s = max(requests_s * sum(min(answer.threads, len(answer.asked)) for answer in answers), 1e-9)
    return {
        "paced_fraction": sum(answer.paced_s for answer in answers) / max(waited_s, 1e-9),
        "held_fraction": sum(answer.held_s for answer in answers) / thread_s,
        "refused": sum(answer.refused for answer in answers),
        "pace": "client QPS" if spec.qps else "asked duration",
        "apf_fraction": None if queued_s is None or not whole_s else queued_s / whole_s,
        "apf_rejected": _sum(api, "apiserver_flowcontrol_rejected_requests_total"),
        "scheduler_throttled": _mean(_sum(scheduler, throttle), span_s),
        "controllers_throttled": _mean(_sum(controllers, throttle), span_s),
        "scheduler_busy": _mean(_sum(scheduler, "scheduler_scheduling_algorithm_duration_seconds_sum"), span_s),
        "controllers_busy": _mean(_sum(controllers, "workqueue_work_duration_seconds_sum", of_ramp), span_s),
        "depth": gauges.depth, "unschedulable": gauges.unschedulable,
        "etcd_fraction": None if etcd_s is None or not whole_s else etcd_s / whole_s,
        "cpu_busy": busy_fraction(before.cpu_last, after.cpu_first), "cpu_own": own_fraction(before, after),
        "played": spec.played,
        "controlled": spec.mode != "pods",
    }  # fmt: skip


def slo(before: Moment, after: Moment) -> Json:
    """p99 of the API server's own histogram, by kind of call: bounds, since a histogram knows no more."""
    if "api" not in before.scrapes or "api" not in after.scrapes:
        return {}
    seen = prometheus.difference(after.scrapes["api"], before.scrapes["api"])
    found = {}
    for kind, verbs in (("mutating", _WRITES), ("reading", _READS)):
        name = "apiserver_request_sli_duration_seconds"
        bounds = prometheus.quantile(seen, name, 0.99, lambda at, verbs=verbs: at["verb"] in verbs)  # type: ignore[misc]
        if bounds:
            found[kind] = {"lo_s": bounds[0], "hi_s": bounds[1], "n": bounds[2]}
    return found


def gangs(columns: Columns, size: int, count: int, gpus: int, end_ns: int) -> Json:
    """Groups that are of use only whole: when each ran whole, and GPUs that stood idle in those that did not yet."""
    whole_s, idle_s, broken, held = list[float](), 0.0, 0, 0
    for low in range(0, count, size):
        pods = range(low, low + size)
        bound = [stamp for at in pods if (stamp := columns.ns["scheduled"][at])]
        ready = [stamp for at in pods if (stamp := columns.ns["ready"][at])]
        done_ns = max(ready) if len(ready) == size else end_ns
        idle_s += sum((done_ns - stamp) / 1e9 * gpus for stamp in bound)
        held += len(bound)
        if len(ready) == size:
            whole_s.append((done_ns - min(columns.ns["asked"][at] or done_ns for at in pods)) / 1e9)
        else:
            broken += bool(bound)
    return {
        "size": size, "whole": len(whole_s), "incomplete": broken, "none": count // size - len(whole_s) - broken,
        "whole_s": spread(whole_s), "idle_gpu_s": idle_s, "gpus_held": held * gpus,
        "gpus_wasted_at_end": (held - len(whole_s) * size) * gpus,
    }  # fmt: skip


def joined(
    waiting: tuple[float, float, float], decided_s: float, unfinished: int, count: int, span_s: float, counters: Json
) -> Evidence:
    """The evidence of a stage of *count* pods as one."""
    create_s, schedule_s, play_s = waiting
    return Evidence(
        decide_s=decided_s, create_s=max(0.0, create_s - decided_s), schedule_s=schedule_s, play_s=play_s,
        unfinished=unfinished, schedule_queue=schedule_s * count / max(span_s, 1e-9), **counters,
    )  # fmt: skip


def _not_exempt(labels: Labels) -> bool:
    return labels.get("priority_level") != "exempt" and labels.get("execute") != "false"


def _sum(scrape: Scrape | None, name: str, where: Any = lambda _: True) -> float | None:
    return None if scrape is None else prometheus.total(scrape, name, where)


def _mean(sum_s: float | None, span_s: float) -> float | None:
    return None if sum_s is None else sum_s / max(span_s, 1e-9)
