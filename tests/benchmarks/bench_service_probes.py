"""What probes of services cost, and what rate one agent holds. Goal: 1,000 attempts a second.

Processor time per 1,000 attempts stands beside a bare loop of the client; the agent's own lag beside the rate. Run by
`make bench`.
"""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.probes.endpoint import Endpoint
from agent.probes.engine import ProbeEngine
from agent.probes.ledger import Ledger
from agent.probes.registry import build
from agent.probes.resp import Resp
from protos.recovery import Code
from tests.contract import postgres_rig, redis_rig
from tests.contract.postgres_rig import Postgres
from tests.contract.redis_rig import RedisServer

ATTEMPTS = 1000
RATE_S = 1000
HELD_S = 5.0
HEADING = f"{'probe':34} {'CPU ms/1000':>12} {'wall ms/1000':>13} {'of bare':>8} {'rate/s':>8} {'lag p99 ms':>11}"


async def measured(attempt: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    """Processor and wall time of 1,000 attempts, one after another, in ms."""
    for _ in range(50):
        await attempt()
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for _ in range(ATTEMPTS):
        await attempt()
    return (time.process_time() - cpu_s) * 1e3, (time.perf_counter() - wall_s) * 1e3


async def cost(kind: str, spec: dict[str, Any], folder: Path) -> tuple[float, float]:
    probe: Any = build(kind, spec, lambda _: False)
    if getattr(probe, "keeps_ledger", False):
        probe.ledger = Ledger(folder / f"ledger_{time.monotonic_ns()}")
    await probe.open()
    try:
        return await measured(lambda: probe.attempt(5.0))
    finally:
        await probe.close()


async def held(kind: str, spec: dict[str, Any], folder: Path) -> tuple[float, float]:
    """Successes a second at 1,000 asked for, and how late attempts began, ms at the 99th percentile."""
    due, start, codes = array("q"), array("q"), array("B")

    def sink(_run: str, _name: str, _first: int, due_ns: Any, start_ns: Any, _done_ns: Any, outcome: Any) -> None:
        due.extend(due_ns)
        start.extend(start_ns)
        codes.extend(outcome)

    engine = ProbeEngine(sink=sink, ledgers=folder)
    await engine.start("bench", "p", kind, spec, interval_ms=1000 / RATE_S, timeout_ms=2000)
    await asyncio.sleep(HELD_S)
    await engine.close()
    late = sorted(began - asked for began, asked in zip(start, due, strict=True) if began)
    span_s = (due[-1] - due[0]) / 1e9
    return codes.count(int(Code.OK)) / span_s, late[math.ceil(0.99 * len(late)) - 1] / 1e6


@pytest.mark.benchmark
@pytest.mark.timeout(600)
async def test_cost_of_service_probes(tmp_path: Path) -> None:
    if lacks := postgres_rig.missing() or redis_rig.missing():
        pytest.skip(lacks)
    import asyncpg

    database, cache, rows = Postgres(), RedisServer(), []
    try:
        database.start()
        cache.start("--appendfsync", "no")
        bare_pg = await asyncpg.connect(database.dsn)
        bare_redis = Resp(await Endpoint("127.0.0.1", cache.port).connect())
        bare = {
            "postgres": await measured(lambda: bare_pg.execute("SELECT 1")),
            "redis": await measured(lambda: bare_redis.call("PING")),
        }
        bare_redis.close()
        await bare_pg.close()
        for name, kind, spec in (
            ("postgres read, kept", "postgres", {"dsn": database.dsn}),
            ("postgres read, fresh", "postgres", {"dsn": database.dsn, "keepalive": False}),
            ("postgres ledger, kept", "postgres", {"dsn": database.dsn, "mode": "ledger"}),
            ("redis ping, kept", "redis", {"url": cache.url}),
            ("redis ping, fresh", "redis", {"url": cache.url, "keepalive": False}),
            ("redis ledger, kept", "redis", {"url": cache.url, "mode": "ledger"}),
            ("tcp to redis", "tcp", {"host": "127.0.0.1", "port": cache.port}),
        ):
            cpu_ms, wall_ms = await cost(kind, spec, tmp_path)
            rate, lag_ms = await held(kind, spec, tmp_path)
            ratio = f"{cpu_ms / bare[kind][0]:8.2f}" if kind in bare else f"{'':8}"
            rows.append(f"{name:34} {cpu_ms:12.0f} {wall_ms:13.0f} {ratio} {rate:8.0f} {lag_ms:11.2f}")
    finally:
        database.remove()
        cache.remove()
    print(
        f"\n{HEADING}",
        *(f"bare {kind:29} {cpu:12.0f} {wall:13.0f}" for kind, (cpu, wall) in bare.items()),
        *rows,
        sep="\n",
    )
    print(f"rate: successes a second of {RATE_S} asked for over {HELD_S:g} s; lag: how late attempts began")
    assert rows
