"""Network faults asked and measured: delay, rate, throughput left, loss, and what their holders cost.

Two namespaces with a cable (veth) between them, the fault in the near one. Everything is measured by processes that
know of no fault. Run by `make bench`; never a timed assert in the suite.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from agent.faults import gauge, registry
from agent.faults.gauge import Asked
from agent.system import qdisc
from tests.chaos import network_pair
from tests.chaos.subject import network_queue
from tests.chaos.subject.network_queue import FAR, NEAR

Process = subprocess.Popen[bytes]
pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(network_queue.missing()), reason=network_queue.missing() or "-"),
]
DELAYS_MS = (5.0, 20.0, 100.0)
RATES_MBIT = (5.0, 50.0, 200.0)
LOSSES = (0.01, 0.1, 0.3)
ROUND_TRIPS = 200
REST_S, WINDOW_S = 2.0, 4.0
DEVICE = {"device": "dev0", "direction": "out"}


@pytest.fixture
def cable() -> Iterator[tuple[Process, Process]]:
    with network_queue.pair() as (near, far):
        yield near, far


@contextmanager
def held(kind: str, near: Process, **spec: Any) -> Iterator[psutil.Process]:
    """The fault in force in the near namespace; its holder."""
    faults = registry.all_faults()
    scoped = {"network_of": {"pid": near.pid}, **({} if "device" in spec else {"peers": [FAR]})}
    (effect,) = registry.plan(faults, kind, scoped | spec)
    effect.deadline_ns = time.monotonic_ns() + 120 * 10**9
    fault = faults[kind]

    async def begin() -> None:
        fault.prepare(effect)
        await fault.inject(effect)

    with asyncio.Runner() as runner:
        try:
            runner.run(begin())
            yield psutil.Process(effect.facts["holder"]["pid"])
        finally:
            runner.run(fault.revert(effect))


def cpu_s(holder: psutil.Process) -> float:
    used = holder.cpu_times()
    return used.user + used.system


def mechanisms(other: str) -> Iterator[str]:
    """The queue, and the qdisc where the kernel has it."""
    yield "queue"
    if lacks := qdisc.lacks(other):
        print(f"{other}: skipped, the node lacks {lacks}")
    else:
        yield other


def test_delay_asked_and_measured(cable: tuple[Process, Process]) -> None:
    near, far = cable
    bare = network_pair.round_trips_ms(near, far, ROUND_TRIPS)
    print(f"\nround trips of one byte over TCP; without a fault p50 {bare[ROUND_TRIPS // 2]:.3f} ms")
    print(f"{'mechanism':10} {'asked ms':>9} {'p50 ms':>9} {'p99 ms':>9} {'p50 over asked':>15}")
    for mechanism in mechanisms("netem"):
        for side in ("in", "out") if mechanism == "queue" else ("out",):
            for asked_ms in DELAYS_MS:
                spec = {"direction": side} if mechanism == "queue" else DEVICE
                count = ROUND_TRIPS if asked_ms < 50 else ROUND_TRIPS // 4
                with held("network.delay", near, mechanism=mechanism, delay_ms=asked_ms, **spec):
                    took = network_pair.round_trips_ms(near, far, count)
                middle, tail = took[count // 2], took[count * 99 // 100]
                over = middle - bare[ROUND_TRIPS // 2] - asked_ms
                print(f"{mechanism + ' ' + side:10} {asked_ms:9.0f} {middle:9.2f} {tail:9.2f} {over:+15.2f}")
                assert middle >= asked_ms


def throughput(near: Process, far: Process, side: str, window_s: float = WINDOW_S) -> float:
    if side == "in":
        return network_pair.throughput_mbit(far, near, NEAR, REST_S, window_s)
    return network_pair.throughput_mbit(near, far, FAR, REST_S, window_s)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("network.delay", {"delay_ms": 5}),
        ("network.delay", {"delay_ms": 20}),
        ("network.delay", {"delay_ms": 100}),
        ("network.delay", {"delay_ms": 20, "jitter_ms": 2}),
        ("network.reorder", {"fraction": 0.01, "by_ms": 5}),
        ("network.duplicate", {"fraction": 0.01}),
        ("network.corrupt", {"fraction": 0.001}),
    ],
    ids=str,
)
def test_throughput_left(cable: tuple[Process, Process], kind: str, spec: dict[str, Any]) -> None:
    """One TCP connection, without the fault and with it in turn; and what its holder takes meanwhile."""
    near, far = cable
    print(f"\n{kind} {spec}")
    for side in ("in", "out"):
        bare = throughput(near, far, side, 1.0)
        with held(kind, near, direction=side, **spec) as holder:
            before_s, begun = cpu_s(holder), time.monotonic()
            left = throughput(near, far, side)
            core = (cpu_s(holder) - before_s) / (time.monotonic() - begun)
            rss_mb = holder.memory_info().rss / 1e6
        print(
            f"{side:4} {left:8.0f} Mbit/s of {bare:8.0f} ({left / bare:7.2%}); holder {core:4.0%} of a core, "
            f"{rss_mb:.0f} MB"
        )
        assert left > 0


def test_bandwidth_asked_and_measured(cable: tuple[Process, Process]) -> None:
    """What one TCP connection brings; its headers are within the rate, so it can be 94 to 97 % of it at best."""
    near, far = cable
    print(f"\n{'mechanism':10} {'asked':>8} {'measured Mbit/s':>16} {'of asked':>9} {'holder':>7}")
    for mechanism in mechanisms("tbf"):
        for side in ("in", "out") if mechanism == "queue" else ("out",):
            for asked in RATES_MBIT:
                spec = {"direction": side} if mechanism == "queue" else DEVICE
                with held("network.bandwidth", near, mechanism=mechanism, rate_mbit=asked, **spec) as holder:
                    before_s, begun = cpu_s(holder), time.monotonic()
                    measured = throughput(near, far, side)
                    core = (cpu_s(holder) - before_s) / (time.monotonic() - begun)
                name = f"{mechanism} {side}"
                print(f"{name:10} {asked:8.0f} {measured:16.2f} {measured / asked:9.1%} {core:7.1%}")
                assert 0.5 * asked < measured < 1.2 * asked


def test_fractions_asked_and_measured(cable: tuple[Process, Process]) -> None:
    """Echo requests: answers that are missing, twice, or late."""
    near, _ = cable
    facts = {"network": f"/proc/{near.pid}/ns/net", "peers": [f"{FAR}/32"], "protocol": "any", "ports": []}
    asked = Asked(count=4000, interval_s=0.0005, wait_s=0.3)
    print(f"\n{'fault':20} {'asked':>7} {'measured':>9}")
    kinds = ["network.duplicate", "network.corrupt", "network.reorder"]
    if "network.loss" in registry.KINDS:
        kinds.append("network.loss")
    for kind in kinds:
        for fraction in LOSSES:
            with held(kind, near, direction="in", **_fraction(kind, fraction)):
                reading = asyncio.run(gauge.read(facts, asked, FAR))
            late = sum(ns > 4e6 for ns in reading.first.values())
            seen = {"network.duplicate": reading.copies, "network.corrupt": reading.spoilt, "network.reorder": late}
            part = seen.get(kind, reading.unanswered) / len(reading.sent)
            print(f"{kind:20} {fraction:7.1%} {part:9.2%}")
            assert abs(part - fraction) < max(0.01, 0.25 * fraction)


def _fraction(kind: str, fraction: float) -> dict[str, Any]:
    if kind == "network.reorder":
        return {"fraction": fraction, "by_ms": 5.0}
    return {"loss_fraction" if kind == "network.loss" else "fraction": fraction}


def test_how_fast_it_begins_and_ends(cable: tuple[Process, Process]) -> None:
    """From `go` to the rules, and from the revert to packets that pass, as the agent sees it."""
    near, _ = cable
    begins, ends = [], []
    for _ in range(10):
        faults = registry.all_faults()
        (effect,) = registry.plan(faults, "network.delay", {
            "network_of": {"pid": near.pid}, "peers": [FAR], "delay_ms": 10.0, "direction": "in",
        })  # fmt: skip
        effect.deadline_ns = time.monotonic_ns() + 120 * 10**9
        begun = time.monotonic()
        with asyncio.Runner() as runner:
            fault = faults["network.delay"]
            fault.prepare(effect)
            report = runner.run(fault._engage(effect))
            begins.append((report["hi_ns"] / 1e9 - begun) * 1e3)
            begun = time.monotonic()
            runner.run(fault.revert(effect))
            ends.append((time.monotonic() - begun) * 1e3)
    print(
        f"\nprepared and in force in {statistics.median(begins):.0f} ms, reverted in {statistics.median(ends):.0f} ms"
    )
