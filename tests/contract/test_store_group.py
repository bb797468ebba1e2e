"""Group commit: writes that wait together are on disk together, and each caller learns of its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import event

from controller.store.sql import SqlStore, sqlite_url
from protos.error import RefusedError
from tests.contract.test_store_contract import RUN

MANY = 200


@pytest.fixture
def make(tmp_path):
    return lambda: SqlStore(sqlite_url(tmp_path / "store.db"))


@pytest.fixture
async def store(make):
    store = make()
    await store.open()
    yield store
    await store.close()


def commits(store):
    seen = []
    event.listen(store._database._engine.sync_engine, "commit", seen.append)
    return seen


async def test_writes_that_come_together_share_their_commits_and_are_there_afterwards(make):
    store = make()
    await store.open()
    seen = commits(store)
    await asyncio.gather(*(store.put("run", "rows", str(k), {"k": k}) for k in range(MANY)))
    assert 1 <= len(seen) <= 3
    await store.close()
    await (again := make()).open()
    assert await again.documents("run", "rows") == {str(k): {"k": k} for k in range(MANY)}
    await again.close()


async def test_one_that_fails_fails_alone(store):
    await store.add_run(RUN)
    answers = await asyncio.gather(
        *(store.set_setting(f"s{k}", "v") for k in range(20)),
        store.add_run(replace(RUN, title="again")),
        *(store.set_setting(f"t{k}", "v") for k in range(20)),
        return_exceptions=True,
    )
    assert [type(one) for one in answers if one is not None] == [RefusedError]
    assert [await store.setting(f"{name}{k}") for name in "st" for k in range(20)] == ["v"] * 40
    assert (await store.run(RUN.id)).title == RUN.title


async def test_writes_keep_their_order(store):
    await asyncio.gather(*(store.set_setting("last", str(k)) for k in range(MANY)))
    assert await store.setting("last") == str(MANY - 1)


async def test_a_cancelled_caller_takes_nobody_along_and_its_write_is_made(store):
    tasks = [asyncio.create_task(store.set_setting(f"s{k}", "v")) for k in range(20)]
    await asyncio.sleep(0)
    tasks[7].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in answers if one is not None] == [asyncio.CancelledError]
    await store.set_setting("end", "v")
    assert [await store.setting(f"s{k}") for k in range(20)] == ["v"] * 20


async def test_closing_waits_for_what_waits(make):
    store = make()
    await store.open()
    tasks = [asyncio.create_task(store.set_setting(f"s{k}", "v")) for k in range(MANY)]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*tasks) == [None] * MANY
