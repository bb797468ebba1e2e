"""The attempts of one probe, kept on the node in columns.

Invariant: index k is the k-th due time, whether or not the attempt has ended. *Committed* are the attempts up to the
first that has not ended: they never change, and leave in batches that are contiguous by index. Memory is bounded: the
oldest that were sent are dropped, and counted.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final, NamedTuple

from protos.recovery import Attempts, Code

KEPT_MAX: Final = 360_000  # an hour at 100 Hz: 9 MB
TRIMMED: Final = 4_096  # dropped at a time, since dropping moves what stays
PENDING: Final = 255


class Batch(NamedTuple):
    """Committed attempts from *first_index* on."""

    first_index: int
    due_ns: array[int]
    start_ns: array[int]
    done_ns: array[int]
    code: array[int]


class Record:
    """Columns of one probe at a fixed interval."""

    def __init__(self, interval_ns: int, kept_max: int = KEPT_MAX) -> None:
        self.interval_ns = interval_ns
        self.dropped = 0  # attempts no longer kept: the index of the oldest that is
        self.last_bad_due_ns = 0  # of the committed attempts that did not end in OK
        self._kept_max = kept_max
        self._committed = self._sent = 0  # indexes one past the last
        self._due: array[int] = array("q")
        self._start: array[int] = array("q")
        self._done: array[int] = array("q")
        self._code: array[int] = array("B")

    def __len__(self) -> int:
        """Attempts ever begun."""
        return self.dropped + len(self._code)

    @property
    def oldest_due_ns(self) -> int:
        """Due time of the oldest attempt that is kept; the record must not be empty."""
        return self._due[0]

    @property
    def seen_until_ns(self) -> int:
        """Up to when every attempt due has ended; 0 before the first."""
        at = self._committed - self.dropped
        return self._due[at - 1] + self.interval_ns if at else 0

    def begin(self, due_ns: int) -> int:
        """Notes that the next attempt is due; its index."""
        self._due.append(due_ns)
        self._start.append(due_ns)
        self._done.append(due_ns)
        self._code.append(PENDING)
        return self.dropped + len(self._code) - 1

    def end(self, index: int, start_ns: int, done_ns: int, code: int) -> None:
        """Notes how attempt *index* went."""
        at = index - self.dropped
        self._start[at], self._done[at], self._code[at] = start_ns, done_ns, code
        at, count = self._committed - self.dropped, len(self._code)
        while at < count and self._code[at] != PENDING:
            if self._code[at] != Code.OK:
                self.last_bad_due_ns = self._due[at]
            at += 1
        self._committed = self.dropped + at

    def batch(self) -> Batch | None:
        """What was committed since the last `sent`; None if nothing."""
        if self._sent == self._committed:
            return None
        return self._slice(self._sent - self.dropped, self._committed - self.dropped)

    def sent(self, batch: Batch) -> None:
        """*batch* is in safe hands; makes room."""
        self._sent = batch.first_index + len(batch.code)
        while len(self._code) > self._kept_max and self._sent - self.dropped >= TRIMMED:
            for column in (self._due, self._start, self._done, self._code):
                del column[:TRIMMED]
            self.dropped += TRIMMED

    def attempts(self, from_ns: int) -> Attempts:
        """Copies of the committed attempts due from *from_ns* on."""
        end = self._committed - self.dropped
        kept = self._slice(min(bisect_left(self._due, from_ns), end), end)
        return Attempts(kept.due_ns, kept.start_ns, kept.done_ns, kept.code, self.interval_ns)

    def ended(self, due_from_ns: int, done_from_ns: int) -> tuple[list[int], list[int]]:
        """Codes, and latencies from the due time in ns, of attempts that gave data; committed or not.

        Of those due from *due_from_ns* on, those that ended from *done_from_ns* on.
        """
        codes, latencies_ns = [], []
        for at in range(bisect_left(self._due, due_from_ns), len(self._code)):
            if self._code[at] < Code.ERROR and self._done[at] >= done_from_ns:
                codes.append(self._code[at])
                latencies_ns.append(self._done[at] - self._due[at])
        return codes, latencies_ns

    def _slice(self, begin: int, end: int) -> Batch:
        columns = (column[begin:end] for column in (self._due, self._start, self._done, self._code))
        return Batch(self.dropped + begin, *columns)
