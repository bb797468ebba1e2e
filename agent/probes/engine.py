"""The probes of all runs on this node: starts and stops them, answers what they saw, hands their attempts on.

Invariant: every attempt reaches the sink once, in order, before `stop` returns. The engine goes on without a
controller; what becomes of the batches is the sink's business.
"""

from __future__ import annotations

import asyncio
import math
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from agent.probes import ledgers, registry
from agent.probes.base import Probe
from agent.probes.encode import EncodeProbe
from agent.probes.kube import KubeProbe
from agent.probes.ledger import Ledger
from agent.probes.log import LogProbe
from agent.probes.openloop import OpenLoop
from agent.probes.record import KEPT_MAX, Record
from agent.probes.tally import measured, tally
from protos.error import ProbeError, Problem, RefusedError, SpecError
from protos.figure import Figure
from protos.recovery import Attempts, Code, Question, Recovery, recovery

SECOND_NS: Final = 1_000_000_000
MS_NS: Final = 1_000_000
BASELINE_NS: Final = 30 * SECOND_NS  # before the injection, for what latency is usual
POLL_S: Final = 0.1  # between two looks at a probe that might be stable by now
INLINE_MAX: Final = 5_000  # attempts; more are worked through in a thread, so that no probe starts late
MEASURES: Final = ("success_fraction", "p50_ms", "p99_ms", "max_ms", "rate_s")
# name: (least, most), units as in the name
LIMITS: Final = {"interval_ms": (1, 60_000), "timeout_ms": (1, 60_000), "stable_s": (0.05, 3_600)}


class Sink(Protocol):
    """Takes a batch: columns of equal length, of attempts that are contiguous from *first_index* on."""

    def __call__(
        self, run_id: str, name: str, first_index: int,
        due: Any, start: Any, done: Any, outcome: Any, /,
    ) -> None: ...  # fmt: skip


@dataclass(slots=True)
class Running:
    """One probe of one run."""

    record: Record
    loop: OpenLoop
    probe: Probe
    started_ns: int
    timeout_ns: int
    stable_s: float
    p99_max_ms: float | None
    stopped: bool = False


