"""The ledger on a real PostgreSQL: planted losses, copies and disorder are reported exactly."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from agent.probes import ledger
from agent.probes.engine import ProbeEngine
from protos.error import ProbeError
from tests.contract import postgres_rig
from tests.contract.postgres_rig import Postgres

pytestmark = pytest.mark.skipif(bool(postgres_rig.missing()), reason=postgres_rig.missing() or "-")
TABLE = "planted"


@pytest.fixture(scope="module")
def server():
    made = Postgres()
    made.start()
    yield made
    made.remove()


@pytest.fixture
async def engine(tmp_path, server):
    made = ProbeEngine(sink=lambda *_: None, ledgers=tmp_path)
    yield made
    await made.close()
    server.sql(f"DROP TABLE IF EXISTS {TABLE}")


async def written(engine, server, count, timeout_ms=2000, **more):
    """A ledger of at least *count* acknowledged records; its probe goes on."""
    spec = {"dsn": server.dsn, "mode": "ledger", "table": TABLE, **more}
    await engine.start("run", "l", "postgres", spec, interval_ms=2, timeout_ms=timeout_ms)
    until = time.monotonic() + 60
    while (await engine.ledger("run", "l"))["acknowledged"] < count:
        assert time.monotonic() < until
        await asyncio.sleep(0.1)


async def settled(engine, name="l"):
    """The balance after the last attempt has ended."""
    await engine._probes["run", name].loop.stop()
    return await engine.ledger("run", name)


@pytest.mark.parametrize("lost", [0, 1, 17, 1000])
async def test_a_planted_loss_is_reported_exactly(engine, server, lost):
    await written(engine, server, lost + 60, timeout_ms=20_000)  # every answer is waited for, on a busy machine too
    await settled(engine)
    server.sql(f"DELETE FROM {TABLE} WHERE number >= 30 AND number < {30 + lost}")
    found = await engine.ledger("run", "l")
    assert found["complete"]
    assert found["lost"] == lost
    assert found["lost_ranges"] == ([[30, 29 + lost]] if lost else [])
    assert found["present"] == found["acknowledged"] - lost
    assert (found["unknown"], found["refused"], found["duplicated"], found["out_of_order"]) == (0, 0, 0, 0)
    if lost > 1:
        assert found["lost_hi_ns"] - found["lost_lo_ns"] >= found["lost_s"] * 1e9 > 0


async def test_copies_and_disorder_are_reported(engine, server):
    await written(engine, server, 60)
    await settled(engine)
    server.sql(f"INSERT INTO {TABLE} (number, kind) SELECT number, 1 FROM {TABLE} WHERE number IN (5, 6, 7)")
    server.sql(f"UPDATE {TABLE} SET id = 1000000 + id WHERE number IN (10, 11)")
    found = await engine.ledger("run", "l")
    assert (found["duplicated"], found["duplicated_ranges"]) == (3, [[5, 7]])
    assert found["out_of_order"] == 2
    assert found["lost"] == 0


async def test_what_a_member_alone_has_is_a_split_brain(engine, server):
    other = Postgres()
    other.start()
    try:
        other.sql(f"CREATE TABLE {TABLE} (id bigserial, number bigint, kind smallint)")
        await written(engine, server, 60, members={"a": server.dsn, "b": other.dsn})
        await settled(engine)
        server.sql(f"DELETE FROM {TABLE} WHERE number IN (20, 21, 22)")
        other.sql(f"INSERT INTO {TABLE} (number, kind) VALUES (20, 1), (21, 1), (22, 1)")
        found = await engine.ledger("run", "l")
    finally:
        other.remove()
    assert found["lost"] == 3
    assert found["members"]["a"]["only_there"] == 0
    assert found["members"]["b"] == {
        "present": 3, "only_there": 3, "only_there_ranges": [[20, 22]], "acknowledged_only_there": 3,
    }  # fmt: skip


async def test_a_killed_server_loses_nothing_that_it_acknowledged_and_the_unanswered_are_apart(engine, server):
    await written(engine, server, 60)
    server.signal(signal.SIGSTOP)
    await asyncio.sleep(0.3)
    server.signal(signal.SIGKILL)  # with questions that nobody will answer
    server.stop()
    await asyncio.sleep(0.3)
    server.start()
    before = (await engine.ledger("run", "l", wait_s=20))["acknowledged"]
    while (await engine.ledger("run", "l"))["acknowledged"] < before + 20:
        await asyncio.sleep(0.1)
    found = await settled(engine)
    assert found["lost"] == found["duplicated"] == found["out_of_order"] == 0
    assert found["unknown"] > 0
    assert found["acknowledged"] + found["unknown"] + found["refused"] == found["sent"]


async def test_what_cannot_be_read_back_is_not_called_whole(engine, server):
    await written(engine, server, 20)
    server.stop()
    try:
        found = await engine.ledger("run", "l", wait_s=0.5)
    finally:
        server.start()
    assert not found["complete"]
    assert "could not be read back" in found["note"]
    assert found["acknowledged"] >= 20


async def test_acknowledgements_are_in_a_file_at_once(engine, server, tmp_path):
    await written(engine, server, 20)
    found = await engine.ledger("run", "l")
    (file,) = tmp_path.glob("ledger_*")
    kept = ledger.read(file)
    assert sum(acknowledged for _, _, acknowledged in kept.values()) >= found["acknowledged"]
    await engine.stop("run")
    assert not file.exists(), "it was compared: nobody needs it"


async def test_a_probe_without_a_ledger_says_so(engine, server):
    await engine.start("run", "p", "postgres", {"dsn": server.dsn}, interval_ms=50)
    with pytest.raises(ProbeError, match="keeps no ledger"):
        await engine.ledger("run", "p")
