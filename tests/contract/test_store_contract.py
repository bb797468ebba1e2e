"""What every store promises (`controller.store.base`), on each kind of store that there is."""

from __future__ import annotations

import asyncio
import os
import uuid
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.store.base import (
    AgentRecord,
    ApprovalRecord,
    AuditRecord,
    ChunkRecord,
    GaugeRecord,
    RunRecord,
    ScheduleRecord,
)
from controller.store.sql import SqlStore, sqlite_url
from protos.error import RefusedError, TransientError

RUN = RunRecord(
    "run-1", "Kill a worker", "alice", "x.yaml", {"title": "ü", "method": [1, None]}, 7, variables={"a": "b"}
)
SCHEDULE = ScheduleRecord("nightly", "0 2 * * *", 0, "x.yaml", {"a": [1]}, {"k": "v"}, {"o": 1}, "alice")


@pytest.fixture(params=["sqlite", "postgresql"])
def make(request, tmp_path):
    """Makes stores on one and the same database, not opened yet."""
    if request.param == "sqlite":
        return lambda: SqlStore(sqlite_url(tmp_path / "state" / "a%20b.db"))
    server, name = request.getfixturevalue("sql_server"), f"store_{uuid.uuid4().hex}"
    server.sql(f"CREATE DATABASE {name}")
    return lambda: SqlStore(f"postgresql+asyncpg://postgres@127.0.0.1:{server.port}/{name}")


@pytest.fixture
async def store(make):
    store = make()
    await store.open()
    yield store
    await store.close()


def chunk(index=0, agent="node-1", probe="http", columns=b"\x00\xff" * 25, run="run-1"):
    return ChunkRecord(run, agent, probe, index, 2, columns)


async def test_runs_come_back_as_they_were_put(store):
    full = replace(
        RUN, id="run-2", state="ended", verdict="held", outcome="completed", reason="r", profile={"p": 1},
        journal={"j": [True]}, started_wall_ns=2**62, ended_wall_ns=3, stranded=True,
    )  # fmt: skip
    for run in (RUN, full):
        await store.add_run(run)
    assert [await store.run(name) for name in ("run-1", "run-2", "run-3")] == [RUN, full, None]
    assert await store.runs(5) == [full, RUN]
    assert await store.runs(1) == [full]
    assert await store.open_runs() == [RUN]


async def test_a_run_is_added_once(store):
    await store.add_run(RUN)
    with pytest.raises(RefusedError, match="one of that name already"):
        await store.add_run(replace(RUN, title="another"))
    assert await store.run("run-1") == RUN


async def test_update_run(store):
    await store.add_run(RUN)
    changed = await store.update_run("run-1", state="ended", journal={"a": 1}, stranded=True)
    assert changed == await store.run("run-1") == replace(RUN, state="ended", journal={"a": 1}, stranded=True)
    assert await store.update_run("run-1") == changed
    with pytest.raises(KeyError):
        await store.update_run("run-2", state="ended")
    with pytest.raises(TypeError, match="colour"):
        await store.update_run("run-1", state="queued", colour="red")
    assert await store.run("run-1") == changed


async def test_events_are_numbered_without_gaps_by_many_writers(store):
    for run in ("run-1", "run-2"):
        await store.add_run(replace(RUN, id=run))
    adding = [store.add_event(f"run-{1 + i % 2}", "step", str(i), {"i": i}, i) for i in range(60)]
    added = await asyncio.gather(*adding)
    for run in ("run-1", "run-2"):
        found = await store.events(run)
        assert [event.number for event in found] == list(range(1, 31))
        assert found == sorted((event for event in added if event.run_id == run), key=lambda event: event.number)
        assert await store.events(run, after=28) == found[28:]
    with pytest.raises(KeyError):
        await store.add_event("run-3", "step", "", {}, 0)


async def test_an_event_that_fails_leaves_no_gap(store):
    await store.add_run(RUN)
    with pytest.raises(Exception, match="not JSON serializable"):
        await store.add_event("run-1", "step", "", {"x": object()}, 0)
    assert (await store.add_event("run-1", "step", "", {}, 0)).number == 1


