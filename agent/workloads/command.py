"""`command`: a program that the node's policy allows, run to its end, with what it cost.

The processor time is the child's own, by wait4(2): nothing is sampled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec

from agent.system import libc
from agent.workloads.base import Done
from protos.error import ProbeError, Problem, RefusedError, SpecError
from protos.figure import Figure, Measured


class CommandSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    argv: list[str]
    timeout_s: float = 60.0
    repeat: int = 1


class _Going(NamedTuple):
    """One that runs now: *told* to end, and *ended*."""

    run_id: str
    told: asyncio.Event
    ended: asyncio.Event


class CommandWorkload:
    """Runs argv without a shell; each run's wall and processor seconds, and the number that failed."""

    kind: ClassVar[str] = "command"

    def __init__(self, allowed: Callable[[Sequence[str]], bool]) -> None:
        self._allowed = allowed
        self._going: list[_Going] = []

    async def run(self, run_id: str, document: dict[str, Any]) -> Done:
        """Figures over all repeats. SpecError, RefusedError by policy, ProbeError if it cannot be run."""
        try:
            spec = msgspec.convert(document, CommandSpec)
        except msgspec.ValidationError as error:
            raise SpecError(Problem("spec of workload command", str(error))) from error
        if not spec.argv or not 0 < spec.timeout_s <= 3600 or not 0 < spec.repeat <= 1000:
            raise SpecError(Problem("spec of workload command", "argv, timeout_s in (0, 3600] and repeat in 1..1000"))
        if not self._allowed(spec.argv):
            raise RefusedError(f"the node's policy does not allow the command {spec.argv[0]!r} with these arguments")
        wall_s, cpu_s, failures = [], [], 0
        going = _Going(run_id, asyncio.Event(), asyncio.Event())
        self._going.append(going)
        try:
            for _ in range(spec.repeat):
                wall, cpu, code = await _once(spec, going.told)
                if going.told.is_set():
                    raise ProbeError(f"the command {spec.argv[0]} was ended before it was through")
                wall_s.append(wall)
                cpu_s.append(cpu)
                failures += code != 0
        finally:
            self._going.remove(going)
            going.ended.set()
        figures = [
            _figure("wall_s", wall_s, "s", "monotonic clock around the process"),
            _figure("cpu_s", cpu_s, "s", "wait4 of the process"),
            Figure("failures", failures, "runs", Measured("exit codes", spec.repeat, failures, failures)),
        ]
        return Done(figures)

    async def end(self, run_id: str | None = None) -> None:
        """Kills those of that run, or all."""
        chosen = [going for going in self._going if run_id in (None, going.run_id)]
        for going in chosen:
            going.told.set()
        await asyncio.gather(*(going.ended.wait() for going in chosen))


async def _once(spec: CommandSpec, told: asyncio.Event) -> tuple[float, float, int]:
    """One run: wall and processor seconds, exit code; killed after its time, and once it is *told* to end."""
    agent_pid = os.getpid()
    started = time.monotonic()
    try:
        child = subprocess.Popen(  # noqa: ASYNC220 its start takes a few milliseconds
            spec.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=lambda: libc.die_with_parent(agent_pid), process_group=0,  # noqa: PLW1509 no threads fork here
        )  # fmt: skip
    except OSError as error:
        raise ProbeError(f"cannot run {spec.argv[0]}: {error.strerror}") from error
    waiting = asyncio.get_running_loop().run_in_executor(None, os.wait4, child.pid, 0)
    end = asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait((waiting, end), timeout=spec.timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        end.cancel()
        if not waiting.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        _, status, usage = await waiting
        child.returncode = os.waitstatus_to_exitcode(status)
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, child.returncode


def _figure(name: str, values: list[float], unit: str, method: str) -> Figure:
    mean = sum(values) / len(values)
    return Figure(name, mean, unit, Measured(method, len(values), min(values), max(values)))
