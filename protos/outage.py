"""Outages from the attempts of one probe. Pure functions over columns.

Invariant: the bounds of an outage hold the truth, whichever way attempts overlap, hang or are missing, while a service
that is up answers within the healthy bound. Reads no clock: all stamps are ns on the clock of the node of the probe.
Source: docs/measuring-recovery.md, sections 1 to 3.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

BASELINE_MIN: Final = 20  # fewer than these say little
BASELINE_MAX: Final = 1_000  # successes before the injection that say what a healthy latency is
UNBOUNDED_NS: Final = 2**62
LATE_NS: Final = 2_000_000  # an attempt started later than this was held up by its own node
SHORTEST_NS: Final = 10_000_000  # no healthy bound is taken below twice this: stops of the node up to it go unseen


class Code(IntEnum):
    """How one attempt ended."""

    OK = 0
    REFUSED = 1  # no connection, or one that the peer reset
    TIMEOUT = 2
    BAD = 3  # answered, and wrongly
    ERROR = 4  # the probe could not measure: no data
    OVERRUN = 5  # due, and not started because too many were in flight: no data


FAILED: Final = frozenset((Code.REFUSED, Code.TIMEOUT, Code.BAD))
NO_DATA: Final = frozenset((Code.ERROR, Code.OVERRUN))


@dataclass(frozen=True, slots=True)
class Attempts:
    """Columns of one probe, equally long, by due time and started in that order. A gap in due times: dropped."""

    due_ns: Sequence[int]
    start_ns: Sequence[int]
    done_ns: Sequence[int]
    code: Sequence[int]
    interval_ns: int

    def dropped(self, index: int) -> int:
        """How many attempts are missing just before *index*."""
        if index == 0:
            return 0
        return max(0, round((self.due_ns[index] - self.due_ns[index - 1]) / self.interval_ns) - 1)


@dataclass(frozen=True, slots=True)
class Outage:
    """A maximal span of failures: when it began and ended, each within bounds. No end: it had not ended."""

    start_lo_ns: int
    start_hi_ns: int
    end_lo_ns: int
    end_hi_ns: int | None


@dataclass(frozen=True, slots=True)
class Healthy:
    """Latency, start to completion, of the service before the injection (section 3).

    *typical_ns* is the median. What takes longer than *quick_ns* hung: the 95th percentile, four medians at most, and
    an interval at least.
    *bound_ns* is what a service that is up takes at most: twice the longest seen, two intervals at least.
    """

    typical_ns: int
    quick_ns: int
    bound_ns: int


@dataclass(frozen=True, slots=True)
class Span:
    """An outage with what the search for a stable window needs: indexes of its failures, best guess of its end."""

    outage: Outage
    first: int
    last: int
    end_ns: int | None

    def ended_after(self, instant_ns: int) -> bool:
        """Whether it may have been in force after *instant_ns*."""
        return self.outage.end_hi_ns is None or self.outage.end_hi_ns > instant_ns


def healthy(attempts: Attempts, before_ns: int) -> Healthy:
    """What the successes completed by *before_ns* say; without any, a timeout may have gone bad at any moment.

    Those that an earlier outage may have held up do not count, as long as there are others enough.
    """
    rows: list[tuple[int, int]] = []  # (start, latency), latest first
    calm = 0  # how many of them came after the last failure
    settled_ns = before_ns  # the first completion after that failure
    for k in range(bisect_left(attempts.due_ns, before_ns) - 1, -1, -1):
        if attempts.code[k] == Code.OK and attempts.done_ns[k] <= before_ns:
            rows.append((attempts.start_ns[k], attempts.done_ns[k] - attempts.start_ns[k]))
            if len(rows) == BASELINE_MAX:
                break
            settled_ns = settled_ns if calm else min(settled_ns, attempts.done_ns[k])
        elif attempts.code[k] in FAILED and not calm:
            calm = len(rows)
    used = [latency for start, latency in rows[:calm] if start >= settled_ns]
    if len(used) < BASELINE_MIN:
        used = [latency for _, latency in rows]
    if not used:
        return Healthy(0, attempts.interval_ns, UNBOUNDED_NS)
    used.sort()
    typical_ns, slowest_ns = used[len(used) // 2], used[len(used) * 19 // 20]
    quick_ns = max(
        min(slowest_ns, 4 * typical_ns), attempts.interval_ns
    )  # a busy node stretches the tail, not the middle
    return Healthy(typical_ns, quick_ns, 2 * max(used[-1], attempts.interval_ns, SHORTEST_NS))


def outages(attempts: Attempts, usual: Healthy) -> list[Span]:
    """Every outage that the attempts show, in order (section 2).

    A failure proves the service bad at some instant of [start, bad_by]: bad_by is its completion, and for a timeout
    at most the start plus the healthy bound, because from then on it only hung. A success proves it good at some
    instant of [start, done]. So a success ends an outage only if it started after the last failure's bad_by.
    """
    earliest = earliest_done(attempts)
    spans: list[Span] = []
    first, last, bad_lo_ns, bad_hi_ns = -1, -1, 0, 0
    for k, code in enumerate(attempts.code):
        if code == Code.OK:
            if first >= 0 and attempts.start_ns[k] >= bad_hi_ns:
                spans.append(_span(attempts, usual, earliest, (first, last), (bad_lo_ns, bad_hi_ns)))
                first = -1
        elif code in FAILED:
            bad_by_ns = _hung_by(attempts, usual, k) if code == Code.TIMEOUT else attempts.done_ns[k]
            if first < 0:
                first, bad_lo_ns, bad_hi_ns = k, bad_by_ns, bad_by_ns
            last, bad_lo_ns, bad_hi_ns = k, min(bad_lo_ns, bad_by_ns), max(bad_hi_ns, bad_by_ns)
    if first >= 0:
        spans.append(_span(attempts, usual, earliest, (first, last), (bad_lo_ns, bad_hi_ns)))
    return spans


def _hung_by(attempts: Attempts, usual: Healthy, k: int) -> int:
    """The latest instant at which the service can have gone bad for attempt *k*, which timed out.

    The healthy bound after its start; later by as much as the probe itself ran late, which later starts tell.
    """
    by_ns, done_ns = attempts.start_ns[k] + usual.bound_ns, attempts.done_ns[k]
    after = k + 1
    while by_ns < done_ns and after < len(attempts.code) and attempts.due_ns[after] <= by_ns:
        late_ns = attempts.start_ns[after] - attempts.due_ns[after]
        by_ns += late_ns if late_ns > LATE_NS else 0
        after += 1
    return min(by_ns, done_ns)


def earliest_done(attempts: Attempts) -> list[int]:
    """For each index, the success at or after it that completed first; -1 for none. One longer than the columns."""
    best = [-1] * (len(attempts.code) + 1)
    done_ns = attempts.done_ns
    found = -1
    for k in range(len(attempts.code) - 1, -1, -1):
        if attempts.code[k] == Code.OK and (found < 0 or done_ns[k] <= done_ns[found]):
            found = k
        best[k] = found
    return best


def _span(
    attempts: Attempts, usual: Healthy, earliest: Sequence[int], failures: tuple[int, int], bad_by: tuple[int, int]
) -> Span:
    """The outage whose first and last failures are *failures*, bad by the earliest and latest instants of *bad_by*."""
    first, last = failures
    before = first - 1
    while before >= 0 and not (
        attempts.code[before] == Code.OK and attempts.done_ns[before] <= attempts.start_ns[first]
    ):
        before -= 1
    start_lo_ns = attempts.due_ns[max(before, 0)]
    end_lo_ns = attempts.start_ns[last]
    after = last + 1
    while after < len(attempts.code) and (attempts.code[after] in NO_DATA or attempts.start_ns[after] < bad_by[1]):
        after += 1
    proof = earliest[after]
    end_hi_ns = attempts.done_ns[proof] if proof >= 0 else None
    end_ns = None
    if end_hi_ns is not None:
        k = earliest[last + 1]
        end_ns = attempts.due_ns[k]
        if attempts.done_ns[k] - attempts.start_ns[k] > usual.quick_ns:  # it hung: its completion is the better witness
            end_ns = max(end_ns, attempts.done_ns[k] - usual.typical_ns)
        end_ns = min(max(end_ns, end_lo_ns), end_hi_ns)
        if end_hi_ns - end_lo_ns <= 2 * attempts.interval_ns:  # then some guess is within an interval of all in between
            end_ns = min(max(end_ns, end_hi_ns - attempts.interval_ns), end_lo_ns + attempts.interval_ns)
    return Span(Outage(start_lo_ns, bad_by[0], end_lo_ns, end_hi_ns), first, last, end_ns)
