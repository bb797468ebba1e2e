"""When runs start by themselves: cron (five fields, UTC) and one-shot, at most once a firing.

APScheduler keeps time, in memory, rebuilt from the store at start; the store decides: who claims a firing first runs
it. Invariant: a firing that was not run, and why, is reported; none is run later than `GRACE_S`.
What was missed while no controller ran is found at start from the last firing that was seen to.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    EVENT_JOB_SUBMITTED,
    JobExecutionEvent,
    JobSubmissionEvent,
)  # fmt: skip
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger

from controller.store.base import ScheduleRecord, Store
from protos.error import BlackstartError, Problem, SpecError

if TYPE_CHECKING:
    from apscheduler.triggers.base import BaseTrigger

GRACE_S: Final = 300  # a firing that is late by more was meant for another moment of the system under test
_LOOK_BACK_S: Final = 7 * 24 * 3600  # how far firings missed by a controller that was down are counted
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_REMEDY: Final = "minute hour day-of-month month day-of-week in UTC, such as '30 2 * * mon-fri'"
_US_NS: Final = 1000

Fire = Callable[[ScheduleRecord, int], Awaitable[str]]


class Schedule:
    """The schedules of the leading controller.

    Args:
        store: holds the schedules and decides who runs a firing.
        fire: starts the run of a record due at an instant (ns since the Unix epoch); the run's id.
        report: takes one sentence about every firing, run or not.
        now_ns: the wall clock.
    """

    def __init__(
        self, store: Store, fire: Fire, report: Callable[[str], None], now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._store, self._fire, self._report, self._now_ns = store, fire, report, now_ns
        self._records: dict[str, ScheduleRecord] = {}
        self._due: dict[str, int] = {}  # by name: the firing that APScheduler has just submitted
        self._changing = asyncio.Lock()
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": GRACE_S, "coalesce": True, "max_instances": 1}
        )
        self._scheduler.add_listener(self._submitted, EVENT_JOB_SUBMITTED)
        self._scheduler.add_listener(self._not_run, EVENT_JOB_MISSED | EVENT_JOB_ERROR | EVENT_JOB_MAX_INSTANCES)

    async def start(self) -> None:
        """Takes up what the store holds: runs what is late within the grace, reports what is later."""
        self._records = {record.name: record for record in await self._store.schedules()}
        self._scheduler.start()
        for record in list(self._records.values()):
            await self._catch_up(record)
            self._plan(record)

    async def add(self, record: ScheduleRecord) -> None:
        """SpecError for a cron that is wrong or never fires, a one-shot in the past, or a name in use."""
        async with self._changing:
            problems = _problems(record, self._now_ns())
            held = self._records.get(record.name)
            if held is not None and self._next_ns(held):
                problems.append(Problem("name", f"{record.name!r} is in use", "remove it first, or take another name"))
            if problems:
                raise SpecError(*problems)
            await self._store.set_setting(_seen_key(record.name), str(self._now_ns()))
            await self._store.put_schedule(record)
            self._records[record.name] = record
            self._plan(record)

    async def remove(self, name: str) -> ScheduleRecord:
        """The schedule that was; SpecError if there is none of that name. A run that it started goes on."""
        async with self._changing:
            removed = await self._store.remove_schedule(name)
            if removed is None or name not in self._records:
                known = ", ".join(sorted(self._records)) or "there are none"
                raise SpecError(Problem("name", f"no schedule is named {name!r}", f"known: {known}"))
            del self._records[name]
            if self._scheduler.get_job(name) is not None:
                self._scheduler.remove_job(name)
            return removed

    async def list(self) -> list[tuple[ScheduleRecord, int]]:
        """By name, with the next firing in ns since the Unix epoch; 0 for a one-shot that is over."""
        return [(record, self._next_ns(record)) for _, record in sorted(self._records.items())]

    async def close(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def _plan(self, record: ScheduleRecord) -> None:
        if record.name in self._records and self._next_ns(record):
            self._scheduler.add_job(
                self._job, trigger(record), args=[record.name], id=record.name, replace_existing=True
            )  # fmt: skip

    def _next_ns(self, record: ScheduleRecord) -> int:
        now_ns = self._now_ns()
        if record.at_wall_ns:
            return record.at_wall_ns if record.at_wall_ns > now_ns else 0
        due = trigger(record).get_next_fire_time(None, _moment(now_ns))
        return _ns(due) if due else 0

    def _submitted(self, event: JobSubmissionEvent) -> None:
        self._due[event.job_id] = _ns(event.scheduled_run_times[-1])

    async def _job(self, name: str) -> None:
        record, due_ns = self._records.get(name), self._due.pop(name, 0)
        if record is not None and due_ns:
            await self._firing(record, record.at_wall_ns or due_ns)

    async def _firing(self, record: ScheduleRecord, fire_wall_ns: int) -> None:
        """Claims the firing and starts its run; what a run is refused for is reported, not raised."""
        said, run_id = f"schedule {record.name}: the firing of {_shown(fire_wall_ns)}", ""
        try:
            if not await self._store.claim_firing(record.name, fire_wall_ns):
                self._report(f"{said} was claimed before: not run again")
                return
            run_id = await self._fire(record, fire_wall_ns)
            self._report(f"{said} started run {run_id}")
        except BlackstartError as error:
            self._report(f"{said} did not start a run: {error}")
        try:
            await self._keep(record, fire_wall_ns, run_id)
        except BlackstartError as error:
            self._report(f"{said} could not be noted: {error}")

    async def _keep(self, record: ScheduleRecord, fire_wall_ns: int, run_id: str) -> None:
        async with self._changing:
            if self._records.get(record.name) is not record:
                return  # removed or replaced meanwhile
            await self._store.set_setting(_seen_key(record.name), str(fire_wall_ns))
            if run_id:
                fired = replace(record, last_run_id=run_id)
                await self._store.put_schedule(fired)
                self._records[record.name] = fired

    def _not_run(self, event: JobExecutionEvent | JobSubmissionEvent) -> None:
        if isinstance(event, JobSubmissionEvent):
            due, why = event.scheduled_run_times[-1], "was left out: the firing before it has not started its run yet"
        elif event.code == EVENT_JOB_MISSED:
            due, why = event.scheduled_run_time, f"was missed by more than {GRACE_S} s: not run"
        else:
            due, why = event.scheduled_run_time, f"broke: {event.exception!r}"
        self._due.pop(event.job_id, None)
        self._report(f"schedule {event.job_id}: the firing of {_shown(_ns(due))} {why}")

    async def _catch_up(self, record: ScheduleRecord) -> None:
        """Sees to the firings since the last one seen: nobody was there for them."""
        now_ns = self._now_ns()
        seen = await self._store.setting(_seen_key(record.name))
        missed = _between(record, int(seen or now_ns), now_ns)
        if missed:
            last_ns, count = missed[-1], len(missed)
            late_s = (now_ns - last_ns) / 1e9
            if late_s <= GRACE_S:
                await self._firing(record, last_ns)
                count -= 1
            elif not await self._store.claim_firing(record.name, last_ns):
                self._report(
                    f"schedule {record.name}: the firing of {_shown(last_ns)} may not have run: the controller ended"
                )
                count -= 1
            if count:
                self._report(
                    f"schedule {record.name}: missed {count} while no controller ran, up to {_shown(last_ns)}: not run"
                )
        await self._store.set_setting(_seen_key(record.name), str(now_ns))


def trigger(record: ScheduleRecord) -> BaseTrigger:
    """APScheduler's trigger; SpecError for a cron that it cannot read."""
    if record.at_wall_ns:
        return DateTrigger(_moment(record.at_wall_ns))
    return cron_trigger(record.cron)


