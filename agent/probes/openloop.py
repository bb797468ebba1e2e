"""Runs one probe in open loop: attempt k is due at t0 + k * interval, whether or not earlier ones have come back.

Invariant: every due time has exactly one entry in the record. What is not started, because too many are in flight or
because the agent itself slept through the due time, is an overrun: no data, never a silent gap.
Source: docs/measuring-recovery.md, section 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from agent.probes.base import Probe
from agent.probes.limit import STALLS
from agent.probes.record import Record
from protos.recovery import Code

EARLY_NS: Final = 20_000  # timers may fire this much early: cheaper than to sleep again


class OpenLoop:
    """One probe on its schedule. Not started again once stopped."""

    def __init__(
        self, probe: Probe, record: Record, *, timeout_s: float, in_flight_max: int, clock_ns: Callable[[], int]
    ) -> None:
        self._probe, self._record = probe, record
        self._timeout_s, self._in_flight_max, self._clock_ns = timeout_s, in_flight_max, clock_ns
        self._loop = asyncio.get_running_loop()
        self._flying: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due_ns = 0
        self._reported = ""
        self._log = structlog.get_logger("agent.probes")

    def start(self, first_due_ns: int) -> None:
        """The first attempt is due at *first_due_ns*."""
        self._due_ns = first_due_ns
        self._sleep(self._clock_ns())

    async def stop(self) -> None:
        """Starts no more, and waits for what is in flight: at most the timeout."""
        if self._timer is not None:
            self._timer.cancel()
        if self._flying:
            await asyncio.wait(self._flying)
        await self._probe.close()

    def _sleep(self, now_ns: int) -> None:
        self._timer = self._loop.call_at(self._loop.time() + (self._due_ns - now_ns) / 1e9, self._wake)

    def _wake(self) -> None:
        now_ns = self._clock_ns()
        now_s = self._loop.time()
        STALLS.note(now_s - (now_ns - self._due_ns) / 1e9, now_s)
        while self._due_ns <= now_ns + EARLY_NS:
            self._begin(self._due_ns, now_ns)
            self._due_ns += self._record.interval_ns
        self._sleep(now_ns)

    def _begin(self, due_ns: int, now_ns: int) -> None:
        index = self._record.begin(due_ns)
        if len(self._flying) >= self._in_flight_max or now_ns - due_ns > self._timeout_s * 1e9:
            self._record.end(index, max(now_ns, due_ns), max(now_ns, due_ns), Code.OVERRUN)
            return
        task = self._loop.create_task(self._attempt(index, due_ns))
        self._flying.add(task)
        task.add_done_callback(self._landed)

    async def _attempt(self, index: int, due_ns: int) -> None:
        start_ns, code = max(self._clock_ns(), due_ns), Code.ERROR
        try:
            code = await self._probe.attempt(self._timeout_s)
        finally:
            self._record.end(index, start_ns, max(self._clock_ns(), start_ns), code)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        if not task.cancelled() and (error := task.exception()) and repr(error) != self._reported:
            self._reported = repr(error)  # once, not a hundred times a second
            self._log.error("a probe could not measure", kind=self._probe.kind, error=repr(error))
