"""What a path to a peer is like, measured from outside: round trips, order, copies, damage and rate.

The asking is done by `agent.faults.gauge_echo`, a process that knows nothing of rules; here is the arithmetic.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
from typing import Any, Final

import msgspec

HEADERS: Final = 28  # bytes: IPv4's and ICMP's
_FIND_S: Final = 0.3
_REFUSALS_MAX: Final = 2  # hosts send few ICMP messages about datagrams that nobody wants


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How a peer is asked."""

    count: int
    interval_s: float
    wait_s: float  # for an answer
    size: int = 64  # bytes of content of each


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of one peer and what came back; times on CLOCK_MONOTONIC."""

    peer: str = ""  # empty: none answered
    errors: int = 0  # packets refused for their checksum, in the namespace, meanwhile
    sent: list[int] = []
    replies: list[tuple[int, int, bool]] = []  # number, instant, as it was sent

    @property
    def first(self) -> dict[int, int]:
        """Round trip in ns by number, to the first reply."""
        found: dict[int, int] = {}
        for number, at_ns, _ in self.replies:
            if number < len(self.sent):
                found.setdefault(number, at_ns - self.sent[number])
        return found

    @property
    def round_trip_ms(self) -> float:
        """Median; nan without an answer."""
        found = self.first.values()
        return statistics.median(found) / 1e6 if found else float("nan")

    @property
    def unanswered(self) -> int:
        return len(self.sent) - len(self.first)

    @property
    def copies(self) -> int:
        """Replies beyond the first of their number."""
        return len(self.replies) - len({number for number, _, _ in self.replies})

    @property
    def spoilt(self) -> int:
        return sum(not intact for _, _, intact in self.replies)

    @property
    def overtaken(self) -> int:
        """Replies that came after one that was asked for later."""
        highest, count = -1, 0
        for number, _, _ in self.replies:
            count += number < highest
            highest = max(highest, number)
        return count

    def rate_mbit(self, size: int, skip_bytes: int) -> float:
        """Of the replies in Mbit/s, without the first *skip_bytes*; nan with too few of them."""
        instants = [at_ns for _, at_ns, _ in self.replies][skip_bytes // (size + HEADERS) :]
        if len(instants) < 10 or instants[-1] <= instants[0]:
            return float("nan")
        return (len(instants) - 1) * (size + HEADERS) * 8e3 / (instants[-1] - instants[0])


async def read(facts: dict[str, Any], asked: Asked, peer: str = "") -> Reading:
    """Asks *peer*, or the first of the scope's peers that answers, in the scope's namespace and by its protocol."""
    protocol, ports = facts["protocol"], facts["ports"]
    how = "echo"
    if protocol == "udp":
        how = "datagram"
    elif protocol == "tcp" or ports:
        how = "connect"
    question = {
        "network": facts["network"], "peers": facts["peers"], "chosen": peer, "how": how,
        "port": ports[0] if ports else 0, "find_s": _FIND_S, "device_index": facts.get("device_index", 0),
        **msgspec.structs.asdict(asked),
    }  # fmt: skip
    if how == "datagram":
        question["count"] = min(asked.count, _REFUSALS_MAX)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-m", "agent.faults.gauge_echo", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        output, _ = await child.communicate(json.dumps(question).encode())
    except asyncio.CancelledError:
        child.kill()
        raise
    if child.returncode != 0:
        return Reading()
    return msgspec.json.decode(output, type=Reading)


def by_echo(facts: dict[str, Any]) -> bool:
    """Whether `read` asks by ICMP echo, the only way that shows copies, order and rate."""
    return facts["protocol"] in ("any", "icmp") and not facts["ports"]
