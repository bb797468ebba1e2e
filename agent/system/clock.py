"""Deadlines on the node's own clocks, and across a suspension of the machine.

CLOCK_MONOTONIC stands still while a machine is suspended, CLOCK_BOOTTIME goes on: their difference is how long this
boot has been suspended. A fault that was to last ten seconds is overdue after a night in which the machine slept.

Source: clock_gettime(2).
"""

from __future__ import annotations

import time


def suspended_ns() -> int:
    """How long this boot has been suspended so far, ns."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def left_ns(deadline_ns: int, suspended_before_ns: int) -> int:
    """Time to a deadline, ns, negative when it has passed.

    Args:
        deadline_ns: on CLOCK_MONOTONIC, as it was set.
        suspended_before_ns: `suspended_ns()` at the time when it was set; what came later counts as time passed.
    """
    slept_ns = max(0, suspended_ns() - suspended_before_ns - _NOISE_NS)
    return deadline_ns - slept_ns - time.monotonic_ns()


_NOISE_NS = 1_000_000  # the two clocks are read one after the other
