"""Every packet later, by a fixed time and a uniform jitter around it."""

from __future__ import annotations

import random
from typing import Any

from agent.system.queue_engine import Decide, Stream


def stream(arguments: dict[str, Any], side: str) -> Stream:
    del side
    return Stream(decider(arguments["delay_ms"], arguments["jitter_ms"]))


def decider(delay_ms: float, jitter_ms: float) -> Decide:
    delay_ns, jitter_ns = int(delay_ms * 1e6), int(jitter_ms * 1e6)
    if not jitter_ns:
        return lambda _, now_ns: now_ns + delay_ns
    chance, shortest_ns, span_ns = random.random, delay_ns - jitter_ns, 2 * jitter_ns
    return lambda _, now_ns: now_ns + max(0, shortest_ns + int(chance() * span_ns))
