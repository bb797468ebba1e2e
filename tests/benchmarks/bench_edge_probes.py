"""What the probes of the edge cost, and what rate one agent holds; measured as those of services are. `make bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tests.benchmarks.bench_service_probes import HEADING, cost, held
from tests.contract.edge_rig import DnsRig, GrpcRig, HlsRig, ObjectRig
from tests.contract.s3_rig import S3Rig


async def signed_case(path: Path, made: list[Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """The ledger on a store that checks signatures, where there is one."""
    if S3Rig.missing():
        return []
    made.append(S3Rig(path))
    return [("object ledger, signed, kept", "object", await made[-1].up() | {"mode": "ledger", "keepalive": True})]


@pytest.mark.benchmark
@pytest.mark.timeout(600)
async def test_cost_of_edge_probes(tmp_path: Path) -> None:
    made: list[Any] = [HlsRig(tmp_path), ObjectRig(tmp_path), DnsRig(tmp_path), GrpcRig(tmp_path)]
    if lacks := ", ".join(filter(None, (rig.missing() for rig in made))):
        pytest.skip(lacks)
    agents = grpc.aio.insecure_channel("127.0.0.1:1")  # an agent has one of its own
    rows = []
    try:
        hls, store, dns, health = [await rig.up() for rig in made]
        media = {"url": hls["url"].replace("live", "low/index"), "keepalive": True, "age_max_s": 0}
        for name, kind, spec in (
            ("hls, one playlist, kept", "hls", media),
            ("hls, two rungs, segments, kept", "hls", hls | {"age_max_s": 0}),
            ("dns", "dns", dns),
            ("grpc, kept", "grpc", health),
            ("grpc, fresh", "grpc", health | {"keepalive": False}),
            ("object put, fresh", "object", store | {"mode": "put"}),
            ("object verify, kept", "object", store | {"keepalive": True}),
            ("object ledger, kept", "object", store | {"mode": "ledger", "keepalive": True}),
            *(await signed_case(tmp_path, made)),
        ):
            cpu_ms, wall_ms = await cost(kind, spec, tmp_path)
            rate, lag_ms = await held(kind, spec, tmp_path)
            rows.append(f"{name:34} {cpu_ms:12.0f} {wall_ms:13.0f} {'':8} {rate:8.0f} {lag_ms:11.2f}")
    finally:
        for rig in made:
            rig.remove()
        await agents.close()
    print(f"\n{HEADING}", *rows, sep="\n")
    assert rows
