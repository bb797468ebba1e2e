"""A ramp's result as figures with their provenance, its objectives, and a sentence. Pure.

Invariant: where nodes were played (KWOK), every figure that rests on them says so: nothing ran.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from agent.workloads.ramp.spec import FOREIGN
from protos.figure import Figure, Measured

Json = dict[str, Any]
_WATCH: Final = "watch events on this machine's monotonic clock, upper bounds"
PLAYED: Final = "played nodes, nothing ran"
_API: Final = "the API server's own stamps, whole seconds"
_RANKS: Final = ("p50", "p95", "p99", "max")
_WORDS: Final = {"create_to_scheduled": "create to scheduled", "scheduled_to_ready": "scheduled to Ready",
                 "create_to_ready": "create to Ready"}  # fmt: skip


def figures(result: Json) -> list[Figure]:
    """All of them."""
    played = f"; {PLAYED}" if _played(result) else ""
    return [
        *_ramp(result, played), *_stages(result, played), *_latencies(result, played), *_calls(result),
        *_top(result, played), *_processes(result),
    ]  # fmt: skip


def objectives(result: Json) -> list[Json]:
    """`{name, at_most, lo, hi, unit, result}`: met, missed, or inconclusive where the bounds straddle it; seconds."""
    spec, complete, took = result["spec"], _complete(result), ramp_s(result)
    found = [_held("pod ramp", spec["ramp_max_s"], _least_s(result), took if complete else None)]
    most = spec["api_p99_max_s"]
    for kind in ("mutating", "reading"):
        if (seen := result["calls"][f"{kind}_s"]).get("n"):
            found.append(_held(f"{kind} calls p99, by the client", most, seen["p99"], seen["p99"]))
        if bounds := result["slo"].get(kind):
            found.append(_held(f"{kind} calls p99, by the API server", most, bounds["lo_s"], bounds["hi_s"]))
    starts = result["latency"]["create_to_ready"]
    if starts["watch_s"].get("n"):
        hi, by_api = (starts["of_all"][f"{source}_p99"] for source in ("watch", "api"))
        lo = _floor(starts["watch_s"]["max"] if hi is None else hi, by_api, starts["api_s"]["error_s"])
        found.append(_held("pod start p99", spec["start_p99_max_s"], lo, hi))
    note = {"note": PLAYED} if _played(result) else {}
    return [one | note for one in found]


def summary(result: Json) -> str:
    """One sentence for a human."""
    spec = result["spec"]
    played = ", played" if _played(result) else ""
    ups = [one for one in result["stages"] if one["way"] == "up"]
    longest = max(ups, key=lambda one: one["took_s"])
    missed = [one["name"] for one in objectives(result) if one["result"] != "met"]
    how = f"{spec['mode']}, {spec['shape']}{played}"
    told = f"{spec['from']} to {result['top']['ready']} pods ({how}) in {ramp_s(result):.1f} s"
    short = "" if _complete(result) else f", not the {spec['to']} asked for ({ups[-1]['ended']})"
    held = f"; not met: {', '.join(missed)}" if missed else "; all objectives met"
    kept = result["removal"]["namespace"]
    held += f"; namespace {spec['namespace']} {kept}" if kept.startswith(FOREIGN) else ""
    return f"{told}{short}; bound by {longest['limiter']['name']}: {longest['limiter']['because']}{held}"


def ramp_s(result: Json) -> float:
    """From the order for the first pod above the base to the last one Ready, the pauses between stages included."""
    ups = [one for one in result["stages"] if one["way"] == "up" and one["to"] > result["spec"]["from"]]
    return (ups[-1]["end_ns"] - ups[0]["begin_ns"]) / 1e9 if ups else 0.0


def _least_s(result: Json) -> float:
    """A lower bound of it: `ramp_s` ends when an event arrived. Where it was given up, the time until then."""
    ups = [one for one in result["stages"] if one["way"] == "up" and one["to"] > result["spec"]["from"]]
    if not ups or not _complete(result):
        return ramp_s(result)
    least_s = float(ups[-1]["rates"]["ready"]["least_s"] + (ups[-1]["begin_ns"] - ups[0]["begin_ns"]) / 1e9)
    return min(least_s, ramp_s(result))


def _played(result: Json) -> bool:
    return bool(result["spec"]["node_selector"].get("blackstart.dev/played"))


def _complete(result: Json) -> bool:
    return bool(result["top"]["ready"] >= result["spec"]["to"])


def _floor(by_watch: float, by_api: float | None, error_s: float) -> float:
    """A lower bound of a latency whose events came late: what the API's stamps say at least, else 0."""
    return 0.0 if by_api is None else max(0.0, min(by_watch, by_api - error_s))


def _held(name: str, most: float, lo: float, hi: float | None) -> Json:
    """*hi* None: it was given up, and would have taken longer."""
    met, missed = hi is not None and hi <= most, lo > most or hi is None
    return {"name": name, "at_most": most, "lo": lo, "hi": hi, "unit": "s",
            "result": "met" if met else "missed" if missed else "inconclusive"}  # fmt: skip


