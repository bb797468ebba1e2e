"""One level of load: jobs given to the workers, and what became of each, in columns.

Invariant: each job ends as done, failed or lost, once; what was tried again says how often.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from agent.workloads.encode.hive import Hive, LostError, Worker
from agent.workloads.encode.ladder import Made
from agent.workloads.encode.shelf import Output, Shelf
from agent.workloads.encode.source import Source
from agent.workloads.encode.spec import JOBS_MAX, EncodeSpec
from agent.workloads.encode.timeline import processors
from agent.workloads.encode.worker import Answer, Order

_PAUSE_S: Final = 1.0  # before a job is tried again, times the attempts so far
_ERRORS_MAX: Final = 20
DONE, FAILED, LOST = 1, 2, 3


@dataclass
class Columns:
    """A row a job, in the order in which they ended. Instants: CLOCK_MONOTONIC ns."""

    due_ns: array[int] = field(default_factory=lambda: array("q"))
    begin_ns: array[int] = field(default_factory=lambda: array("q"))
    end_ns: array[int] = field(default_factory=lambda: array("q"))
    outcome: array[int] = field(default_factory=lambda: array("b"))
    attempts: array[int] = field(default_factory=lambda: array("b"))
    frames: array[int] = field(default_factory=lambda: array("q"))
    media_s: array[float] = field(default_factory=lambda: array("d"))
    wall_s: array[float] = field(default_factory=lambda: array("d"))
    cpu_s: array[float] = field(default_factory=lambda: array("d"))
    rss_bytes: array[int] = field(default_factory=lambda: array("q"))


@dataclass(frozen=True)
class Cost:
    """Of the node and of what measures, until now: processor seconds."""

    at_ns: int
    pictures: int
    busy_s: float
    total_s: float
    own_s: float  # of this process
    agent_s: float


@dataclass
class Level:
    """*jobs*: at a time. *rate*: videos/s that came, 0 in a closed loop. *full*: while every worker had a job."""

    jobs: int
    rate: float
    columns: Columns = field(default_factory=Columns)
    begin: Cost | None = None
    full: Cost | None = None
    end: Cost | None = None
    twice: int = 0
    damaged: int = 0
    errors: list[str] = field(default_factory=list)
    rungs: dict[str, array[float]] = field(default_factory=dict)  # of each job that has it: its time over playing time


class Runner:
    """Gives orders. *folder*: for outputs. *say*: progress, for a human."""

    def __init__(
        self, spec: EncodeSpec, hive: Hive, folder: Path, sources: Sequence[Source], say: Callable[[str], None]
    ) -> None:
        self._spec, self._hive, self._folder, self._say = spec, hive, folder, say
        self._sources = itertools.cycle(sources)
        self._numbers = itertools.count()
        self.shelf = Shelf(spec.decode_max, firsts=spec.quality, keep_all=spec.keep)

    async def closed(self, jobs: int, count: int, duration_s: float = 0.0) -> Level:
        """*jobs* at a time, until *count* have ended; or with *duration_s* as long as jobs begin."""
        level = Level(jobs, 0.0)
        await self._hive.grow(jobs)
        level.begin = self.cost()
        end = time.monotonic() + duration_s
        left = iter(range(count))
        if duration_s:
            left = itertools.takewhile(lambda _: time.monotonic() < end, range(JOBS_MAX))

        async def busy(worker: Worker) -> None:
            for _ in left:
                now = time.monotonic_ns()
                await self._job(level, worker, now)
                self._tell(
                    level, f"of {count} videos" if not duration_s else f"videos, {max(0, end - now / 1e9):.0f} s to go"
                )
            if level.full is None:
                level.full = self.cost()  # from here on, not every worker has something to do

        await _all(busy(worker) for worker in self._hive.workers[:jobs])
        level.end = self.cost()
        return level

    async def open(self, rate: float, instants: Sequence[float], workers: int) -> Level:
        """Videos come when they come; the first worker that is free takes the one that has waited longest."""
        level = Level(workers, rate)
        await self._hive.grow(workers)
        queue: asyncio.Queue[int] = asyncio.Queue()
        level.begin = self.cost()
        origin_ns = level.begin.at_ns

        async def come() -> None:
            for at_s in instants:
                due_ns = origin_ns + int(at_s * 1e9)
                await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
                queue.put_nowait(due_ns)
            level.full = self.cost()
            for _ in range(workers):
                queue.put_nowait(-1)

        async def busy(worker: Worker) -> None:
            while (due_ns := await queue.get()) >= 0:
                await self._job(level, worker, due_ns)
                self._tell(level, f"of {len(instants)} videos, {queue.qsize()} waiting")

        await _all([come(), *(busy(worker) for worker in self._hive.workers[:workers])])
        level.end = self.cost()
        return level

    async def _job(self, level: Level, worker: Worker, due_ns: int) -> None:
        """One job to its end, with the attempts that the spec allows."""
        source, number, columns = next(self._sources), next(self._numbers), level.columns
        place, begin_ns = str(self._folder / f"job-{number}"), time.monotonic_ns()
        outcome, answer, attempt = LOST, Answer(), 0
        while attempt < self._spec.attempts:
            attempt += 1
            try:
                answer = await worker.do(Order("job", source.path, place, attempt), self._spec.job_timeout_s)
                outcome = FAILED if answer.error else DONE
            except LostError as error:
                outcome, answer = LOST, Answer(error=str(error))
            if outcome == DONE or answer.kind in ("job", "spec"):
                break
            if attempt < self._spec.attempts:
                await asyncio.sleep(_PAUSE_S * attempt if answer.kind in ("disk", "output") else 0)
        made = answer.made or Made()
        columns.due_ns.append(due_ns)
        columns.begin_ns.append(begin_ns)
        columns.end_ns.append(time.monotonic_ns())
        columns.outcome.append(outcome)
        columns.attempts.append(attempt)
        columns.frames.append(made.frames)
        columns.media_s.append(made.media_s)
        columns.wall_s.append(made.wall_s)
        columns.cpu_s.append(made.cpu_s)
        columns.rss_bytes.append(answer.rss_bytes)
        level.twice += answer.twice
        level.damaged += made.damaged
        if answer.error and len(level.errors) < _ERRORS_MAX:
            level.errors.append(answer.error)
        if answer.made is not None:
            self.shelf.put(Output(place, source, answer.made))
            for name, spent_s in made.rung_s.items():
                level.rungs.setdefault(name, array("d")).append(spent_s / made.media_s)

    def _tell(self, level: Level, rest: str) -> None:
        done = len(level.columns.outcome)
        load = f"{level.rate:g} videos/s" if level.rate else f"{level.jobs} at a time"
        self._say(f"encoding, {load}: {done} {rest}, {self._hive.board.pictures()} pictures so far")

    def cost(self) -> Cost:
        """Now."""
        busy, whole = processors()
        own = os.times()
        return Cost(time.monotonic_ns(), self._hive.board.pictures(), busy, whole, own.user + own.system, _agent_s())


def _agent_s() -> float:
    """Processor seconds of the agent, whose child this is."""
    try:
        used = psutil.Process(os.getppid()).cpu_times()
    except psutil.Error:
        return 0.0
    return float(used.user + used.system)


async def _all(parts: Iterator[Awaitable[None]] | Sequence[Awaitable[None]]) -> None:
    """All of them; the first error ends the others."""
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(_awaited(part))


async def _awaited(part: Awaitable[None]) -> None:
    await part
