"""What a level's columns say, as JSON. Pure.

Invariant: throughput is of the time in which every worker had a job (closed loop) or videos came (open loop): neither
the filling nor the emptying of the node counts as its speed.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from agent.workloads.encode.level import DONE, FAILED, LOST, Cost, Level
from agent.workloads.encode.timeline import Timeline

Json = dict[str, Any]


def spread(values: Sequence[float]) -> Json:
    """`{n, mean, p50, p95, max}`; only `{n: 0}` of nothing."""
    if not values:
        return {"n": 0}
    ordered = sorted(values)
    return {
        "n": len(ordered), "mean": statistics.fmean(ordered), "p50": statistics.median(ordered),
        "p95": ordered[max(0, -(-len(ordered) * 95 // 100) - 1)], "max": ordered[-1],
    }  # fmt: skip


def quantiles(values: Sequence[float], steps: int = 100) -> list[float]:
    """The values at 0, 1/*steps*, … 1 of their order, between neighbours by proportion; nothing of nothing."""
    ordered = sorted(values)
    found = []
    for at in range(steps + 1) if ordered else ():
        place = at / steps * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        found.append(ordered[low] + (ordered[high] - ordered[low]) * (place - low))
    return found


def of(level: Level) -> Json:
    """Seconds unless a name says otherwise. `rtf`: encoding over playing time of each job; `speed`: its inverse."""
    columns = level.columns
    assert level.begin is not None
    assert level.full is not None
    assert level.end is not None
    done = [at for at, outcome in enumerate(columns.outcome) if outcome == DONE]
    frames, cpu_s = sum(columns.frames[at] for at in done), sum(columns.cpu_s[at] for at in done)
    mean_frames = frames / len(done) if done else 0.0
    span_s = (level.full.at_ns - level.begin.at_ns) / 1e9
    pictures = (level.full.pictures - level.begin.pictures) / span_s if span_s else 0.0
    return {
        "jobs": level.jobs, "offered_videos_s": level.rate, "count": len(columns.outcome), "done": len(done),
        "failed": columns.outcome.count(FAILED), "lost": columns.outcome.count(LOST),
        "redone": sum(1 for at in done if columns.attempts[at] > 1), "duplicated": level.twice,
        "damaged": level.damaged,
        "span_s": span_s, "videos_s": pictures / mean_frames if mean_frames and not level.rate else _rate(level, done),
        "frames_s": pictures, "frames": frames, "cpu_s": cpu_s,
        "frames_cpu_s": frames / cpu_s if cpu_s else 0.0,
        "media_s": sum(columns.media_s[at] for at in done) / len(done) if done else 0.0,
        "rtf": spread([columns.wall_s[at] / columns.media_s[at] for at in done]),
        "rung_rtf": {name: spread(values) for name, values in level.rungs.items()},
        "speed": spread([columns.media_s[at] / columns.wall_s[at] for at in done]),
        "service_s": spread([columns.wall_s[at] for at in done]),
        "service_quantiles_s": quantiles([columns.wall_s[at] for at in done]),  # what a model draws from
        "wait_s": spread([(columns.begin_ns[at] - columns.due_ns[at]) / 1e9 for at in range(len(columns.outcome))]),
        "turnaround_s": spread([(columns.end_ns[at] - columns.due_ns[at]) / 1e9 for at in done]),
        "rss_mb": spread([columns.rss_bytes[at] / 1e6 for at in done]),
        **_node(level.begin, level.full), "errors": level.errors,
    }  # fmt: skip


def meters(level: Level, timeline: Timeline) -> Json:
    """What GPUs and energy meters say of the level: from its begin to its end, since every job's energy counts."""
    assert level.begin is not None
    assert level.end is not None
    span = (level.begin.at_ns, level.end.at_ns)
    done = level.columns.outcome.count(DONE)
    joules = timeline.joules(*span)
    return {
        "from_ns": span[0],
        "to_ns": span[1],
        "gpus": timeline.gpus(*span),
        "energy_j": joules,
        "energy_video_j": joules / done if joules is not None and done else None,
    }


def _rate(level: Level, done: Sequence[int]) -> float:
    """Videos/s that were finished, over the time from the first that came to the last that was finished."""
    assert level.begin is not None
    if not done:
        return 0.0
    span_ns = max(level.columns.end_ns[at] for at in done) - level.begin.at_ns
    return len(done) / span_ns * 1e9


def _node(begin: Cost, end: Cost) -> Json:
    """How busy the node's processors were, and what measuring cost of them."""
    total = end.total_s - begin.total_s
    ours = end.own_s - begin.own_s + end.agent_s - begin.agent_s
    return {
        "cpu_busy_fraction": (end.busy_s - begin.busy_s) / total if total else 0.0,
        "overhead_fraction": ours / total if total else 0.0,
    }


def knee(levels: Sequence[Json], p95_max_s: float) -> Json:
    """The highest rate up to which each one's p95 turnaround held, nothing was lost, and what came was done.

    `{rate, next}`: videos/s; *next*: the lowest rate that did not hold, None if all did. Rate None: none held.
    """
    held: float | None = None
    for one in sorted(levels, key=lambda row: row["offered_videos_s"]):
        turned = one["turnaround_s"]
        if not turned["n"] or turned["p95"] > p95_max_s or one["done"] < one["count"]:
            return {"rate": held, "next": one["offered_videos_s"], "p95_max_s": p95_max_s}
        held = one["offered_videos_s"]
    return {"rate": held, "next": None, "p95_max_s": p95_max_s}
