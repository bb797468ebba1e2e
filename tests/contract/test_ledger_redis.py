"""The ledger on a real Redis: planted losses, a member that has more, replicas that are asked for."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from agent.probes.ledger import Ledger
from agent.probes.registry import build
from protos.recovery import Code
from tests.contract import redis_rig
from tests.contract.ledger_rig import started
from tests.contract.redis_rig import RedisServer

pytestmark = pytest.mark.skipif(bool(redis_rig.missing()), reason=redis_rig.missing() or "-")
KEY = "planted"


@pytest.fixture
def servers():
    yield from started(RedisServer)


async def written(engine, server, count, **more):
    spec = {"url": server.url, "mode": "ledger", "key": KEY, **more}
    await engine.start("run", "l", "redis", spec, interval_ms=1, timeout_ms=2000)
    until = time.monotonic() + 60
    while (await engine.ledger("run", "l"))["acknowledged"] < count:
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    await engine._probes["run", "l"].loop.stop()


@pytest.mark.parametrize("lost", [0, 1, 17, 1000])
async def test_a_planted_loss_is_reported_exactly(engine, servers, lost):
    server = servers()
    await written(engine, server, lost + 40)
    for number in range(20, 20 + lost):
        if lost < 100:
            server.say("LREM", KEY, "1", str(number))
    if lost >= 100:
        script = f"for n = 20, {19 + lost} do redis.call('LREM', KEYS[1], 1, n) end"
        server.say("EVAL", script, "1", KEY)
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"]) == (True, lost)
    assert found["lost_ranges"] == ([[20, 19 + lost]] if lost else [])
    assert (found["duplicated"], found["out_of_order"], found["unknown"]) == (0, 0, 0)


async def test_copies_and_a_member_that_alone_has_records(engine, servers):
    server, other = servers(), servers()
    await written(engine, server, 40, members={"other": other.url})
    server.say("RPUSH", KEY, "7", "8")
    server.say("LREM", KEY, "0", "12")
    other.say("RPUSH", KEY, "12")
    found = await engine.ledger("run", "l")
    assert (found["duplicated"], found["duplicated_ranges"], found["lost"]) == (2, [[7, 8]], 1)
    assert found["members"]["other"]["acknowledged_only_there"] == 1


async def test_a_replica_refuses_and_a_master_says_so(servers):
    master = servers()
    replica = servers("--replicaof", "127.0.0.1", str(master.port))

    async def asked(server, **spec):
        probe = build("redis", {"url": server.url, **spec}, lambda _: False)
        await probe.open()
        try:
            return await probe.attempt(5.0)
        finally:
            await probe.close()

    assert await asked(master, mode="master") is Code.OK
    assert await asked(replica, mode="master") is Code.BAD
    assert await asked(replica, mode="write") is Code.BAD
    until = time.monotonic() + 10
    while await asked(master, mode="write", wait_replicas=1, wait_ms=200) is not Code.OK:
        assert time.monotonic() < until
    replica.signal(signal.SIGSTOP)
    assert await asked(master, mode="write", wait_replicas=1, wait_ms=200) is Code.BAD
    assert await asked(master, mode="write") is Code.OK


async def test_what_is_no_redis_is_no_answer():
    async def serve(reader, writer):
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    probe = build("redis", {"url": f"redis://127.0.0.1:{port}"}, lambda _: False)
    await probe.open()
    assert await probe.attempt(2.0) is Code.REFUSED
    await probe.close()
    server.close()


async def test_a_restart_costs_one_attempt_however_many_connections_were_kept(servers, tmp_path):
    server = servers()
    probe = build("redis", {"url": server.url, "mode": "ledger", "key": KEY}, lambda _: False)
    probe.ledger = Ledger(tmp_path / "ledger_x")
    await probe.open()
    assert set(await asyncio.gather(*(probe.attempt(5.0) for _ in range(8)))) == {Code.OK}
    server.stop()
    server.start()
    assert [await probe.attempt(5.0) for _ in range(4)] == [Code.REFUSED, Code.OK, Code.OK, Code.OK]
    await probe.close()
