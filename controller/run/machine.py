"""Runs from submission to verdict: `queued, running, closing, ended`.

Invariant: every run that was accepted comes to `ended`, whatever becomes of its driver, its agents or the controller;
and before that, `run.end` goes to every agent that it touched. A run is ended once, by whoever asks first.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import structlog

from controller import approval
from controller.report.format import plural
from controller.run.active import ActiveRun
from controller.run.closing import conclude, end_on_agents
from controller.run.driver import INJECT_S, Driver
from controller.run.plan import check_objectives, check_targets
from controller.run.supervisor import ABORTED, supervise
from controller.run.variable import typed
from controller.store.base import RunRecord
from protos.error import RefusedError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.run.reach import Reach
    from controller.run.supervisor import Nursery

Json = dict[str, Any]
DECISIVE: Final = frozenset({"inject", "run_workload", "start_probe"})
LOST_REASON: Final = "the controller restarted while the run was under way"


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits on runs. *driver_silence_s*: an external driver without Invoke or Watch for so long is lost."""

    together_max: int = 4
    driver_silence_s: float = 60.0
    agent_wait_s: float = 15.0
    run_s_max: float = 3600.0
    modules: tuple[str, ...] = ("blackstart.chaos",)


@dataclass(frozen=True, slots=True)
class Submission:
    """What somebody wants to run; linted already. *actor* is whom the run names, *submitter* who is behind it."""

    experiment: Json
    source: str
    variables: Mapping[str, str]
    profile: Json
    actor: str
    submitter: str


