"""The ledger on a store that checks signatures: planted losses, members of another region, refusals."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from tests.contract import ledger_rig, s3_rig
from tests.contract.ledger_rig import running
from tests.contract.s3_rig import Key, Store

pytestmark = pytest.mark.skipif(bool(s3_rig.missing()), reason=s3_rig.missing() or "-")


@pytest.fixture
def store():
    made = Store()
    made.start()
    yield made
    made.remove()


@pytest.fixture
def other(store):
    made = Store(store.key, "eu-test-2")
    made.start()
    yield made
    made.remove()


async def written(engine, store, count, **more):
    spec = {**store.spec(), "keepalive": True, **more}
    await ledger_rig.written(engine, "object", spec, count, interval_ms=2, timeout_ms=5000)
    await running(engine).loop.stop()


def of(store, number):
    (path,) = store.bucket.glob(f"blackstart-*-{number}")
    return path


@pytest.mark.parametrize("lost", [0, 1, 17, 1000])
async def test_a_planted_loss_is_reported_exactly(engine, store, other, lost):
    members = {"members": {"other": other.url}, "member_regions": {"other": other.region}}
    await written(engine, store, lost + 40, **members)
    for number in range(20, 20 + lost):
        path = of(store, number)
        if number == 22:
            path.write_text("another content")
        else:
            path.rename(other.bucket / path.name)
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"]) == (True, lost)
    assert found["lost_ranges"] == ([[20, 19 + lost]] if lost else [])
    assert (found["duplicated"], found["unknown"], found["refused"]) == (0, 0, 0)
    assert found["present"] == found["acknowledged"] - lost
    assert found["members"]["other"]["acknowledged_only_there"] == (lost if lost < 3 else lost - 1)


async def test_a_member_whose_region_is_wrong_is_away_and_the_rest_is_told(engine, store, other):
    await written(engine, store, 5, members={"other": other.url})
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"]) == (True, 0)
    assert "400 (AuthorizationHeaderMalformed" in found["members"]["other"]["away"]


@pytest.mark.parametrize("alone", [False, True], ids=["403", "404"])
async def test_a_key_that_the_store_does_not_know_is_refused_and_nothing_is_called_lost(engine, store, alone):
    """A store with one account answers by 404, which is no word on the objects."""
    if alone:
        store.stop()
        shutil.rmtree(store.folder / "accounts")
        store.start()
    spec = {**store.spec(), "keepalive": True}
    await ledger_rig.written(engine, "object", spec, 20, interval_ms=2, timeout_ms=5000)
    good = store.credentials.read_text()
    store.credentials.write_text(Key().text())
    sent = len(running(engine).probe.ledger.written().sent_ns)
    while len(running(engine).probe.ledger.written().sent_ns) < sent + 20:
        await asyncio.sleep(0.01)
    await running(engine).loop.stop()
    found = await engine.ledger("run", "l", wait_s=0)
    assert (found["complete"], found["lost"]) == (False, 0), "what could not be read is not told"
    assert found["refused"] > 5
    store.credentials.write_text(good)
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"], found["unknown"]) == (True, 0, 0)
    assert found["refused"] > 5


async def test_a_bucket_that_is_gone_is_a_loss_of_all(engine, store):
    await written(engine, store, 20)
    store.bucket.rename(store.folder / "away")
    found = await engine.ledger("run", "l")
    assert (found["complete"], found["lost"]) == (True, found["acknowledged"])


async def test_a_ledger_that_was_compared_is_taken_away(engine, store):
    spec = {**store.spec(), "keepalive": True}
    await ledger_rig.written(engine, "object", spec, 30, interval_ms=20, timeout_ms=5000)
    assert len(store.objects()) >= 20
    assert (await engine.ledger("run", "l"))["lost"] == 0
    await engine.stop("run")
    assert store.objects() == []
