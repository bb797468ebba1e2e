"""Recovery time after an injection, from the attempts of one probe. Pure functions over columns.

Invariant: 0 <= lo <= value <= hi, and [lo, hi] holds the truth (section 4). What no attempt saw is never counted as
good: it widens the bounds and is said in the note. The result does not change when attempts are added after the
stable window, as long as the outage it ended was already among them.
Source: docs/measuring-recovery.md, sections 4 and 5.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

from protos.error import ProbeError, SpecError
from protos.outage import (
    FAILED,
    NO_DATA,
    UNBOUNDED_NS,
    Attempts,
    Code,
    Healthy,
    Outage,
    Span,
    earliest_done,
    healthy,
    outages,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["FAILED", "NO_DATA", "Attempts", "Code", "Outage", "Question", "Recovery", "recovery"]

SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Question:
    """What to measure: the injection's bounds on the probe's clock, and what counts as good again."""

    injected_lo_ns: int
    injected_hi_ns: int
    stable_s: float
    p99_max_ms: float | None = None
    reverted_ns: int | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.injected_lo_ns > self.injected_hi_ns:
            problems.append("injected_lo_ns: later than injected_hi_ns; swap them")
        if not self.stable_s > 0:
            problems.append(f"stable_s: {self.stable_s} is not above 0")
        if self.p99_max_ms is not None and not self.p99_max_ms > 0:
            problems.append(f"p99_max_ms: {self.p99_max_ms} is not above 0")
        if problems:
            raise SpecError(*problems)

    @property
    def stable_ns(self) -> int:
        return round(self.stable_s * SECOND_NS)


@dataclass(frozen=True, slots=True)
class Recovery:
    """Time from the injection until the probe stayed good, seconds, 0 <= lo <= value <= hi.

    Not recovered: value and hi are None, and lo is what it took at least. *outages* are all that ended after the
    injection, those of the revert too; *flaps* counts the ones that were followed by another before the recovery.
    *disturbance_s* runs from the revert to the end of the last outage that the revert caused.
    """

    recovered: bool
    value_s: float | None
    lo_s: float
    hi_s: float | None
    outages: tuple[Outage, ...]
    flaps: int
    disturbance_s: float
    attempts: int
    note: str

    def document(self) -> dict[str, Any]:
        """RECOVERY of docs/architecture.md."""
        return {**asdict(self), "outages": [asdict(outage) for outage in self.outages]}


def recovery(attempts: Attempts, question: Question) -> Recovery:
    """Recovery time after one injection, with bounds.

    Raises:
        ProbeError: no attempt was due after the injection.
    """
    first = bisect_left(attempts.due_ns, question.injected_hi_ns)
    if first == len(attempts.due_ns):
        raise ProbeError("no attempt was due after the injection: start the probe before injecting, and ask later")
    usual = healthy(attempts, question.injected_lo_ns)
    spans = [span for span in outages(attempts, usual) if span.ended_after(question.injected_lo_ns)]
    count, window = _settled(attempts, question, spans, first)
    lo_ns, point_ns, hi_ns = _bounds(attempts, spans[:count], window, first)
    lo_s = max(0.0, (lo_ns - question.injected_hi_ns) / SECOND_NS)
    value_s = hi_s = None
    if hi_ns is not None:
        hi_s = max(lo_s, (hi_ns - question.injected_lo_ns) / SECOND_NS)
        origin_ns = (question.injected_lo_ns + question.injected_hi_ns) // 2
        value_s = min(max((point_ns - origin_ns) / SECOND_NS, lo_s), hi_s)
    caused = [span for span in spans[count:] if _by_revert(question, span)]
    return Recovery(
        recovered=window is not None,
        value_s=value_s,
        lo_s=lo_s,
        hi_s=hi_s,
        outages=tuple(span.outage for span in spans),
        flaps=max(0, count - 1),
        disturbance_s=_disturbance_s(attempts, question, caused),
        attempts=len(attempts.due_ns) - first,
        note="; ".join(_notes(attempts, question, usual, spans, (count, len(caused), window, first))),
    )


@dataclass(frozen=True, slots=True)
class _Window:
    """The stable window: index from which it is good, and index from which it is good and fully observed."""

    good: int
    observed: int


def _settled(attempts: Attempts, question: Question, spans: Sequence[Span], first: int) -> tuple[int, _Window | None]:
    """How many of *spans* belong to the recovery, and the stable window that ends it; None if there is none."""
    search = _Search(attempts, question)
    total = len(attempts.due_ns)
    if not spans:
        return 0, search.window(first, question.injected_hi_ns, total)
    if _by_revert(question, spans[0]) and Code.OK in attempts.code[first : spans[0].first]:
        window = search.window(first, question.injected_hi_ns, spans[0].first)
        return 0, window or _Window(first, first)
    for count, span in enumerate(spans, 1):
        horizon = spans[count].first if count < len(spans) else total
        if span.end_ns is not None and (window := search.window(span.last + 1, span.end_ns, horizon)):
            return count, window
    return len(spans), None


class _Search:
    """Finds stable windows: no failure, no attempt without data, p99 latency within the limit (section 4)."""

    def __init__(self, attempts: Attempts, question: Question) -> None:
        self._attempts = attempts
        self._stable_ns = question.stable_ns
        self._seen_until_ns = attempts.due_ns[-1] + attempts.interval_ns
        # Index at which a window has to begin anew, since an attempt before it gave no data.
        self._restarts = [
            k + (attempts.code[k] in NO_DATA)
            for k in range(len(attempts.code))
            if attempts.code[k] in NO_DATA or attempts.dropped(k)
        ]
        limit_ns = None if question.p99_max_ms is None else round(question.p99_max_ms * 1e6)
        stamps = zip(attempts.due_ns, attempts.done_ns, strict=True)
        slow = (limit_ns is not None and done - due > limit_ns for due, done in stamps)
        self._slow = list(accumulate(slow, initial=0))  # how many of the attempts before an index were too slow

    def window(self, first: int, from_ns: int, horizon: int) -> _Window | None:
        """The first stable window of attempts from *first* and not before *from_ns* that ends before *horizon*."""
        due_ns, good, k = self._attempts.due_ns, None, first
        while k < horizon:
            end_ns = max(due_ns[k], from_ns) + self._stable_ns
            if self._seen_until_ns < end_ns:
                return None
            end = bisect_left(due_ns, end_ns, lo=k)
            if end > horizon:
                return None
            if self._slow[end] - self._slow[k] > (end - k) // 100:
                k += 1
                continue
            good = k if good is None else good
            restart = bisect_right(self._restarts, k)
            if restart == len(self._restarts) or self._restarts[restart] > end:
                return _Window(good, k)
            k = self._restarts[restart]
        return None


def _bounds(
    attempts: Attempts, spans: Sequence[Span], window: _Window | None, first: int
) -> tuple[int, int, int | None]:
    """Instant of recovery: lo, best guess, hi (None: not recovered). Without an outage lo and guess are 0."""
    lo_ns = point_ns = hi_ns = 0
    after = first
    if spans:
        lo_ns, after = spans[-1].outage.end_lo_ns, spans[-1].last + 1
        point_ns, hi_ns = spans[-1].end_ns or lo_ns, spans[-1].outage.end_hi_ns or 0
    if window is None:
        return lo_ns, lo_ns, None
    if window.good > after:  # the service answered, and its latency came back later
        lo_ns, point_ns = max(lo_ns, attempts.due_ns[window.good - 1]), attempts.due_ns[window.good]
    if window.observed > after or not spans:
        hi_ns = max(hi_ns, attempts.done_ns[earliest_done(attempts)[window.observed]])
    return lo_ns, max(point_ns, lo_ns), hi_ns


def _by_revert(question: Question, span: Span) -> bool:
    return question.reverted_ns is not None and span.outage.start_hi_ns > question.reverted_ns


def _disturbance_s(attempts: Attempts, question: Question, caused: Sequence[Span]) -> float:
    """From the revert to the end of the last outage that it caused; to its last failure if it has not ended."""
    if not caused or question.reverted_ns is None:
        return 0.0
    end_ns = caused[-1].end_ns
    return max(0, (attempts.done_ns[caused[-1].last] if end_ns is None else end_ns) - question.reverted_ns) / SECOND_NS


def _notes(
    attempts: Attempts,
    question: Question,
    usual: Healthy,
    spans: Sequence[Span],
    found: tuple[int, int, _Window | None, int],
) -> Iterator[str]:
    """What a reader must know beside the figures, one clause each."""
    count, caused, window, first = found
    if window is None:
        yield f"not good for {question.stable_s:g} s by the last attempt seen"
    if usual.bound_ns == UNBOUNDED_NS:
        yield "no success before the injection, so the healthy latency is unknown"
    if count and spans[0].outage.start_hi_ns <= question.injected_lo_ns:
        yield "the probe was failing before the injection"
    if not spans:
        unseen_ms = _widest_gap_ns(attempts, first) / 1e6
        yield f"no outage seen; one shorter than {unseen_ms:.3g} ms may have passed between two attempts"
    if later := len(spans) - count - caused:
        yield f"{later} later outage(s) began after it had been good for {question.stable_s:g} s"
    blind = [attempts.code[first:].count(code) for code in (Code.OVERRUN, Code.ERROR)]
    dropped = sum(attempts.dropped(k) for k in range(max(first, 1), len(attempts.due_ns)))
    if dropped or any(blind):
        yield f"attempts without data: {blind[0]} overrun, {blind[1]} probe error, {dropped} dropped; bounds widened"


def _widest_gap_ns(attempts: Attempts, first: int) -> int:
    """The longest time in which an outage could hide: from the start of one success to the end of the next."""
    good = [k for k in range(first, len(attempts.code)) if attempts.code[k] == Code.OK]
    gaps = (attempts.done_ns[b] - attempts.start_ns[a] for a, b in pairwise(good))
    return max(gaps, default=attempts.interval_ns)
