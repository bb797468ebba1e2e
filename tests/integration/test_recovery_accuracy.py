"""Recovery as measured, beside what an independent observer stamped: 100 seeded outages at 100 Hz.

A trial in which this machine kept the probe from its schedule is void and made again: Blackstart itself says which,
by bounds that are wider than the schedule alone makes them, or by attempts that could not start when they were due.
The bounds must hold in every trial, void or not.
"""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.probes.engine import ProbeEngine

SEED = 20_261_123
TRIALS = 100
SERVICES = 6
INTERVAL_MS = 10
pytestmark = pytest.mark.alone
TIMEOUT_MS = 200  # below the freezes, above what a busy machine makes a healthy answer wait
SLACK_MS = {"kill": INTERVAL_MS, "freeze": 2 * INTERVAL_MS}  # width past the schedule's own, from which a trial is void
VOID_MAX = 120
SERVER = Path(__file__).with_name("observed_server.py")


@dataclass(frozen=True)
class Trial:
    """What was measured beside the truth, seconds; the truth as the interval in which the observer was interrupted."""

    mode: str
    truth_lo_s: float
    truth_hi_s: float
    value_s: float
    lo_s: float
    hi_s: float
    note: str

    @property
    def error_ms(self) -> float:
        return max(self.truth_lo_s - self.value_s, self.value_s - self.truth_hi_s, 0.0) * 1e3

    @property
    def void(self) -> bool:
        """Whether the probe was kept from its schedule: attempts without data, or bounds past interval and timeout."""
        schedule_ms = INTERVAL_MS + (TIMEOUT_MS if self.mode == "freeze" else 0)
        return bool(self.note) or (self.hi_s - self.lo_s) * 1e3 > schedule_ms + SLACK_MS[self.mode]

    @property
    def held(self) -> bool:
        return self.lo_s <= self.truth_hi_s and self.truth_lo_s <= self.hi_s


class Observed:
    """The server process, and who waits for the stamps of which port."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.waiting: dict[int, asyncio.Future[list[int]]] = {}

    async def outage(self, port: int, mode: str, duration_ms: float) -> list[int]:
        assert self.process.stdin is not None
        self.waiting[port] = asyncio.get_running_loop().create_future()
        self.process.stdin.write(f"{port} {mode} {duration_ms}\n".encode())
        async with asyncio.timeout(10):
            return await self.waiting[port]

    async def listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            port, *stamps = map(int, line.split())
            self.waiting.pop(port).set_result(stamps)


async def trials(engine: ProbeEngine, observed: Observed, port: int, seed: int, count: int) -> list[Trial]:
    rng, name = random.Random(seed), f"port {port}"
    spec = {"url": f"http://127.0.0.1:{port}/"}
    await engine.start("run", name, "http", spec, interval_ms=INTERVAL_MS, timeout_ms=TIMEOUT_MS, stable_s=0.3)
    done: list[Trial] = []
    while sum(not trial.void for trial in done) < count and len(done) < count + VOID_MAX // SERVICES:
        await asyncio.sleep(0.3 + rng.random() * 0.1)
        mode, duration_ms = rng.choice([("kill", rng.uniform(150, 600)), ("freeze", rng.uniform(300, 600))])
        down_lo, down_hi, up_lo, up_hi = await observed.outage(port, mode, duration_ms)
        answer = await engine.recovery("run", name, injected_lo_ns=down_lo, injected_hi_ns=down_hi, wait_s=10)
        assert answer["recovered"], answer
        truth_s = (up_lo - down_hi) / 1e9, (up_hi - down_lo) / 1e9
        done.append(Trial(mode, *truth_s, answer["value_s"], answer["lo_s"], answer["hi_s"], answer["note"]))
    return done


async def measured() -> list[Trial]:
    """All trials, several services at a time."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SERVER), str(SERVICES), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    observed = Observed(process)
    ports = [int(port) for port in (await process.stdout.readline()).split()]
    listening = asyncio.create_task(observed.listen())
    engine = ProbeEngine(sink=lambda *_: None)
    counts = [TRIALS // SERVICES + (k < TRIALS % SERVICES) for k in range(SERVICES)]
    try:
        each = await asyncio.gather(
            *(trials(engine, observed, port, SEED + k, counts[k]) for k, port in enumerate(ports))
        )
    finally:
        await engine.close()
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await listening
    return [trial for some in each for trial in some]


@pytest.mark.timeout(110)
async def test_measured_recovery_is_within_an_interval_of_the_truth_and_bounds_hold(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = await measured()
    valid = [trial for trial in done if not trial.void]
    with capsys.disabled():
        print(f"\n{len(done) - len(valid)} trials void: the probe was not let run")
        for mode in ("kill", "freeze"):
            some = sorted(trial.error_ms for trial in valid if trial.mode == mode)
            widths = sorted((trial.hi_s - trial.lo_s) * 1e3 for trial in valid if trial.mode == mode)
            held = sum(trial.held for trial in valid if trial.mode == mode)
            print(
                f"{mode}: {len(some)} outages; |value - truth| median {some[len(some) // 2]:.2f} ms, "
                f"max {some[-1]:.2f} ms; bounds held the truth in {held}, width {widths[len(widths) // 2]:.0f} ms"
            )
    assert len(valid) == TRIALS
    assert [trial for trial in done if not trial.held] == []
    assert [trial for trial in valid if trial.error_ms > INTERVAL_MS] == []
