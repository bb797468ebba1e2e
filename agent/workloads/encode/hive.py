"""The workers: started, given orders, watched, replaced when they die or stand still, and gone at the end.

Invariant: an order ends in an answer or in `LostError`, whatever becomes of its worker; and no worker outlives `close`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from agent.system import board, cgroup
from agent.workloads.encode.spec import EncodeSpec
from agent.workloads.encode.worker import Answer, Order
from protos.error import ProbeError

_START_S: Final = 30.0  # of a worker, with its library and encoders, on a busy node
_LOOK_S: Final = 0.5
_LINE_MAX: Final = 4_000_000
_PERIOD_US: Final = 100_000


class LostError(ProbeError):
    """The worker did not live to answer; the order may be given again."""


class Worker:
    """One process, and the next one when it has died. *folder* gets `worker-N.pid`, for whoever wants to disturb it."""

    def __init__(self, number: int, folder: Path, spec: EncodeSpec, slots: board.Board, group: Path | None) -> None:
        self.number, self._folder, self._spec, self._board, self._group = number, folder, spec, slots, group
        self._process: asyncio.subprocess.Process | None = None
        self._drain: asyncio.Task[None] | None = None
        self.deaths = 0

    @property
    def pid(self) -> int:
        """0 before the first start."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """ProbeError with its last words where it does not come up."""
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent.workloads.encode.worker", str(self.number), str(self._board.path),
            str(os.getpid()), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, limit=_LINE_MAX,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        if self._group is not None:
            cgroup.join(str(self._group / "cgroup.procs"), process.pid)
        (self._folder / f"worker-{self.number}.pid").write_text(f"{process.pid}\n", encoding="ascii")
        try:
            process.stdin.write(msgspec.json.encode(self._spec) + b"\n")
            async with asyncio.timeout(_START_S):
                ready = await process.stdout.readline()
        except (TimeoutError, OSError):
            ready = b""
        if not ready:
            self.kill()
            raise ProbeError(f"an encode worker did not start: {await self._last_words() or 'no word from it'}")
        self._drain = asyncio.create_task(self._swallow())

    async def _swallow(self) -> None:
        """What libraries print is read, so that no worker waits for a reader."""
        assert self._process is not None
        assert self._process.stderr is not None
        while await self._process.stderr.read(65_536):
            pass

    async def _last_words(self) -> str:
        assert self._process is not None
        assert self._process.stderr is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                return (await self._process.stderr.read(4096)).decode(errors="replace").strip()[-400:]
        return ""

    async def do(self, order: Order, timeout_s: float) -> Answer:
        """The answer; LostError if the worker died, stood still or took too long: the next order gets a new one."""
        if self._process is None or self._process.returncode is not None:
            await self.start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        until = time.monotonic() + timeout_s
        try:
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            reading = asyncio.ensure_future(process.stdout.readline())
            try:
                told = await self._watch(reading, until, ticks=order.do == "job")
            finally:
                reading.cancel()
            line = b"" if told else reading.result()
        except (BrokenPipeError, ConnectionResetError):
            line, told = b"", ""
        if line:
            return msgspec.json.decode(line, type=Answer)
        why = told or f"its worker was ended ({await self._status()})"
        self.kill()
        await process.wait()
        self.deaths += 1
        raise LostError(f"{order.path}: {why}")

    async def _watch(self, reading: asyncio.Future[bytes], until: float, *, ticks: bool) -> str:
        """Empty once something was read; else why no longer waited for. *ticks*: it tells of every picture."""
        begun_ns = time.monotonic_ns()
        while not reading.done():
            await asyncio.wait([reading], timeout=_LOOK_S)
            if reading.done():
                break
            if time.monotonic() > until:
                return "took longer than it may"
            still_s = (time.monotonic_ns() - max(begun_ns, self._board.last_ns(self.number))) / 1e9
            if ticks and still_s > self._spec.stall_s:
                return f"stood still for {still_s:.1f} s"
        return ""

    async def _status(self) -> str:
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                code = await self._process.wait()
                return signal.Signals(-code).name if code < 0 else f"status {code}"
        return "it closed its output"

    def kill(self) -> None:
        """With SIGKILL, which a frozen one does not refuse; nothing where it has ended."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def close(self) -> None:
        self.kill()
        if self._process is not None:
            await self._process.wait()
        if self._drain is not None:
            self._drain.cancel()


class Hive:
    """*count* workers, or more later (`grow`)."""

    def __init__(self, folder: Path, spec: EncodeSpec, count: int) -> None:
        board.make(folder / "board", count)
        self.board = board.Board(folder / "board")
        self._group = _limited(spec.cpu_limit) if spec.cpu_limit else None
        self.workers = [Worker(number, folder, spec, self.board, self._group) for number in range(count)]

    async def grow(self, count: int) -> None:
        """Has the first *count* of them running."""
        for worker in self.workers[:count]:
            if not worker.pid:
                await worker.start()

    async def close(self) -> None:
        for worker in self.workers:
            await worker.close()
        if self._group is not None:
            cgroup.remove(self._group)
        self.board.close()


def _limited(processors: float) -> Path:
    """A control group that gives its processes so many processors; ProbeError where none can be made."""
    found = cgroup.find(os.getpid(), "cpu")
    if found is None:
        raise ProbeError("cpu_limit: no control group for processors on this node")
    try:
        group = cgroup.make(found.path, f"{cgroup.PREFIX}encode_{os.getpid()}")
        quota = int(processors * _PERIOD_US)
        if found.version == 2:
            (group / "cpu.max").write_text(f"{quota} {_PERIOD_US}", encoding="ascii")
        else:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US), encoding="ascii")
            (group / "cpu.cfs_quota_us").write_text(str(quota), encoding="ascii")
    except OSError as error:
        raise ProbeError(f"cpu_limit: {error}") from error
    return group