def cron_trigger(cron: str) -> BaseTrigger:
    """As crontab(5) has it: Sunday is 0 or 7, and where both days are restricted either suffices.

    APScheduler alone would count weekdays from Monday and want both.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise SpecError(Problem("cron", f"{cron!r} has {len(fields)} fields, not five", _REMEDY))
    minute, hour, day, month, weekday = fields
    try:
        named = _weekdays(weekday)
        both = [(day, "*"), ("*", named)] if not day.startswith("*") and not weekday.startswith("*") else [(day, named)]
        triggers = [
            CronTrigger(minute=minute, hour=hour, day=d, month=month, day_of_week=w, timezone=UTC) for d, w in both
        ]
    except ValueError as error:
        raise SpecError(Problem("cron", f"{cron!r}: {error}", _REMEDY)) from error
    return triggers[0] if len(triggers) == 1 else OrTrigger(triggers)


def _weekdays(field: str) -> str:
    """The field with crontab's numbers as names, ranges and steps spelt out."""
    if field == "*":
        return field
    days: set[int] = set()
    for part in field.lower().split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if span == "*":
            low, high = 0, 6
        else:
            low = _weekday(first)
            high = _weekday(last) if last else 6 if step else low
        if high == 0 and low > 0:  # "fri-sun"
            high = 7
        chosen = range(low, high + 1, int(step or 1))
        if not chosen:
            raise ValueError(f"day-of-week {part!r} runs backwards")
        days.update(day % 7 for day in chosen)
    return ",".join(_DAYS[day] for day in sorted(days))


def _weekday(word: str) -> int:
    if word in _DAYS:
        return _DAYS.index(word)
    if word.isdecimal() and int(word) <= 7:
        return int(word)
    raise ValueError(f"{word!r} is not a day of the week")


def _problems(record: ScheduleRecord, now_ns: int) -> list[Problem]:
    if bool(record.cron) == bool(record.at_wall_ns):
        return [Problem("schedule", "needs either a cron or an instant", f"give one of the two; cron: {_REMEDY}")]
    if not record.name.strip():
        return [Problem("name", "is empty", "give the schedule a name")]
    if record.at_wall_ns:
        past = record.at_wall_ns <= now_ns
        return [Problem("at", f"{_shown(record.at_wall_ns)} is in the past", "give a later one")] if past else []
    try:
        due = cron_trigger(record.cron).get_next_fire_time(None, _moment(now_ns))
    except SpecError as error:
        return list(error.problems)
    return [] if due else [Problem("cron", f"{record.cron!r} never fires", _REMEDY)]


def _between(record: ScheduleRecord, after_ns: int, until_ns: int) -> list[int]:
    """Firings in (after, until], of a cron those of the last `_LOOK_BACK_S` only."""
    if record.at_wall_ns:
        return [record.at_wall_ns] if after_ns < record.at_wall_ns <= until_ns else []
    wanted, found = trigger(record), max(after_ns, until_ns - _LOOK_BACK_S * 1_000_000_000)
    firings: list[int] = []
    while (due := wanted.get_next_fire_time(None, _moment(found) + timedelta(microseconds=1))) and _ns(due) <= until_ns:
        found = _ns(due)
        firings.append(found)
    return firings


def _moment(wall_ns: int) -> datetime:
    return datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC) + timedelta(
        microseconds=wall_ns % 1_000_000_000 // _US_NS
    )


def _ns(moment: datetime) -> int:
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) * _US_NS


def _shown(wall_ns: int) -> str:
    return f"{_moment(wall_ns):%Y-%m-%d %H:%M:%S} UTC"


def _seen_key(name: str) -> str:
    return f"schedule.seen/{name}"
