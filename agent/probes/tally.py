"""Counts of a probe's attempts within a span of time. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any

from protos.recovery import Attempts, Code


def tally(attempts: Attempts, from_ns: int, to_ns: int) -> dict[str, Any]:
    """Of the attempts due in [from_ns, to_ns): `{good, bad, void, spans, interval_ns, from_ns, to_ns}`.

    *void* gave no data; *spans* is how often an outage began or had begun; the times are cut to what was attempted.
    """
    due, code = attempts.due_ns, attempts.code
    first, last = bisect_left(due, from_ns), bisect_left(due, to_ns)
    good = bad = void = spans = 0
    failing = False
    for at in range(first, last):
        if code[at] == Code.OK:
            good, failing = good + 1, False
        elif code[at] < Code.ERROR:
            bad, spans, failing = bad + 1, spans + (not failing), True
        else:
            void += 1
    return {
        "good": good, "bad": bad, "void": void, "spans": spans, "interval_ns": attempts.interval_ns,
        "from_ns": due[first] if first < last else from_ns,
        "to_ns": due[last - 1] + attempts.interval_ns if first < last else from_ns,
    }  # fmt: skip


def measured(measure: str, codes: list[int], latencies_ns: list[int], span_s: float) -> float:
    """One of the engine's measures over attempts that ended within *span_s*; *latencies_ns* are sorted."""
    if measure == "success_fraction":
        return codes.count(Code.OK) / len(codes)
    if measure == "rate_s":
        return len(codes) / max(span_s, 1e-9)
    quantile = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}[measure]
    return latencies_ns[math.ceil(quantile * len(latencies_ns)) - 1] / 1e6