class Machine:
    """See the module."""

    def __init__(self, reach: Reach, nursery: Nursery, rules: Rules) -> None:
        self._reach, self._nursery, self._rules = reach, nursery, rules
        self._active = reach.active
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(rules.together_max)
        self._log = structlog.get_logger("controller.run")
        self.ended: dict[tuple[str, str], int] = {}  # by outcome and verdict
        self.stranded = 0

    @property
    def active(self) -> list[ActiveRun]:
        return list(self._active.values())

    async def submit(self, what: Submission, *, external: bool = False) -> RunRecord:
        """Accepts a run: queued for a child process, or running at once for an *external* driver."""
        self._reach.admission.check_open(datetime.now(UTC))
        seed = secrets.randbits(32)
        record = RunRecord(
            id=uuid.uuid4().hex[:12], title=str(what.experiment.get("title") or "untitled"), actor=what.actor,
            source=what.source, experiment=what.experiment, submitted_wall_ns=time.time_ns(),
            variables=dict(what.variables), profile=what.profile,
        )  # fmt: skip
        typed(what.experiment, what.variables)
        if not external:  # whose driver says step by step what it wants
            check_objectives(what.experiment, what.variables, what.profile, what.source)
            await check_targets(self._reach, what.experiment, what.variables, what.source)
        approved_by = await self._add(record, what)
        await self._reach.store.put(record.id, "run", "seed", {"seed": seed, "external": external})
        await self._reach.chronicle.add(
            record.id,
            "run.queued",
            f"{what.actor} submitted {record.title!r}, seed {seed}{approved_by}",
            {"seed": seed},
        )
        run = ActiveRun(record, seed, external)
        self._active[record.id] = run
        if external:
            await self._set_running(run)
        self._start(run, self._attend if external else self._drive)
        return run.record

    async def _add(self, record: RunRecord, what: Submission) -> str:
        """Adds the run; one that is dangerous uses up an approval by somebody else, who is named in the answer."""
        if not approval.needed(what.experiment):
            await self._reach.store.add_run(record)
            return ""
        mark = approval.digest(what.experiment, what.variables)
        given = await self._reach.store.add_approved_run(record, mark, what.submitter, time.time_ns())
        if given is None:
            raise RefusedError(await approval.missing(self._reach.store, what) or "its approval was just used up")
        return f", approved by {given.approver}"

    async def abort(self, run_id: str, reason: str, actor: str) -> RunRecord:
        """Ends a run; returns when it is ended, with its effects reverted."""
        run = self._active.get(run_id)
        if run is None:
            record = await self._reach.store.run(run_id)
            if record is None:
                raise SpecError(f"no run {run_id!r}; see `blackstart runs list`")
            raise RefusedError(f"run {run_id} has ended already: {record.outcome}, {record.verdict}")
        text = f"aborted by {actor}" + (f": {reason}" if reason else "")
        await self._reach.chronicle.add(run_id, "run.abort", text[:1].upper() + text[1:])
        run.end("aborted", text)
        await run.ended.wait()
        return run.record

    async def close(self, run_id: str, journal: Json) -> RunRecord:
        """The driver of an external run is done; returns when the run is ended."""
        run = self._external(run_id)
        status = journal.get("status")
        aborted = (journal.get("blackstart") or {}).get("aborted") or f"the engine was {status}"
        if status in ABORTED:
            run.end("aborted", str(aborted), journal)
        else:
            run.end("completed", "the experiment ran to its end", journal)
        await run.ended.wait()
        return run.record

    async def invoke(self, run_id: str, function: str, arguments: Json, progress: Callable[[str], None]) -> Any:
        """Carries out a driver function for the run's driver; goes on to its end when the caller goes away."""
        run = self._active.get(run_id)
        if run is None or run.closing:
            why = run.reason if run is not None else "it has ended, or there is none of that id"
            raise RefusedError(f"run {run_id} takes no more calls: {why}")
        if run.record.state != "running":
            raise RefusedError(f"run {run_id} is {run.record.state}, not running")
        run.heard()
        task = asyncio.create_task(Driver(self._reach, run, progress).call(function, arguments))
        run.invoking[task] = function
        task.add_done_callback(lambda done: run.invoking.pop(done, None))
        try:
            return await asyncio.shield(task)
        except (SpecError, RefusedError) as error:
            if function in DECISIVE and run.nothing_injected:
                run.refusal = run.refusal or str(error)
            raise
        except asyncio.CancelledError:
            if task.cancelled():
                raise RefusedError(f"{function} was cut short: run {run_id} is over ({run.reason})") from None
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        finally:
            run.heard()

    def watched(self, run_id: str, actor: str, change: int) -> None:
        """A Watch stream of *actor* began (+1) or ended (-1): those of its driver keep an external run alive."""
        run = self._active.get(run_id)
        if run is not None and run.external and run.record.actor == actor:
            run.watchers += change
            run.heard()

    async def resume(self) -> None:
        """Closes what an earlier controller left open, in the background: agents need time to come back."""
        for record in await self._reach.store.open_runs():
            seed = (await self._reach.store.documents(record.id, "run")).get("seed", {})
            run = ActiveRun(record, int(seed.get("seed", 0)), external=bool(seed.get("external")))
            run.touched = set(await self._reach.store.documents(record.id, "touched"))
            await self._reach.reserve_again(record.id)
            await self._reach.chronicle.add(
                record.id, "controller.restarted",
                f"The controller restarted; the run is closed and {plural(len(run.touched), 'agent')} told to revert",
            )  # fmt: skip
            self._active[record.id] = run
            run.end("lost", LOST_REASON, record.journal or None)
            self._start(run, self._finish)

    async def shut_down(self, timeout_s: float) -> None:
        """Aborts every run and waits for their ends, at most *timeout_s*."""
        for run in self.active:
            run.end("aborted", "the controller was shut down")
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _external(self, run_id: str) -> ActiveRun:
        run = self._active.get(run_id)
        if run is None:
            raise RefusedError(f"run {run_id} is not open: it has ended, or there is none of that id")
        if not run.external:
            raise RefusedError(f"run {run_id} is driven by the controller's own child, which closes it")
        return run

    def _start(self, run: ActiveRun, body: Callable[[ActiveRun], Any]) -> None:
        async def whole() -> None:
            try:
                await body(run)
            except Exception as error:  # noqa: BLE001 - whatever broke: the agents are told first, then the store
                self._log.exception("run broke", run=run.id)
                run.end("failed", f"the controller could not carry on: {error}")
                run.journal = None
                await end_on_agents(self._reach, run.record, run.touched, 0.0)
                await self._finish(run)
            finally:
                self._active.pop(run.id, None)
                run.ended.set()

        task = asyncio.create_task(whole(), name=f"run {run.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _set_running(self, run: ActiveRun) -> None:
        run.record = await self._reach.store.update_run(run.id, state="running", started_wall_ns=time.time_ns())
        await self._reach.chronicle.add(run.id, "run.started", f"{run.record.title!r} is running")

    async def _drive(self, run: ActiveRun) -> None:
        """A run of the controller's own: its child process from start to end."""
        async with self._slots:
            if not run.stop.is_set():
                await self._set_running(run)

                async def tell(kind: str, message: str) -> None:
                    await self._reach.chronicle.add(run.id, kind, message)

                child = asyncio.create_task(supervise(self._nursery, run, list(self._rules.modules), tell))
                stop = asyncio.create_task(run.stop.wait())
                await asyncio.wait({child, stop}, return_when=asyncio.FIRST_COMPLETED)
                stop.cancel()
                if not child.done():  # the effects come first, the child's farewell after
                    await self._set_closing(run)
                    await end_on_agents(self._reach, run.record, run.touched, 0.0)
                end = await child
                run.end(end.outcome, end.reason)
                run.journal = end.journal
            await self._finish(run)

    async def _attend(self, run: ActiveRun) -> None:
        """An external run: waits for its driver to close it, to fall silent, or to overrun."""
        started_ns = time.monotonic_ns()
        while not run.stop.is_set():
            try:
                await asyncio.wait_for(run.stop.wait(), min(1.0, self._rules.driver_silence_s / 4))
            except TimeoutError:
                pass
            now_ns = time.monotonic_ns()
            if run.silent_s(now_ns) > self._rules.driver_silence_s:
                run.end("lost", f"its driver has been silent for {self._rules.driver_silence_s:g} s")
            elif (now_ns - started_ns) / 1e9 > self._rules.run_s_max:
                run.end("failed", f"the run was not done after {self._rules.run_s_max:g} s")
        await self._finish(run)

    async def _finish(self, run: ActiveRun) -> None:
        """Closing and the end. A call that is injecting is waited for, so that its effects are reverted too."""
        await self._set_closing(run)
        lost = run.outcome == "lost" and run.reason == LOST_REASON
        wait_s = self._rules.agent_wait_s if lost or run.outcome == "completed" else min(2.0, self._rules.agent_wait_s)
        silent = await end_on_agents(self._reach, run.record, run.touched, wait_s)
        if run.invoking:
            for task, function in list(run.invoking.items()):
                if function != "inject":
                    task.cancel()
            await asyncio.wait(list(run.invoking), timeout=INJECT_S)
            silent = await end_on_agents(self._reach, run.record, run.touched, 0.0)
        if run.refusal and run.nothing_injected and run.outcome != "lost":
            run.outcome, run.reason = "refused", f"nothing was injected: {run.refusal}"
        reason = run.reason + (f"; not answered by {', '.join(silent)}" if silent else "")
        run.record = await conclude(
            self._reach, run.record, outcome=run.outcome, reason=reason, journal=run.journal, silent=silent
        )
        key = (run.record.outcome, run.record.verdict)
        self.ended[key] = self.ended.get(key, 0) + 1
        self.stranded += run.record.stranded

    async def _set_closing(self, run: ActiveRun) -> None:
        run.closing = True
        if run.record.state != "closing":
            run.record = await self._reach.store.update_run(run.id, state="closing")
            text = f"Closing ({run.reason}): what the run began is ended on {plural(len(run.touched), 'agent')}"
            await self._reach.chronicle.add(run.id, "run.closing", text)
