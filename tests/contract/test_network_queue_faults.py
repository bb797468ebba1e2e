"""Faults on packets by a queue: who is met and who is not, what services see, and how it ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import statistics
from collections.abc import Iterator
from typing import Any

import pytest

from agent.faults import gauge
from agent.faults.base import Undo
from agent.faults.gauge import Asked
from agent.system import queue_socket
from protos.error import RefusedError
from tests.chaos import case as cases
from tests.chaos import network_pair
from tests.chaos.subject import network_queue
from tests.chaos.subject.network_queue import FAR, NEAR
from tests.contract.packet_rig import Process, held, planned, round_trip_ms

pytestmark = pytest.mark.skipif(bool(network_queue.missing()), reason=network_queue.missing() or "-")
LATE_MS = 20.0


@pytest.fixture
def cable() -> Iterator[tuple[Process, Process]]:
    with network_queue.pair() as (near, far):
        yield near, far


@pytest.mark.parametrize(("direction", "times"), [("in", 1), ("out", 1), ("both", 2)])
async def test_a_delay_is_what_was_asked_once_each_way(
    cable: tuple[Process, Process], direction: str, times: int
) -> None:
    async with held("network.delay", cable[0], peers=[FAR], delay_ms=LATE_MS, direction=direction) as (_, effect, seen):
        assert seen.confirmed, seen.text
        assert effect.undo is Undo.KERNEL
        took_ms = await round_trip_ms(cable[0], FAR)
        assert times * LATE_MS <= took_ms <= times * (LATE_MS + 10)
        took_ms = await round_trip_ms(cable[0], FAR, protocol="tcp")
        assert times * LATE_MS <= took_ms <= times * (LATE_MS + 10), "TCP that is sent again takes as long"


async def test_only_the_peers_the_protocol_and_the_ports_that_were_named_are_met(
    cable: tuple[Process, Process],
) -> None:
    async with held("network.delay", cable[0], peers=["127.0.0.7"], direction="in", delay_ms=LATE_MS):
        assert await round_trip_ms(cable[0], FAR) < LATE_MS
        assert await round_trip_ms(cable[0], "127.0.0.8") < LATE_MS
    spec = {"peers": [FAR], "protocol": "tcp", "ports": [81], "delay_ms": LATE_MS}
    async with held("network.delay", cable[0], **spec) as (_, _, seen):
        assert seen.confirmed, seen.text
        assert await round_trip_ms(cable[0], FAR) < LATE_MS
        assert await round_trip_ms(cable[0], FAR, protocol="tcp", ports=[80]) < LATE_MS
        assert await round_trip_ms(cable[0], FAR, protocol="tcp", ports=[81]) >= 2 * LATE_MS


async def test_everyone_is_all_but_loopback_and_neighbours_are_asked(cable: tuple[Process, Process]) -> None:
    await round_trip_ms(cable[0], FAR)  # now the kernel knows it
    async with held("network.delay", cable[0], delay_ms=LATE_MS) as (_, effect, seen):
        assert seen.confirmed, seen.text
        assert FAR in seen.text
        assert effect.description.startswith("packets to and from everyone: 20 ms later")
        assert await round_trip_ms(cable[0], "127.0.0.1") < LATE_MS


async def test_the_nodes_protected_ports_are_spared(cable: tuple[Process, Process]) -> None:
    fault, effect = planned("network.delay", cable[1], peers=[NEAR], protocol="tcp", delay_ms=LATE_MS)
    effect.facts["spared_ports"] = [22]
    fault.prepare(effect)
    await fault.inject(effect)
    assert await round_trip_ms(cable[0], FAR, protocol="tcp", ports=[22]) < LATE_MS
    assert await round_trip_ms(cable[0], FAR, protocol="tcp", ports=[23]) >= 2 * LATE_MS
    await fault.revert(effect)


async def test_ipv6_is_met_too(cable: tuple[Process, Process]) -> None:
    async with held("network.delay", cable[0], peers=["::1"], direction="in", delay_ms=LATE_MS) as (_, _, seen):
        assert seen.confirmed, seen.text
    async with held("network.duplicate", cable[0], peers=["::1"], direction="in", fraction=1) as (_, _, seen):
        assert seen.confirmed, seen.text


async def test_jitter_spreads_the_delay(cable: tuple[Process, Process]) -> None:
    spec = {"peers": [FAR], "direction": "in", "delay_ms": 12, "jitter_ms": 12}
    async with held("network.delay", cable[0], **spec) as (_, effect, seen):
        assert seen.confirmed, seen.text
        reading = await gauge.read(effect.facts, Asked(count=60, interval_s=0.001, wait_s=0.3), FAR)
        took = [ns / 1e6 for ns in reading.first.values()]
        assert len(took) == 60
        assert statistics.pstdev(took) > 3
        assert reading.overtaken > 0, "jitter reorders"


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("network.delay", {"delay_ms": 3, "jitter_ms": 2}),
        ("network.reorder", {"fraction": 0.2, "by_ms": 3}),
        ("network.duplicate", {"fraction": 0.3}),
        ("network.corrupt", {"fraction": 0.02}),
    ],
)
async def test_tcp_brings_everything_whole_through_it(
    cable: tuple[Process, Process], kind: str, spec: dict[str, Any]
) -> None:
    block = os.urandom(1 << 18)
    async with held(kind, cable[0], peers=[FAR], **spec) as (_, _, seen):
        assert seen.confirmed, seen.text
        sent, received = await asyncio.to_thread(network_pair.carried, cable[0], cable[1], block)
    assert sent == received == hashlib.sha256(block).hexdigest()


async def test_effects_of_different_kinds_stack(cable: tuple[Process, Process]) -> None:
    twice = held("network.duplicate", cable[0], peers=[FAR], direction="out", fraction=1)
    late = held("network.delay", cable[0], peers=[FAR], direction="out", delay_ms=LATE_MS)
    async with twice as (_, _, first), late as (_, effect, second):
        assert first.confirmed, first.text
        assert second.confirmed, second.text
        reading = await gauge.read(effect.facts, Asked(count=5, interval_s=0.005, wait_s=0.3), FAR)
        assert reading.copies == 5
        assert reading.round_trip_ms >= LATE_MS


async def test_two_of_a_kind_never_mean_the_same_packets(cable: tuple[Process, Process]) -> None:
    async with held("network.corrupt", cable[0], peers=["10.9.0.0/24"], fraction=0.5) as (fault, _, _):
        _, effect = planned("network.corrupt", cable[0], peers=[FAR], fraction=0.5)
        with pytest.raises(RefusedError, match="already"):
            fault.prepare(effect)


async def test_a_peer_that_does_not_answer_proves_nothing(cable: tuple[Process, Process]) -> None:
    async with held("network.delay", cable[0], peers=["10.9.0.77"], delay_ms=LATE_MS) as (_, _, seen):
        assert not seen.confirmed
        assert "no peer answered" in seen.text


async def test_killing_the_holder_lets_packets_pass_at_once_with_nobody_alive(cable: tuple[Process, Process]) -> None:
    before = network_queue.left(cable[0])
    fault, effect = planned("network.delay", cable[0], peers=[FAR], delay_ms=500)
    fault.prepare(effect)
    await fault.inject(effect)
    assert network_queue.left(cable[0]) != before
    os.kill(effect.facts["holder"]["pid"], signal.SIGKILL)
    await asyncio.to_thread(cases.wait_until, lambda: network_queue.left(cable[0]) == before, 2.0)
    assert await round_trip_ms(cable[0], FAR) < LATE_MS
    await fault.revert(effect)
    assert fault.residue(effect) == []


async def test_a_gentle_end_lets_go_of_what_is_held(cable: tuple[Process, Process]) -> None:
    fault, effect = planned("network.delay", cable[0], peers=[FAR], delay_ms=2000)
    fault.prepare(effect)
    await fault.inject(effect)
    asking = [
        asyncio.create_task(
            gauge.read(effect.facts | {"protocol": protocol}, Asked(count=1, interval_s=0, wait_s=3), FAR)
        )
        for protocol in ("any", "tcp")
    ]
    waiting = lambda: sum(one.passed for one in queue_socket.standings(str(cable[0].pid)).values()) >= 2  # noqa: E731
    await asyncio.to_thread(cases.wait_until, waiting, 2.0)
    await fault.revert(effect)
    for reading in await asyncio.gather(*asking):
        assert reading.replies, "a packet that was held is lost"
        assert reading.round_trip_ms < 1500


def test_a_full_queue_lets_packets_pass(cable: tuple[Process, Process]) -> None:
    """In a process that holds all that comes, and has room for one."""
    script = f"""
