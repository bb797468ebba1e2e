"""What probes of brokers cost, and what rate one agent holds; as `bench_service_probes`, run by `make bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.bench_service_probes import cost, held
from tests.contract import amqp_rig, nats_rig
from tests.contract.nats_rig import NatsServer

HEADING = f"{'probe':24} {'CPU ms/1000':>12} {'wall ms/1000':>13} {'rate/s':>8} {'lag p99 ms':>11}"


@pytest.mark.benchmark
@pytest.mark.timeout(600)
async def test_cost_of_broker_probes(tmp_path: Path) -> None:
    if lacks := nats_rig.missing() or amqp_rig.missing():
        pytest.skip(lacks)
    stream, node = NatsServer(), amqp_rig.shared_node()
    try:
        stream.start()
        node.start()
        cases: list[tuple[str, str, dict[str, Any]]] = [
            ("nats ping, kept", "nats", {"servers": [stream.url]}),
            ("nats ping, fresh", "nats", {"servers": [stream.url], "keepalive": False}),
            ("nats ledger, kept", "nats", {"servers": [stream.url], "mode": "ledger"}),
            ("amqp ping, fresh", "amqp", {"servers": [node.url]}),
            ("amqp ledger, kept", "amqp", {"servers": [node.url], "mode": "ledger"}),
        ]
        print(f"\n{HEADING}")
        for label, kind, spec in cases:
            cpu_ms, wall_ms = await cost(kind, spec, tmp_path)
            rate_s, lag_ms = await held(kind, spec, tmp_path)
            print(f"{label:24} {cpu_ms:12.1f} {wall_ms:13.1f} {rate_s:8.1f} {lag_ms:11.2f}", flush=True)
            assert rate_s > 500
    finally:
        stream.remove()
