"""The ledger on a real RabbitMQ: planted losses, copies, records without an answer, outages that are not hidden."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time

import pytest

from agent.probes.amqp_wire import AmqpWire
from agent.probes.registry import build
from agent.probes.rotation import BrokenError
from protos.recovery import FAILED, Code
from tests.contract import amqp_rig, ledger_rig
from tests.contract.amqp_rig import shared_node
from tests.contract.ledger_rig import running

pytestmark = [
    pytest.mark.skipif(bool(amqp_rig.missing()), reason=amqp_rig.missing() or "-"),
    pytest.mark.timeout(180),
]


@pytest.fixture
def node():
    made = shared_node()
    made.start()
    yield made
    made.signal(signal.SIGCONT)


@pytest.fixture
def queue():
    return f"planted {secrets.token_hex(4)}"


async def written(engine, node, count, *, interval_ms=2, timeout_ms=5000, **more):
    spec = {"servers": [node.url], **more}
    await ledger_rig.written(engine, "amqp", spec, count, interval_ms=interval_ms, timeout_ms=timeout_ms)


async def stopped(engine):
    """Who the records say that wrote them."""
    await running(engine).loop.stop()
    return running(engine).probe._writer


async def drained(node, queue):
    """All contents of a queue in their order; it is empty afterwards."""
    found = []
    async with node.channel() as channel:
        while (message := await channel.basic_get(queue, no_ack=True)).delivery_tag:
            found.append(message.body)
    return found


async def put(node, queue, writer, *contents):
    from aiormq import spec

    async with node.channel() as channel:
        for content in contents:
            properties = spec.Basic.Properties(app_id=writer, delivery_mode=2)
            await channel.basic_publish(content, routing_key=queue, properties=properties, mandatory=True)


async def there(node, queue):
    import aiormq

    async with node.channel() as channel:
        try:
            await channel.queue_declare(queue, passive=True)
        except aiormq.exceptions.ChannelNotFoundEntity:
            return False
    return True


@pytest.mark.parametrize("lost", [0, 1, 17, 1000])
async def test_a_planted_loss_is_reported_exactly(engine, node, queue, lost):
    await written(engine, node, lost + 40, queue=queue)
    writer = await stopped(engine)
    contents = await drained(node, queue)
    assert len(contents) >= lost + 40
    await put(node, queue, writer, *(one for one in contents if not 20 <= int(one) < 20 + lost))
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"]) == (True, lost), found["note"]
    assert found["lost_ranges"] == ([[20, 19 + lost]] if lost else [])
    assert (found["duplicated"], found["out_of_order"], found["unknown"], found["foreign"]) == (0, 0, 0, 0)
    assert found["present"] == found["acknowledged"] - lost


async def test_copies_foreign_records_and_one_in_the_wrong_place(engine, node, queue):
    await written(engine, node, 60, queue=queue)
    writer = await stopped(engine)
    contents = [one for one in await drained(node, queue) if one not in (b"12", b"30")]
    await put(node, queue, writer, *contents, b"7", b"8", b"8", b"30", b"no number")
    await put(node, queue, "another writer", b"12")
    found = await engine.ledger("run", "l")
    assert (found["duplicated"], found["duplicated_ranges"]) == (3, [[7, 8]])
    assert (found["lost"], found["lost_ranges"], found["out_of_order"], found["foreign"]) == (1, [[12, 12]], 1, 1)
    again = await engine.ledger("run", "l")
    assert again == found, "what was read once is known"
    await put(node, queue, writer, b"9")
    assert (await engine.ledger("run", "l"))["duplicated"] == 4
    await engine.stop("run")
    assert await drained(node, queue) == [b"12"], "what others wrote stays, what the ledger wrote is gone"


async def test_a_frozen_server_is_an_outage_and_what_it_takes_later_is_told_apart(engine, node, queue):
    await written(engine, node, 40, interval_ms=20, timeout_ms=300, queue=queue)
    before = len(os.listdir("/proc/self/fd"))
    record = running(engine).record
    node.signal(signal.SIGSTOP)
    frozen_at = len(record)
    await asyncio.sleep(1.5)
    codes = list(record._code[frozen_at + 1 : len(record) - 18])
    assert len(codes) > 30, "attempts go on"
    assert set(codes) <= {int(code) for code in FAILED}
    assert len(os.listdir("/proc/self/fd")) < before + 40, "no socket stays behind a cut attempt"
    node.signal(signal.SIGCONT)
    until = time.monotonic() + 20
    while record._code[len(record) - 20] != Code.OK or len(record) < frozen_at + 120:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    await stopped(engine)
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"], found["duplicated"]) == (True, 0, 0)
    assert found["unknown"] >= 1
    assert found["unacknowledged_present"] >= 1


async def test_a_queue_that_is_gone_is_a_loss_of_all_and_is_not_made_again(engine, node, queue):
    await written(engine, node, 30, queue=queue)
    async with node.channel() as channel:
        await channel.queue_delete(queue)
    await asyncio.sleep(0.3)
    assert running(engine).probe.ledger.written().refused, "nobody was there to take them"
    await stopped(engine)
    assert (await engine.ledger("run", "l", wait_s=0))["complete"] is False, "one answer is not enough for that"
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"]) == (True, found["acknowledged"])
    assert found["acknowledged"] > 0


async def test_many_records_are_read_back_while_more_come(engine, node, queue):
    await written(engine, node, 3000, queue=queue)
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"], found["duplicated"], found["out_of_order"]) == (True, 0, 0, 0)
    assert found["present"] >= 3000


async def test_a_ledger_of_its_own_leaves_no_queue_behind(engine, node):
    await written(engine, node, 5)
    name = await stopped(engine)
    assert await there(node, name)
    assert (await engine.ledger("run", "l"))["lost"] == 0
    await engine.stop("run")
    assert not await there(node, name)


async def test_a_reading_that_was_cut_off_loses_nothing_and_counts_nothing_twice(engine, node, queue):
    await written(engine, node, 400, queue=queue)
    await stopped(engine)
    probe = running(engine).probe
    await_next, given = AmqpWire.delivered, 0

    async def cut(self):
        nonlocal given
        given += 1
        if given == 150:
            raise BrokenError("cut")
        return await await_next(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AmqpWire, "delivered", cut)
        assert not (await engine.ledger("run", "l", wait_s=0))["complete"]
    assert len(probe._read) == 149
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"], found["duplicated"]) == (True, 0, 0)
    assert found["present"] == found["acknowledged"] > 399


async def test_records_that_another_consumer_holds_are_not_called_lost(engine, node, queue):
    await written(engine, node, 20, queue=queue)
    await stopped(engine)
    async with node.channel() as channel:
        await channel.basic_consume(queue, lambda _: asyncio.sleep(0))
        await asyncio.sleep(0.3)
        found = await engine.ledger("run", "l", wait_s=0)
        assert not found["complete"]
        assert "other consumers" in found["note"]
    assert (await engine.ledger("run", "l"))["lost"] == 0


async def test_the_next_server_is_asked_and_a_wrong_password_is_no_outage(node):
    async def asked(*servers, **spec):
        probe = build("amqp", {"servers": list(servers), **spec}, lambda _: False)
        await probe.open()
        try:
            return await probe.attempt(10.0)
        finally:
            await probe.close()

    assert await asked("127.0.0.1:1", node.url) is Code.OK
    assert await asked("127.0.0.1:1", node.url, mode="publish") is Code.OK
    assert await asked("127.0.0.1:1", node.url, mode="deliver", queue="c", queue_type="classic") is Code.OK
    assert await asked("127.0.0.1:1") is Code.REFUSED
    assert await asked(f"amqp://guest:no@127.0.0.1:{node.port}") is Code.BAD
    assert await asked(f"{node.url}/no-such-host") is Code.BAD


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"AMQP\x00\x00\x09\x01",
        b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00",
        b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\x00",
        b"\x01\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff\xce",
        b"\x03\x00\x00\xff\xff\xff\xff",
    ],
)
async def test_what_is_no_rabbitmq_is_no_answer(said):
    async def serve(reader, writer):
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    probe = build("amqp", {"servers": [f"127.0.0.1:{port}"]}, lambda _: False)
    await probe.open()
    assert await probe.attempt(2.0) is Code.REFUSED
    await probe.close()
    server.close()