async def test_what_a_cancelled_writer_began_is_finished_without_a_gap(store):
    await store.add_run(RUN)
    tasks = [asyncio.ensure_future(store.add_event("run-1", "step", str(i), {}, i)) for i in range(20)]
    for turn, task in enumerate(tasks):
        for _ in range(turn % 5):
            await asyncio.sleep(0)
        if turn % 2:
            task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    last = await store.add_event("run-1", "last", "", {}, 0)
    found = await store.events("run-1")
    assert [event.number for event in found] == list(range(1, 22))
    assert last.number == 21
    assert all(event in found for event in results if not isinstance(event, BaseException))


async def test_text_that_no_database_keeps_is_kept_escaped(store):
    await store.add_run(RUN)
    await store.add_event("run-1", "step", "bad \udcff and \0", {"key": "\udcff\0"}, 0)
    [event] = await store.events("run-1")
    assert event.message == "bad \\udcff and \\x00"
    assert event.body == {"key": "\udcff\0"}


async def test_documents_keep_the_order_of_their_first_put(store):
    for key, body in (("b", 1), ("a", 2), ("c", 3), ("b", 4)):
        await store.put("run-1", "injection", key, {"n": body})
    await store.put("run-1", "recovery", "b", {"n": 5})
    found = await store.documents("run-1", "injection")
    assert list(found.items()) == [("b", {"n": 4}), ("a", {"n": 2}), ("c", {"n": 3})]
    assert await store.documents("run-2", "injection") == {}


async def test_agents_are_put_over_each_other(store):
    agent = AgentRecord("node-1", "0.1", "boot", {"role": "db"}, [{"kind": "http", "available": True}], 5)
    await store.put_agent(agent)
    await store.put_agent(replace(agent, seen_wall_ns=6, labels={}))
    assert await store.agents() == [replace(agent, seen_wall_ns=6, labels={})]


async def test_chunks_come_back_by_agent_probe_and_index(store):
    big = os.urandom(200_000)
    given_ = [chunk(9), chunk(0, probe="tcp"), chunk(0), chunk(0, agent="node-0", columns=big), chunk(0, run="run-2")]
    assert await store.ingest("node-1", "spool", 1, given_)
    assert await store.chunks("run-1") == [given_[3], given_[2], given_[0], given_[1]]
    assert await store.chunks("run-3") == []


async def test_what_was_ingested_is_not_ingested_again(store):
    assert await store.acknowledged("node-1", "spool") == 0
    taken = await asyncio.gather(*(store.ingest("node-1", "spool", 4, [chunk()]) for _ in range(5)))
    assert sorted(taken) == [False] * 4 + [True]
    assert not await store.ingest("node-1", "spool", 3, [chunk(1)])
    assert await store.ingest("node-1", "other", 1, [])
    assert await store.chunks("run-1") == [chunk()]
    assert [await store.acknowledged("node-1", spool) for spool in ("spool", "other")] == [4, 1]


async def test_an_ingest_that_fails_is_not_acknowledged(store):
    with pytest.raises((OverflowError, TransientError)):  # by which of the two drivers it is found
        await store.ingest("node-1", "spool", 1, [chunk(), chunk(2**64)])
    assert await store.acknowledged("node-1", "spool") == 0
    assert await store.chunks("run-1") == []


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sends=st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 6)), max_size=12))
def test_any_order_of_sends_is_ingested_once(tmp_path_factory, sends):
    async def scenario() -> None:
        store = SqlStore(sqlite_url(tmp_path_factory.mktemp("store") / "s.db"))
        await store.open()
        last, kept = {"a": 0, "b": 0}, []
        for spool, sequence in sends:
            fresh = sequence > last[spool]
            assert await store.ingest("n", spool, sequence, [chunk(sequence, probe=spool)]) is fresh
            if fresh:
                last[spool] = sequence
                kept.append((spool, sequence))
            assert await store.acknowledged("n", spool) == last[spool]
        assert [(c.probe, c.first_index) for c in await store.chunks("run-1")] == sorted(kept)
        await store.close()

    asyncio.run(scenario())


async def test_schedules(store):
    await store.put_schedule(SCHEDULE)
    await store.put_schedule(replace(SCHEDULE, name="a", cron="", at_wall_ns=9))
    await store.put_schedule(replace(SCHEDULE, last_run_id="run-1"))
    assert [schedule.name for schedule in await store.schedules()] == ["a", "nightly"]
    assert await store.remove_schedule("nightly") == replace(SCHEDULE, last_run_id="run-1")
    assert await store.remove_schedule("nightly") is None


