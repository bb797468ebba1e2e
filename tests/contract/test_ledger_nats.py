"""The ledger on a real NATS server: planted losses, copies, records without an answer, outages that are not hidden."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from agent.probes.registry import build
from protos.recovery import FAILED, Code
from tests.contract import ledger_rig, nats_rig
from tests.contract.ledger_rig import running, started
from tests.contract.nats_rig import NatsServer

pytestmark = pytest.mark.skipif(bool(nats_rig.missing()), reason=nats_rig.missing() or "-")
STREAM = "planted"


@pytest.fixture
def servers():
    yield from started(NatsServer)


async def written(engine, server, count, *, interval_ms=1, timeout_ms=2000, **more):
    spec = {"servers": [server.url], "stream": STREAM, **more}
    await ledger_rig.written(engine, "nats", spec, count, interval_ms=interval_ms, timeout_ms=timeout_ms)


async def stopped(engine):
    await running(engine).loop.stop()
    return running(engine).probe._subject


async def places(streams, subject):
    """(number, place in the stream) of all records."""
    found = {}
    info = await streams.stream_info(STREAM)
    for place in range(1, info.state.last_seq + 1):
        message = await streams.get_msg(STREAM, place)
        if message.subject == subject:
            found[int(message.data)] = place
    return found


@pytest.mark.parametrize("lost", [0, 1, 17, 1000])
async def test_a_planted_loss_is_reported_exactly(engine, servers, lost):
    server = servers()
    await written(engine, server, lost + 40)
    subject = await stopped(engine)
    async with server.streams() as streams:
        at = await places(streams, subject)
        for number in range(20, 20 + lost):
            await streams.delete_msg(STREAM, at[number])
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"]) == (True, lost)
    assert found["lost_ranges"] == ([[20, 19 + lost]] if lost else [])
    assert (found["duplicated"], found["out_of_order"], found["unknown"], found["foreign"]) == (0, 0, 0, 0)
    assert found["present"] == found["acknowledged"] - lost


async def test_copies_foreign_records_and_one_in_the_wrong_place(engine, servers):
    server = servers()
    await written(engine, server, 60)
    subject = await stopped(engine)
    async with server.streams() as streams:
        at = await places(streams, subject)
        await streams.delete_msg(STREAM, at[12])
        await streams.delete_msg(STREAM, at[30])
        for content in (b"7", b"8", b"8", b"30", b"no number"):
            await streams.publish(subject, content)
        await streams.publish(f"{STREAM}.of-another-ledger", b"12")
    found = await engine.ledger("run", "l")
    assert (found["duplicated"], found["duplicated_ranges"]) == (3, [[7, 8]])
    assert (found["lost"], found["lost_ranges"], found["out_of_order"], found["foreign"]) == (1, [[12, 12]], 1, 1)


async def test_a_frozen_server_is_an_outage_and_what_it_takes_later_is_told_apart(engine, servers):
    server = servers()
    await written(engine, server, 40, interval_ms=20, timeout_ms=200)
    before = len(os.listdir("/proc/self/fd"))
    record = running(engine).record
    server.signal(signal.SIGSTOP)
    frozen_at = len(record)
    await asyncio.sleep(1.5)
    codes = list(record._code[frozen_at + 1 : len(record) - 12])
    assert len(codes) > 30, "attempts go on"
    assert set(codes) <= {int(code) for code in FAILED}
    assert len(os.listdir("/proc/self/fd")) < before + 30, "no socket stays behind a cut attempt"
    server.signal(signal.SIGCONT)
    until = time.monotonic() + 5
    while record._code[len(record) - 15] != Code.OK or len(record) < frozen_at + 120:
        assert time.monotonic() < until + 5
        await asyncio.sleep(0.05)
    await stopped(engine)
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"], found["duplicated"]) == (True, 0, 0)
    assert found["unknown"] >= 1
    assert found["unacknowledged_present"] >= 1


async def test_a_stream_that_is_gone_is_a_loss_of_all_and_is_not_made_again(engine, servers):
    server = servers()
    await written(engine, server, 30)
    async with server.streams() as streams:
        await streams.delete_stream(STREAM)
    await asyncio.sleep(0.2)
    taken = running(engine).probe.ledger.written()
    assert taken.refused, "nobody was there to take them"
    await stopped(engine)
    assert (await engine.ledger("run", "l", wait_s=0))["complete"] is False, "one answer is not enough for that"
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"]) == (True, found["acknowledged"])
    assert found["acknowledged"] > 0


async def test_many_records_are_read_back_in_several_requests_while_more_come(engine, servers):
    server = servers()
    await written(engine, server, 5000)
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"], found["duplicated"], found["out_of_order"]) == (True, 0, 0, 0)
    assert found["present"] >= 5000


async def test_a_ledger_of_its_own_leaves_no_stream_behind(engine, servers):
    server = servers()
    await written(engine, server, 5, stream="")
    async with server.streams() as streams:
        assert [info.config.num_replicas for info in await streams.streams_info()] == [1]
        assert (await engine.ledger("run", "l"))["lost"] == 0
        await engine.stop("run")
        assert await streams.streams_info() == []


async def test_records_of_a_ledger_in_a_named_stream_go_and_others_stay(engine, servers):
    server = servers()
    async with server.streams() as streams:
        await streams.add_stream(name=STREAM, subjects=["orders.>"])
        await streams.publish("orders.paid", b"7")
        await written(engine, server, 5, subject="orders.probe")
        assert (await engine.ledger("run", "l"))["foreign"] == 0
        await engine.stop("run")
        assert (await streams.stream_info(STREAM)).state.messages == 1


async def test_the_next_server_is_asked_and_the_one_that_leads_says_so(servers):
    dead, alive = servers(), servers()
    dead.stop()

    async def asked(timeout_s=5.0, **spec):
        probe = build("nats", spec, lambda _: False)
        await probe.open()
        try:
            return await probe.attempt(timeout_s)
        finally:
            await probe.close()

    both = [dead.url, alive.url]
    assert await asked(servers=both, mode="ping") is Code.OK
    assert await asked(servers=both, mode="publish", stream=STREAM) is Code.OK
    assert await asked(servers=[dead.url], mode="ping") is Code.REFUSED
    assert await asked(servers=[alive.url], mode="leader", stream=STREAM) is Code.OK
    assert await asked(servers=[alive.url], mode="leader", stream="none") is Code.BAD
    assert await asked(servers=[alive.url], mode="publish", stream="three", replicas=3) is Code.BAD, "it is one alone"
    probe = build("nats", {"servers": both[::-1], "mode": "publish", "stream": STREAM}, lambda _: False)
    await probe.open()
    assert await probe.attempt(5.0) is Code.OK
    alive.signal(signal.SIGSTOP)
    dead.start()
    assert await probe.attempt(0.2) is Code.TIMEOUT
    assert await probe.attempt(5.0) is Code.BAD, "the other answers, and has no such stream"
    await probe.close()


async def test_a_password_that_is_wrong_and_one_that_is_not(servers):
    server = servers("--user", "u", "--pass", "p w")
    place = f"127.0.0.1:{server.port}"
    for url, code in ((f"nats://u:p%20w@{place}", Code.OK), (f"u:no@{place}", Code.BAD), (place, Code.BAD)):
        probe = build("nats", {"servers": [url]}, lambda _: False)
        await probe.open()
        assert await probe.attempt(5.0) is code
        await probe.close()


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"INFO {\r\n",
        b"INFO {}\r\nMSG x\r\n",
        b"INFO {}\r\nMSG x 1 99999999999\r\n",
        b"INFO {}\r\nHMSG x 1 9 3\r\nabc\r\n",
        b"INFO {}\r\nMSG x 1 30\r\ntoo short",
    ],
)
async def test_what_is_no_nats_is_no_answer(said):
    async def serve(reader, writer):
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    probe = build("nats", {"servers": [f"127.0.0.1:{port}"]}, lambda _: False)
    await probe.open()
    assert await probe.attempt(2.0) is Code.REFUSED
    await probe.close()
    server.close()
