"""What became of numbered records: written through a service, acknowledged or not, and read back after recovery.

Pure functions over columns. Invariant: a record counts as lost only if it was acknowledged and is not there; what was
never answered may be there or not, and is counted apart. Times are ns of the writer's monotonic clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

RANGES_MAX: Final = 200  # of each kind; the counts are whole


@dataclass(frozen=True, slots=True)
class Written:
    """Columns by a record's number: when it was sent, when acknowledged (0: it was not), whether it was refused."""

    sent_ns: Sequence[int]
    acknowledged_ns: Sequence[int]
    refused: Sequence[int] = ()  # numbers that the service itself said it did not take


@dataclass(frozen=True, slots=True)
class Balance:
    """The comparison. Ranges are `[first, last]` of numbers that follow each other."""

    sent: int
    acknowledged: int
    refused: int
    unknown: int  # neither acknowledged nor refused
    present: int  # different numbers that are there
    lost: int
    lost_ranges: list[list[int]]
    lost_s: float  # from the first to the last lost record's acknowledgement
    lost_lo_ns: int  # when the first of them was sent; 0: none
    lost_hi_ns: int  # when the last of them was acknowledged
    duplicated: int  # records beyond the first of their number
    duplicated_ranges: list[list[int]]
    unacknowledged_present: int
    out_of_order: int  # stand behind a record that was sent after their own acknowledgement
    foreign: int  # records that this writer never sent
    complete: bool = True  # False: they could not be read back, and nothing above is known of what is there
    note: str = ""
    members: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def compare(written: Written, present: Sequence[int]) -> Balance:
    """The balance of *written* against the numbers that were read back, in the order in which the service has them."""
    sent, refused = len(written.sent_ns), set(written.refused)
    counts = Counter(present)
    acknowledged = [number for number in range(sent) if written.acknowledged_ns[number]]
    lost = [number for number in acknowledged if number not in counts]
    twice = sorted(number for number, count in counts.items() if count > 1)
    known = [number for number in counts if 0 <= number < sent]
    return Balance(
        sent=sent, acknowledged=len(acknowledged), refused=len(refused),
        unknown=sent - len(acknowledged) - len(refused), present=len(known),
        lost=len(lost), lost_ranges=ranges(lost)[:RANGES_MAX],
        lost_s=_span_s([written.acknowledged_ns[number] for number in lost]),
        lost_lo_ns=min((written.sent_ns[number] for number in lost), default=0),
        lost_hi_ns=max((written.acknowledged_ns[number] for number in lost), default=0),
        duplicated=sum(counts[number] - 1 for number in twice), duplicated_ranges=ranges(twice)[:RANGES_MAX],
        unacknowledged_present=sum(not written.acknowledged_ns[number] for number in known),
        out_of_order=_out_of_order(written, present), foreign=len(counts) - len(known),
    )  # fmt: skip


def unread(written: Written, note: str) -> Balance:
    """What is known where nothing could be read back: of losses, nothing."""
    balance = compare(written, range(len(written.sent_ns)))
    document = balance.document() | {
        "present": 0, "duplicated": 0, "unacknowledged_present": 0, "out_of_order": 0, "complete": False, "note": note,
    }  # fmt: skip
    return Balance(**document)


def ranges(numbers: Sequence[int]) -> list[list[int]]:
    """`[first, last]` of each run of numbers that follow each other; *numbers* are sorted."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


def _span_s(instants_ns: list[int]) -> float:
    return (max(instants_ns) - min(instants_ns)) / 1e9 if instants_ns else 0.0


def _out_of_order(written: Written, present: Sequence[int]) -> int:
    """Attempts overlap: only what was acknowledged before another was sent must stand before it."""
    latest_sent_ns, count, seen = 0, 0, set[int]()
    for number in present:
        if not 0 <= number < len(written.sent_ns) or number in seen:
            continue
        seen.add(number)
        count += 0 < written.acknowledged_ns[number] < latest_sent_ns
        latest_sent_ns = max(latest_sent_ns, written.sent_ns[number])
    return count
