"""A fault on packets, in force between two namespaces, and what a peer's answers take."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any

from agent.faults import gauge, registry
from agent.faults.base import Effect, Receipt
from agent.faults.gauge import Asked

Process = subprocess.Popen[bytes]


def planned(kind: str, near: Process, **spec: Any) -> tuple[Any, Effect]:
    faults = registry.all_faults()
    (effect,) = registry.plan(faults, kind, {"network_of": {"pid": near.pid}} | spec)
    effect.deadline_ns = time.monotonic_ns() + 30 * 10**9
    return faults[kind], effect


@contextlib.asynccontextmanager
async def held(kind: str, near: Process, **spec: Any) -> AsyncIterator[tuple[Any, Effect, Receipt]]:
    """The fault in force, with its receipt."""
    fault, effect = planned(kind, near, **spec)
    fault.prepare(effect)
    try:
        injected = await fault.inject(effect)
        yield fault, effect, await fault.observe(effect, injected)
    finally:
        await fault.revert(effect)
    assert fault.residue(effect) == []


async def round_trip_ms(near: Process, peer: str, **scope: Any) -> float:
    facts = {"network": f"/proc/{near.pid}/ns/net", "peers": [f"{peer}/32"], "protocol": "any", "ports": []} | scope
    reading = await gauge.read(facts, Asked(count=5, interval_s=0.005, wait_s=0.5), peer)
    assert reading.replies, f"{peer} does not answer"
    return reading.round_trip_ms
