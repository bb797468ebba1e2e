"""Packets at a rate: a bucket that fills at the rate, a wait for what finds it empty, a drop for what would wait long.

Kept as one instant, at which the bucket would be full: a packet moves it by its own length at the rate.
"""

from __future__ import annotations

from typing import Any, Final

from agent.system import queue_table
from agent.system.queue_engine import ACCEPT, DROP, Decide, Packet, Stream

_SEGMENT_BELOW_MBIT: Final = 100.0  # below, the kernel cuts big packets up first: one of 64 kB would be all that passes
_HEAD_BYTES: Final = 40  # the kernel says a packet's length only with some of its bytes


def streams(arguments: dict[str, Any]) -> dict[str, Stream]:
    rate_mbit, burst_kb, queue_ms = arguments["rate_mbit"], arguments["burst_kb"], arguments["queue_ms"]
    segment = rate_mbit < _SEGMENT_BELOW_MBIT
    return {
        side: Stream(decider(rate_mbit, burst_kb, queue_ms), copy_bytes=_HEAD_BYTES, segment=segment)
        for side in queue_table.sides(arguments["direction"])
    }


def decider(rate_mbit: float, burst_kb: float, queue_ms: float) -> Decide:
    ns_a_byte = 8e3 / rate_mbit
    burst_ns, longest_ns = int(burst_kb * 1e3 * ns_a_byte), int(queue_ms * 1e6)
    full_ns = 0

    def decide(packet: Packet, now_ns: int) -> int:
        nonlocal full_ns
        start_ns = max(full_ns, now_ns)
        wait_ns = start_ns + int(packet.length * ns_a_byte) - burst_ns - now_ns
        if wait_ns > longest_ns:
            return DROP
        full_ns = start_ns + int(packet.length * ns_a_byte)
        return now_ns + wait_ns if wait_ns > 0 else ACCEPT

    return decide