async def test_a_firing_is_claimed_once(store):
    claims = await asyncio.gather(*(store.claim_firing("nightly", 5) for _ in range(10)))
    assert sorted(claims) == [False] * 9 + [True]
    assert await store.claim_firing("nightly", 6)
    assert await store.claim_firing("weekly", 5)


async def test_a_token_is_taken_once_by_whom_it_is_for_and_in_time(store):
    await store.add_token("any", "", 100)
    await store.add_token("own", "node-1", 100)
    uses = await asyncio.gather(*(store.use_token("any", f"node-{i}", 99) for i in range(10)))
    assert sorted(uses) == [False] * 9 + [True]
    assert [await store.use_token("own", "node-2", 1), await store.use_token("own", "node-1", 100)] == [False, False]
    assert await store.use_token("own", "node-1", 99)
    assert not await store.use_token("unknown", "node-1", 1)


async def test_gauges_are_kept_by_run_and_taken_in_once(store):
    gauges = [
        GaugeRecord(run, "node-1", name, "B", 1, b"\x00" * 16) for run in ("run-1", "run-2") for name in ("b", "a")
    ]
    assert await store.ingest("node-1", "spool", 1, [], gauges)
    assert not await store.ingest("node-1", "spool", 1, [], gauges)
    assert await store.gauges("run-1") == [gauges[1], gauges[0]]
    assert await store.gauges("run-3") == []


async def test_an_approval_serves_one_run_of_somebody_else_in_time(store):
    given = [ApprovalRecord("d1", "t", "x.yaml", who, 5, 100) for who in ("alice", "bob")]
    for approval in given:
        await store.add_approval(approval)
    assert await store.add_approved_run(RUN, "d2", "carol", 6) is None
    assert await store.add_approved_run(RUN, "d1", "carol", 100) is None, "expired"
    assert await store.run("run-1") is None
    taken = await store.add_approved_run(RUN, "d1", "alice", 6)
    assert taken == replace(given[1], run_id="run-1"), "not her own"
    assert await store.run("run-1") == RUN
    assert await store.add_approved_run(replace(RUN, id="run-2"), "d1", "alice", 6) is None
    assert await store.approvals(5) == [taken, given[0]]
    assert await store.approvals(5, "d2") == []


async def test_of_many_runs_at_once_one_gets_the_approval(store):
    await store.add_approval(ApprovalRecord("d1", "t", "x.yaml", "bob", 5, 100))
    runs = [replace(RUN, id=f"run-{n}") for n in range(10)]
    taken = await asyncio.gather(*(store.add_approved_run(run, "d1", "alice", 6) for run in runs))
    (one,) = [approval for approval in taken if approval]
    assert [run.id for run in await store.runs(20)] == [one.run_id]


async def test_a_run_that_cannot_be_added_leaves_its_approval(store):
    await store.add_approval(ApprovalRecord("d1", "t", "x.yaml", "bob", 5, 100))
    await store.add_run(RUN)
    with pytest.raises(RefusedError):
        await store.add_approved_run(RUN, "d1", "alice", 6)
    assert [approval.run_id for approval in await store.approvals(5)] == [""]


async def test_audit_and_settings(store):
    records = [AuditRecord(i, "alice", "admin", "Stop", "all", "done") for i in range(3)]
    for record in records:
        await store.add_audit(record)
    assert await store.audit(2) == [records[2], records[1]]
    assert await store.setting("stop") is None
    await store.set_setting("stop", "a")
    await store.set_setting("stop", "")
    assert await store.setting("stop") == ""


async def test_everything_is_there_after_closing_and_epochs_rise(make):
    store = make()
    await store.open()
    epochs = [await store.lead(), await store.lead()]
    await store.add_run(RUN)
    await store.add_event("run-1", "a", "", {}, 1)
    await store.ingest("node-1", "spool", 3, [chunk()])
    await store.close()
    await store.close()
    again = make()
    await again.open()
    epochs.append(await again.lead())
    assert [await again.run("run-1"), await again.chunks("run-1")] == [RUN, [chunk()]]
    assert (await again.add_event("run-1", "b", "", {}, 2)).number == 2
    assert not await again.ingest("node-1", "spool", 3, [chunk()])
    assert all(before < after for before, after in pairwise(epochs))
    await again.close()
    with pytest.raises(TransientError, match="not open"):
        await again.runs(1)