import time
from agent.system import netlink, queue_table
from agent.system.queue_engine import Engine, Stream
stream = Stream(lambda packet, now_ns: now_ns + 10**10, packets_max=1)
engine = Engine([stream])
engine.start()
queue_table.commit(
    owner := netlink.open_socket(netlink.NETFILTER),
    queue_table.Selection(table="blackstart_full", numbers={{"in": stream.number}}, peers=["{FAR}/32"]),
)
print("ready", flush=True)
time.sleep(30)
"""
    holder = network_pair.within(cable[0], script)
    cases.line(holder)
    facts = {"network": f"/proc/{cable[0].pid}/ns/net", "peers": [f"{FAR}/32"], "protocol": "any", "ports": []}
    reading = asyncio.run(gauge.read(facts, Asked(count=5, interval_s=0.005, wait_s=0.2), FAR))
    cases.end(holder)
    assert sorted(reading.first) == [1, 2, 3, 4], "the first is held, the others find no room"


async def test_queues_of_others_are_left_alone(cable: tuple[Process, Process]) -> None:
    async with (
        held("network.delay", cable[0], peers=["127.0.0.7"], delay_ms=LATE_MS),
        held("network.delay", cable[0], peers=["127.0.0.8"], delay_ms=LATE_MS),
    ):
        assert len(network_queue.queues(cable[0])) == 6
