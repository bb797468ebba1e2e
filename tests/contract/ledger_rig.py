"""What tests of ledgers share: servers that are removed, a probe that writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

from agent.probes.engine import ProbeEngine


def started(kind: Callable[[], Any]) -> Iterator[Callable[..., Any]]:
    """Body of a fixture: starts servers of *kind*, with options, and removes them all."""
    made: list[Any] = []

    def make(*options: str) -> Any:
        made.append(kind())
        made[-1].start(*options)
        return made[-1]

    yield make
    for server in made:
        server.remove()


def running(engine: ProbeEngine) -> Any:
    """The one probe of the test."""
    return engine._probes["run", "l"]


async def written(
    engine: ProbeEngine, kind: str, spec: dict[str, Any], count: int, *, interval_ms: float, timeout_ms: float
) -> None:
    """A ledger of which more than *count* records were sent; its probe goes on."""
    whole = {"mode": "ledger", **spec}
    await engine.start("run", "l", kind, whole, interval_ms=interval_ms, timeout_ms=timeout_ms)
    until = time.monotonic() + 90
    while len(running(engine).probe.ledger.written().sent_ns) < count + 1:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
