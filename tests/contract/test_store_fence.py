"""Two controllers on one PostgreSQL: the later leads, and the earlier writes nothing more."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from sqlalchemy import text

from controller.store.sql import SqlStore
from protos.error import RefusedError, TransientError
from tests.contract.test_store_contract import RUN


@pytest.fixture
def shared(sql_server):
    """Makes stores on one PostgreSQL database, which two may open, as two controllers would."""
    name = f"store_{uuid.uuid4().hex}"
    sql_server.sql(f"CREATE DATABASE {name}")
    return lambda: SqlStore(f"postgresql+asyncpg://postgres@127.0.0.1:{sql_server.port}/{name}")


async def test_who_was_superseded_writes_nothing_more_and_knows_it(shared):
    old, new = shared(), shared()
    for store in (old, new):
        await store.open()
    try:
        first = await old.lead()
        await old.add_run(RUN)
        assert not old.superseded.is_set()
        second = await new.lead()
        assert second > first
        for attempt in (old.update_run("run-1", reason="late"), old.set_setting("stop", "late")):
            with pytest.raises(RefusedError, match=f"another controller leads this store since epoch {second}"):
                await attempt
        assert old.superseded.is_set()
        assert not new.superseded.is_set()
        assert await new.run("run-1") == RUN
        assert await new.setting("stop") is None
        await new.set_setting("stop", "mine")
    finally:
        for store in (old, new):
            await store.close()


async def test_a_write_that_was_begun_before_is_waited_for_and_in_the_new_leaders_sight(shared):
    old, new = shared(), shared()
    for store in (old, new):
        await store.open()
    try:
        await old.lead()
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def slow(connection):
            await connection.execute(text("INSERT INTO settings (name, value) VALUES ('slow', 'there')"))
            begun.set()
            await go_on.wait()

        writing = asyncio.create_task(old._database.write(slow))
        await begun.wait()
        leading = asyncio.create_task(new.lead())
        assert not (await asyncio.wait({leading}, timeout=0.3))[0], "the lead is not taken while a write is under way"
        go_on.set()
        await writing
        await leading
        assert await new.setting("slow") == "there"
    finally:
        for store in (old, new):
            await store.close()


async def test_a_leader_that_stands_still_in_a_write_is_not_waited_for_for_ever(shared, monkeypatch):
    monkeypatch.setattr("controller.store.database.STANDSTILL_MS", 700)
    old, new = shared(), shared()
    for store in (old, new):
        await store.open()
    try:
        await old.lead()
        begun = asyncio.Event()

        async def stands(connection):
            await connection.execute(text("INSERT INTO settings (name, value) VALUES ('stands', 'never')"))
            begun.set()
            await asyncio.sleep(3)
            await connection.execute(text("SELECT 1"))

        writing = asyncio.create_task(old._database.write(stands))
        await begun.wait()
        await asyncio.wait_for(new.lead(), 2.5)
        assert await new.setting("stands") is None
        with pytest.raises((RefusedError, TransientError)):
            await writing
        assert await new.setting("stands") is None
    finally:
        for store in (old, new):
            await store.close()
