"""Every packet later, by a fixed time and a uniform jitter around it.

What this node's own TCP sends may be dropped and sent again when its time has come (`resent`): held in the kernel it
would count as unsent, and TCP would send no more than two packets a delay.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from agent.system import queue_table
from agent.system.queue_engine import DROP, WHOLE, Decide, Fate, Stream
from agent.system.queue_sender import Sender

Instant = Callable[[int], int]  # now -> when


def streams(arguments: dict[str, Any]) -> dict[str, Stream]:
    when = instant(arguments["delay_ms"], arguments["jitter_ms"])
    found = {side: Stream(lambda _, now_ns: when(now_ns)) for side in queue_table.sides(arguments["direction"])}
    if arguments.get("resent") and "out" in found:
        sender = Sender(arguments["mark"], from_here=True)
        found["sent"] = Stream(resending(when), copy_bytes=WHOLE, segment=True, sender=sender)
    return found


def instant(delay_ms: float, jitter_ms: float) -> Instant:
    delay_ns, jitter_ns = int(delay_ms * 1e6), int(jitter_ms * 1e6)
    if not jitter_ns:
        return lambda now_ns: now_ns + delay_ns
    chance, shortest_ns, span_ns = random.random, delay_ns - jitter_ns, 2 * jitter_ns
    return lambda now_ns: now_ns + max(0, shortest_ns + int(chance() * span_ns))


def resending(when: Instant) -> Decide:
    return lambda packet, now_ns: Fate(DROP, None, packet.content, when(now_ns))
