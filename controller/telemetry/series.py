"""One probe's attempts, put together from chunks: counts, latencies, and the timeline of states. Pure.

Invariant: attempts that are missing are counted (`dropped`) and shown as no data, never as good.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from protos.column import unpack_int64, unpack_uint8
from protos.outage import FAILED, NO_DATA, Code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from controller.store.base import ChunkRecord

GOOD, FAILING, BLIND = 0, 1, 2
_INT64: Final = 8


@dataclass(slots=True)
class Series:
    """Columns by due time; *gaps* holds the positions before which attempts are missing."""

    due_ns: array[int] = field(default_factory=lambda: array("q"))
    done_ns: array[int] = field(default_factory=lambda: array("q"))
    code: array[int] = field(default_factory=lambda: array("B"))
    gaps: set[int] = field(default_factory=set)
    dropped: int = 0

    @classmethod
    def of(cls, chunks: Sequence[ChunkRecord]) -> Series:
        """The chunks of one probe on one agent, by first index; a chunk that came twice counts once."""
        made, upcoming = cls(), 0
        for chunk in sorted(chunks, key=lambda c: c.first_index):
            if chunk.first_index < upcoming:
                continue
            if chunk.first_index > upcoming:
                made.gaps.add(len(made.due_ns))
                made.dropped += chunk.first_index - upcoming
            size = chunk.count * _INT64
            made.due_ns.extend(unpack_int64(chunk.columns[:size], chunk.count))
            made.done_ns.extend(unpack_int64(chunk.columns[2 * size : 3 * size], chunk.count))
            made.code.extend(unpack_uint8(chunk.columns[3 * size :], chunk.count))
            upcoming = chunk.first_index + chunk.count
        return made

    @property
    def attempts(self) -> int:
        return len(self.code)

    @property
    def failures(self) -> int:
        return sum(self.code.count(code) for code in FAILED)

    @property
    def overruns(self) -> int:
        return self.code.count(Code.OVERRUN)

    def latencies_ns(self) -> Iterator[int]:
        """Of the successes, from the due time: a refusal is quick and says nothing of latency; failures are counted."""
        for due, done, code in zip(self.due_ns, self.done_ns, self.code, strict=True):
            if code == Code.OK:
                yield done - due

    def timeline(self) -> Iterator[tuple[int, int]]:
        """(due time, state) at each change of state."""
        state: int | None = None
        for k, code in enumerate(self.code):
            if k in self.gaps and k and state != BLIND:
                yield self.due_ns[k - 1] + 1, BLIND
                state = BLIND
            now = FAILING if code in FAILED else BLIND if code in NO_DATA else GOOD
            if now != state:
                yield self.due_ns[k], now
                state = now


def percentile_ms(ordered_ns: Sequence[int], fraction: float) -> float:
    """The smallest value that at least *fraction* of *ordered_ns* do not exceed; 0.0 of nothing."""
    if not ordered_ns:
        return 0.0
    return ordered_ns[max(0, math.ceil(fraction * len(ordered_ns)) - 1)] / 1e6