def _one(
    name: str, value: float, unit: str, method: str, samples: int, *, lo: float | None = None, hi: float | None = None
) -> Figure:
    lo, hi = value if lo is None else max(0.0, lo), value if hi is None else hi
    return Figure(name, value, unit, Measured(method, samples, lo, hi))


def _ramp(result: Json, played: str) -> Iterator[Figure]:
    took, method = ramp_s(result), f"{_WATCH}{played}"
    count = max(0, result["top"]["ready"] - result["spec"]["from"])
    least_s = _least_s(result)
    yield _one("ramp up", took, "s", method, count, lo=least_s)
    if took:
        yield _rate("ramp rate", count / took, count, least_s, method)
    yield _one("removal", result["removal"]["removed_s"], "s", "until two lists in a row were empty", 1)


def _rate(name: str, mean: float, count: int, least_s: float, method: str) -> Figure:
    """Of a span that is an upper bound: it was this at least, and no more than its lower bound allows."""
    if not least_s:
        return _one(name, mean, "pods/s", f"{method}; at least", count)
    return _one(name, mean, "pods/s", method, count, hi=max(mean, count / least_s))


def _stages(result: Json, played: str) -> Iterator[Figure]:
    for one in result["stages"]:
        name = f"{one['way']} {one['from']} to {one['to']}"
        for word, rate in one["rates"].items():
            if rate["n"]:
                method = f"from the order to the last, by {_WATCH}; best second {rate['peak']:g}{played}"
                yield _rate(f"{name}: {word}", rate["mean"], rate["n"], rate.get("least_s", 0.0), method)
        if limiter := one.get("limiter"):
            because, count = f"{limiter['because']}{played}", one["to"] - one["from"]
            yield _one(f"{name}: bound by {limiter['name']}", limiter["share"], "share of waiting", because, count)


def _latencies(result: Json, played: str) -> Iterator[Figure]:
    for key, words in _WORDS.items():
        watch, api = (result["latency"][key][source] for source in ("watch_s", "api_s"))
        error_s, whole = api["error_s"], watch["n"] == api["n"]  # the same pods: bounds by rank
        for rank in _RANKS:
            if watch["n"]:
                value, by_api = watch[rank], api[rank] if whole else None
                # from one event to another is no upper bound: the first may have come later than the second
                hi = None if key != "scheduled_to_ready" or by_api is None else max(value, by_api + error_s)
                lo, method = _floor(value, by_api, error_s), f"{_WATCH}{played}"
                yield _one(f"{words} {rank}, by watch", value, "s", method, watch["n"], lo=lo, hi=hi)
            if api["n"]:
                value, method = api[rank], f"{_API}{played}"
                lo, hi = value - error_s, value + error_s
                yield _one(f"{words} {rank}, by the API", value, "s", method, api["n"], lo=lo, hi=hi)


def _calls(result: Json) -> Iterator[Figure]:
    for kind in ("mutating", "reading"):
        if (seen := result["calls"][f"{kind}_s"]).get("n"):
            method = "each call by this client, monotonic clock"
            yield _one(f"{kind} calls p99, by the client", seen["p99"], "s", method, seen["n"])
    for kind, bounds in result["slo"].items():
        where = Measured(
            "buckets of apiserver_request_sli_duration_seconds", bounds["n"], bounds["lo_s"], bounds["hi_s"]
        )
        value = bounds["hi_s"] if math.isfinite(bounds["hi_s"]) else bounds["lo_s"]
        yield Figure(f"{kind} calls p99, by the API server", value, "s", where)


def _top(result: Json, played: str) -> Iterator[Figure]:
    top = result["top"]
    count, nodes = top["scheduled"], top["allocatable"]["nodes"]
    for name, share in top["fraction"].items():
        method = f"requests of {count} scheduled pods over what {nodes} nodes allow{played}"
        yield _one(f"{name} requested of allocatable", share, "fraction", method, count)
    if gangs := top.get("gangs"):
        method = f"gangs of {gangs['size']}, {gangs['incomplete']} incomplete, until the last stage's end{played}"
        for name, value, unit in (
            ("whole gangs", gangs["whole"], "gangs"),
            ("GPU time idle in incomplete gangs", gangs["idle_gpu_s"], "GPU s"),
            ("GPUs held by incomplete gangs at the end", gangs["gpus_wasted_at_end"], "GPUs"),
        ):
            yield _one(name, value, unit, method, count)


def _processes(result: Json) -> Iterator[Figure]:
    for name, seen in result["processes"].items():
        yield _one(f"{name} resident memory", seen["rss_bytes_max"] / 1e6, "MB", "highest of one look a second", 1)
        yield _one(f"{name} processor time", seen["cpu_s"], "s", "of the process, over the whole ramp", 1)