class ProbeEngine:
    """Times in ns are on the node's monotonic clock; *in_flight_max* bounds the open sockets of each probe."""

    def __init__(
        self, *, sink: Sink, clock_ns: Callable[[], int] = time.monotonic_ns, rng: random.Random | None = None,
        allowed_command: registry.Allowed = lambda _: False, batch_s: float = 1.0, in_flight_max: int = 256,
        kept_max: int = KEPT_MAX, ledgers: Path | None = None, encodes: Path | None = None,
    ) -> None:  # fmt: skip
        self._sink, self._clock_ns, self._rng = sink, clock_ns, rng or random.Random()  # noqa: S311 no secret
        self._allowed, self._batch_s, self._in_flight_max = allowed_command, batch_s, in_flight_max
        self._kept_max, self._phase, self._ledgers, self._encodes = kept_max, 0.0, ledgers, encodes
        self._probes: dict[tuple[str, str], Running | None] = {}  # None: being opened
        self._flusher: asyncio.TimerHandle | None = None

    async def start(
        self, run_id: str, name: str, kind: str, spec: dict[str, Any], *,
        interval_ms: float = 20, timeout_ms: float = 1000, stable_s: float = 3.0, p99_max_ms: float | None = None,
    ) -> int:  # fmt: skip
        """Starts a probe; the ns of its first due time, which is a random part of an interval away.

        Raises:
            SpecError: with everything that is wrong with the arguments.
            RefusedError: the run has a probe of that name, or the node cannot or may not run it.
        """
        problems = _problems(name, interval_ms, timeout_ms, stable_s, p99_max_ms)
        try:
            probe = registry.build(kind, spec, self._allowed)
        except SpecError as error:
            raise SpecError(*problems, *error.problems) from error
        if problems:
            raise SpecError(*problems)
        key = (run_id, name)
        if key in self._probes:
            raise RefusedError(
                f"run {run_id} has a probe {name!r} on this node already: stop it, or choose another name"
            )
        self._probes[key] = None
        try:
            self._place(probe)
            await probe.open()
        except BaseException:  # a cancellation, too: the name is free again
            self._probes.pop(key, None)
            raise
        if key not in self._probes:  # stopped meanwhile
            await probe.close()
            raise RefusedError(f"probe {name!r} was stopped while it was being opened")
        interval_ns, timeout_ns = round(interval_ms * MS_NS), round(timeout_ms * MS_NS)
        record = Record(interval_ns, self._kept_max)
        flying_max = min(self._in_flight_max, math.ceil(timeout_ns / interval_ns) + 2)
        loop = OpenLoop(probe, record, timeout_s=timeout_ns / 1e9, in_flight_max=flying_max, clock_ns=self._clock_ns)
        first_due_ns = self._first_due_ns(interval_ns)
        self._probes[key] = Running(record, loop, probe, first_due_ns, timeout_ns, stable_s, p99_max_ms)
        loop.start(first_due_ns)
        if self._flusher is None:
            self._flush_later()
        return first_due_ns

    async def ask(self, kind: str, spec: dict[str, Any], *, timeout_ms: float = 1000.0) -> Code:
        """What one attempt of a probe says now, beside all that run."""
        problems = _problems("ask", 1000, timeout_ms, 1, None)
        probe = registry.build(kind, spec, self._allowed)
        if problems:
            raise SpecError(*problems)
        await probe.open()
        try:
            return await probe.attempt(timeout_ms / 1e3)
        finally:
            await probe.close()

    async def stop(self, run_id: str, name: str | None = None) -> dict[str, int]:
        """Stops one probe, or all of the run; attempts of each, once the last batch is with the sink."""
        if name is not None:
            self._running(run_id, name)
        keys = [key for key in self._probes if key[0] == run_id and name in (None, key[1])]
        stopped = [(key, running) for key in keys if (running := self._probes[key]) is not None]
        for key in keys:
            if self._probes[key] is None:  # being opened: its start sees that nobody wants it any more
                del self._probes[key]
        for _, running in stopped:
            running.stopped = True
        await asyncio.gather(*(running.loop.stop() for _, running in stopped))
        for key, running in stopped:
            self._flush(key, running)
            self._probes.pop(key, None)
        return {key[1]: len(running.record) for key, running in stopped}

    def figures(self, run_id: str) -> list[Figure]:
        """What the run's probes have added up so far, each under its probe's name."""
        found = []
        for (run, name), running in self._probes.items():
            if run == run_id and running is not None and (told := getattr(running.probe, "figures", None)):
                found += [replace(figure, name=f"{name}: {figure.name}") for figure in told(running.record)]
        return found

    def observe(self, run_id: str, name: str, measure: str, window_s: float) -> dict[str, Any]:
        """One of MEASURES over the attempts that ended in the last *window_s*: `{value, samples}`.

        Attempts without data do not count. Latencies are those of failures too, and count from the due time.

        Raises:
            SpecError: no such measure, or a window that is not above 0.
            ProbeError: no such probe, or nothing ended in the window.
        """
        problems = [] if measure in MEASURES else [Problem("measure", f"unknown {measure!r}", f"known: {MEASURES}")]
        if not window_s > 0:
            problems.append(Problem("window_s", f"{window_s} is not above 0"))
        if problems:
            raise SpecError(*problems)
        running, now_ns = self._running(run_id, name), self._clock_ns()
        from_ns = now_ns - round(window_s * SECOND_NS)
        codes, latencies_ns = running.record.ended(from_ns - 2 * running.timeout_ns, from_ns)
        if not codes:
            raise ProbeError(f"probe {name}: no attempt gave a result in the last {window_s:g} s")
        span_s = (now_ns - max(from_ns, running.started_ns)) / SECOND_NS
        return {"value": measured(measure, codes, sorted(latencies_ns), span_s), "samples": len(codes)}

    async def recovery(
        self, run_id: str, name: str, *,
        injected_lo_ns: int, injected_hi_ns: int, reverted_ns: int | None = None, wait_s: float = 120.0,
    ) -> dict[str, Any]:  # fmt: skip
        """RECOVERY of docs/architecture.md, as soon as the probe is stable, or what is known after *wait_s*.

        Raises:
            ProbeError: no such probe, no attempt yet, or the attempts around the injection are no longer kept.
        """
        running = self._running(run_id, name)
        question = Question(injected_lo_ns, injected_hi_ns, running.stable_s, running.p99_max_ms, reverted_ns)
        record, deadline_ns = running.record, self._clock_ns() + round(wait_s * SECOND_NS)
        while True:
            left_ns = 0 if running.stopped else deadline_ns - self._clock_ns()
            stable_ns = max(record.last_bad_due_ns, injected_hi_ns) + question.stable_ns
            if left_ns <= 0 or record.seen_until_ns >= stable_ns:
                result = await self._recovery(name, record, question)
                if result.recovered or left_ns <= 0:
                    return result.document()
            needed_s = max((stable_ns - record.seen_until_ns) / SECOND_NS, POLL_S)
            await asyncio.sleep(min(needed_s, max(left_ns, 0) / SECOND_NS))

    async def ledger(self, run_id: str, name: str, *, wait_s: float = 60.0) -> dict[str, Any]:
        """What became of the records of a ledger probe, read back now: `protos.ledger.Balance`, and each member's.

        Raises:
            ProbeError: no such probe, or it keeps no ledger.
        """
        return await ledgers.balance(name, self._running(run_id, name).probe, wait_s)

    def marks(self, run_id: str, name: str) -> dict[str, Any]:
        """What a probe of logs or of Kubernetes has seen so far: `{marks, overflow}`. ProbeError: no such probe."""
        probe = self._running(run_id, name).probe
        if not isinstance(probe, LogProbe | KubeProbe):
            raise ProbeError(f"probe {name} keeps no marks: start it with kind log or kube")
        return {"marks": list(probe.marks), "overflow": probe.overflow}

    def count(self, run_id: str, name: str, from_ns: int, to_ns: int) -> dict[str, Any]:
        """`tally` of the attempts due between two instants. ProbeError: no such probe, or they are no longer kept."""
        record = self._running(run_id, name).record
        if record.dropped and record.oldest_due_ns > from_ns:
            raise ProbeError(f"probe {name}: the first attempts of that span are no longer kept")
        return tally(record.attempts(from_ns), from_ns, to_ns)

    def _place(self, probe: Probe) -> None:
        """Tells it where on this node it finds, or keeps, what it needs."""
        if isinstance(probe, EncodeProbe):
            probe.folder = self._encodes
        if not ledgers.wanted(probe):
            return
        if self._ledgers is None:
            raise RefusedError("this agent has no place for a ledger")
        probe.ledger = Ledger(self._ledgers / f"ledger_{secrets.token_hex(6)}")

    def runs(self) -> set[str]:
        """Runs that have a probe here."""
        return {run_id for run_id, _ in self._probes}

    async def close(self) -> None:
        """Stops every probe of every run."""
        for run_id in self.runs():
            await self.stop(run_id)
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None

    async def _recovery(self, name: str, record: Record, question: Question) -> Recovery:
        if record.dropped and record.oldest_due_ns > question.injected_lo_ns:
            raise ProbeError(f"probe {name}: attempts of the injection are no longer kept: ask sooner, or probe slower")
        attempts: Attempts = record.attempts(question.injected_lo_ns - BASELINE_NS)
        if len(attempts.code) <= INLINE_MAX:
            return recovery(attempts, question)
        return await asyncio.to_thread(recovery, attempts, question)

    def _running(self, run_id: str, name: str) -> Running:
        running = self._probes.get((run_id, name))
        if running is None:
            known = ", ".join(sorted(probe for run, probe in self._probes if run == run_id)) or "none"
            raise ProbeError(f"run {run_id} has no probe {name!r} on this node; it has: {known}")
        return running

    def _first_due_ns(self, interval_ns: int) -> int:
        """The next instant of the node's grid for this interval.

        The grid's phase is random, so that probes do not lock step with timers of the system under test; all probes of
        the node share it, since an attempt that finds the processor warm costs a third of one that does not.
        """
        if all(running is None for running in self._probes.values()):
            self._phase = self._rng.random()
        now_ns = self._clock_ns()
        return now_ns + (round(self._phase * interval_ns) - now_ns) % interval_ns

    def _flush_later(self) -> None:
        self._flusher = asyncio.get_running_loop().call_later(self._batch_s, self._flush_all)

    def _flush_all(self) -> None:
        self._flush_later()
        for key, running in list(self._probes.items()):
            if running is not None:
                self._flush(key, running)

    def _flush(self, key: tuple[str, str], running: Running) -> None:
        batch = running.record.batch()
        if batch is not None:
            self._sink(*key, batch.first_index, batch.due_ns, batch.start_ns, batch.done_ns, batch.code)
            running.record.sent(batch)


def _problems(
    name: str, interval_ms: float, timeout_ms: float, stable_s: float, p99_max_ms: float | None
) -> list[Problem]:
    problems = [] if isinstance(name, str) and name else [Problem("name", "is empty")]
    given = {"interval_ms": interval_ms, "timeout_ms": timeout_ms, "stable_s": stable_s}
    for argument, value in given.items():
        least, most = LIMITS[argument]
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            problems.append(Problem(argument, f"{value!r} is not a number in {least}..{most}"))
    if p99_max_ms is not None and not (isinstance(p99_max_ms, int | float) and p99_max_ms > 0):
        problems.append(Problem("p99_max_ms", f"{p99_max_ms!r} is not a number above 0"))
    return problems
