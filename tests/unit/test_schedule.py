"""Cron as crontab(5) has it, firings at most once, and everything that was not run reported. On a virtual clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from controller.schedule import GRACE_S, Schedule, cron_trigger
from controller.store.base import ScheduleRecord
from controller.store.sql import SqlStore, sqlite_url
from protos.error import RefusedError, SpecError

SECOND_NS = 1_000_000_000
# A Wednesday, far enough ahead that APScheduler's own, real clock stays out of it.
START_NS = int(datetime(2091, 8, 1, 12, 0, tzinfo=UTC).timestamp()) * SECOND_NS
MINUTE_NS = 60 * SECOND_NS


def record(name="nightly", cron="", at_wall_ns=0):
    return ScheduleRecord(name, cron, at_wall_ns, "x.yaml", {"title": name}, {}, {}, "alice")


class Bench:
    """A schedule on a real store, a clock that is set, and what it fired and said."""

    def __init__(self, path) -> None:
        self.store = SqlStore(sqlite_url(path))
        self.now_ns = START_NS
        self.fired, self.said = [], []
        self.refusal = None
        self.schedule = self.fresh()

    def fresh(self):
        return Schedule(self.store, self.fire, self.said.append, lambda: self.now_ns)

    async def restart(self, after_s):
        await self.schedule.close()
        self.now_ns += int(after_s * SECOND_NS)
        self.schedule = self.fresh()
        await self.schedule.start()

    async def fire(self, record, fire_wall_ns):
        if self.refusal is not None:
            raise self.refusal
        self.fired.append((record.name, fire_wall_ns))
        return f"run-{len(self.fired)}"


@pytest.fixture
async def bench(tmp_path):
    bench = Bench(tmp_path / "store.db")
    await bench.store.open()
    await bench.schedule.start()
    yield bench
    await bench.schedule.close()
    await bench.store.close()


def firings(cron, count=3, start=datetime(2026, 7, 1, tzinfo=UTC)):
    trigger, found = cron_trigger(cron), start
    for _ in range(count):
        found = trigger.get_next_fire_time(None, found + timedelta(microseconds=1))
        yield found


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 2 * * 0", ["2026-07-05 02:00", "2026-07-12 02:00", "2026-07-19 02:00"]),  # Sundays
        ("0 2 * * 7", ["2026-07-05 02:00", "2026-07-12 02:00", "2026-07-19 02:00"]),
        ("0 2 * * 1-5", ["2026-07-01 02:00", "2026-07-02 02:00", "2026-07-03 02:00"]),
        ("0 2 * * fri-sun", ["2026-07-03 02:00", "2026-07-04 02:00", "2026-07-05 02:00"]),
        ("0 2 * * 2/2", ["2026-07-02 02:00", "2026-07-04 02:00", "2026-07-07 02:00"]),  # Tue, Thu, Sat
        ("*/20 * * * *", ["2026-07-01 00:20", "2026-07-01 00:40", "2026-07-01 01:00"]),
        ("0 0 13 * fri", ["2026-07-03 00:00", "2026-07-10 00:00", "2026-07-13 00:00"]),  # the 13th or a Friday
        ("0 0 29 feb *", ["2028-02-29 00:00", "2032-02-29 00:00", "2036-02-29 00:00"]),
    ],
)
def test_cron_means_what_crontab_means(cron, expected):
    assert [f"{due:%Y-%m-%d %H:%M}" for due in firings(cron)] == expected


@pytest.mark.parametrize(
    "cron", ["* * * *", "@daily", "61 * * * *", "0 0 * * 8", "0 0 * * 5-2", "a b c d e", "0 0 30 feb *", "0 0 * * */0"]
)
async def test_bad_cron_is_refused_with_a_remedy(bench, cron):
    with pytest.raises(SpecError, match=r"cron.*\(minute hour"):
        await bench.schedule.add(record(cron=cron))
    assert await bench.store.schedules() == []


async def test_add_refuses_past_instants_neither_both_and_names_in_use(bench):
    with pytest.raises(SpecError, match="in the past"):
        await bench.schedule.add(record(at_wall_ns=START_NS))
    with pytest.raises(SpecError, match="either a cron or an instant"):
        await bench.schedule.add(record())
    with pytest.raises(SpecError, match="either a cron or an instant"):
        await bench.schedule.add(record(cron="* * * * *", at_wall_ns=START_NS + 1))
    await bench.schedule.add(record(cron="0 2 * * *"))
    with pytest.raises(SpecError, match="in use"):
        await bench.schedule.add(record(cron="0 3 * * *"))


async def test_list_and_remove(bench):
    await bench.schedule.add(record("b", cron="0 13 * * *"))
    await bench.schedule.add(record("a", at_wall_ns=START_NS + 7))
    assert [(held.name, due) for held, due in await bench.schedule.list()] == [
        ("a", START_NS + 7), ("b", START_NS + 60 * MINUTE_NS),
    ]  # fmt: skip
    assert (await bench.schedule.remove("b")).cron == "0 13 * * *"
    with pytest.raises(SpecError, match="known: a"):
        await bench.schedule.remove("b")
    assert [held.name for held in await bench.store.schedules()] == ["a"]


async def test_a_firing_runs_once_and_is_noted(bench):
    held = record(cron="0 13 * * *")
    await bench.schedule.add(held)
    await asyncio.gather(*(bench.schedule._firing(held, START_NS) for _ in range(5)))
    assert bench.fired == [("nightly", START_NS)]
    assert sum("claimed before" in line for line in bench.said) == 4
    assert (await bench.store.schedules())[0].last_run_id == "run-1"


async def test_a_refused_run_is_reported_and_the_next_still_fires(bench):
    held = record(cron="* * * * *")
    await bench.schedule.add(held)
    bench.refusal = RefusedError("the emergency stop is in force")
    await bench.schedule._firing(held, START_NS)
    assert "did not start a run: the emergency stop is in force" in bench.said[-1]
    bench.refusal = None
    await bench.schedule._firing(held, START_NS + MINUTE_NS)
    assert bench.fired == [("nightly", START_NS + MINUTE_NS)]


async def test_a_schedule_removed_while_it_fires_stays_removed(bench):
    held = record(cron="0 13 * * *")
    await bench.schedule.add(held)

    async def remove_and_run(record, fire_wall_ns) -> str:
        await bench.schedule.remove(record.name)
        return "run-x"

    bench.schedule._fire = remove_and_run
    await bench.schedule._firing(held, START_NS)
    assert await bench.store.schedules() == []


async def test_one_shot_missed_while_down_runs_within_the_grace(bench):
    await bench.schedule.add(record("once", at_wall_ns=START_NS + 10 * SECOND_NS))
    await bench.restart(after_s=10 + GRACE_S)
    assert bench.fired == [("once", START_NS + 10 * SECOND_NS)]
    [(held, next_wall_ns)] = await bench.schedule.list()
    assert (held.last_run_id, next_wall_ns) == ("run-1", 0)
    await bench.restart(after_s=1)
    assert len(bench.fired) == 1


async def test_one_shot_missed_beyond_the_grace_is_reported_once_and_never_run(bench):
    await bench.schedule.add(record("once", at_wall_ns=START_NS + 10 * SECOND_NS))
    await bench.restart(after_s=11 + GRACE_S)
    assert bench.fired == []
    assert bench.said == ["schedule once: missed 1 while no controller ran, up to 2091-08-01 12:00:10 UTC: not run"]
    await bench.restart(after_s=1)
    assert len(bench.said) == 1
    await bench.schedule.add(record("once", at_wall_ns=bench.now_ns + SECOND_NS))  # its name is free again


async def test_crons_missed_while_down_are_counted_and_the_last_runs_within_the_grace(bench):
    await bench.schedule.add(record(cron="*/30 * * * *"))
    await bench.restart(after_s=3 * 3600 + 60)
    assert bench.fired == [("nightly", START_NS + 180 * MINUTE_NS)]
    assert "missed 5 while no controller ran" in bench.said[-1]


async def test_a_firing_claimed_by_a_controller_that_died_is_not_run_again(bench):
    await bench.schedule.add(record("once", at_wall_ns=START_NS + SECOND_NS))
    assert await bench.store.claim_firing("once", START_NS + SECOND_NS)
    await bench.restart(after_s=GRACE_S * 2)
    assert bench.fired == []
    assert "may not have run" in bench.said[-1]


async def test_what_was_added_after_a_firing_does_not_run_it(bench):
    bench.now_ns += 60 * SECOND_NS
    await bench.schedule.add(record(cron="0 12 * * *"))
    await bench.restart(after_s=60)
    assert (bench.fired, bench.said) == ([], [])


async def test_apscheduler_fires_with_the_due_instant(tmp_path):
    """The real clock, once: an instant a few milliseconds ahead."""
    bench, done = Bench(tmp_path / "store.db"), asyncio.Event()
    await bench.store.open()
    bench.now_ns = int(datetime.now(UTC).timestamp() * 1e9)
    bench.schedule = Schedule(bench.store, bench.fire, lambda line: (bench.said.append(line), done.set()))
    await bench.schedule.start()
    at_ns = bench.now_ns + 50_000_000
    await bench.schedule.add(record("soon", at_wall_ns=at_ns))
    await asyncio.wait_for(done.wait(), 5)
    await bench.schedule.close()
    await bench.store.close()
    assert bench.fired == [("soon", at_ns)]
    assert "started run run-1" in bench.said[0]


async def test_a_firing_too_late_for_apscheduler_is_reported(tmp_path):
    """A clock an hour behind the real one: to APScheduler the firing is an hour late, as after a suspended machine."""
    bench, done = Bench(tmp_path / "store.db"), asyncio.Event()
    await bench.store.open()
    behind_ns = int(datetime.now(UTC).timestamp() * 1e9) - 3600 * SECOND_NS
    bench.schedule = Schedule(
        bench.store, bench.fire, lambda line: (bench.said.append(line), done.set()), lambda: behind_ns
    )
    await bench.schedule.start()
    await bench.schedule.add(record("late", at_wall_ns=behind_ns + SECOND_NS))
    await asyncio.wait_for(done.wait(), 5)
    await bench.schedule.close()
    await bench.store.close()
    assert bench.fired == []
    assert f"was missed by more than {GRACE_S} s: not run" in bench.said[0]
