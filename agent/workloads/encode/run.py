"""An encode workload from its first file to its result; runs in a process of its own.

Invariant: whatever ends it, no worker outlives it; what it wrote is in one folder, which its owner removes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.workloads.encode import arrivals, codec, measure, source, vmaf
from agent.workloads.encode.hive import Hive, Worker
from agent.workloads.encode.level import Level, Runner
from agent.workloads.encode.shelf import Shelf
from agent.workloads.encode.source import Source
from agent.workloads.encode.spec import Closed, EncodeSpec
from agent.workloads.encode.timeline import Timeline
from agent.workloads.encode.worker import Order
from protos.error import ProbeError

Json = dict[str, Any]
_AFTER_S: Final = 600.0  # for one output's decoding or comparison
_SPARE_S: Final = 5.0  # beyond the time for all, to look at outputs when the levels took nearly all of it


async def run(spec: EncodeSpec, folder: Path, say: Callable[[str], None]) -> Json:
    """The result. SpecError for a codec that cannot be had, ProbeError where nothing could be encoded."""
    until = asyncio.get_running_loop().time() + spec.timeout_s
    async with asyncio.timeout_at(until):
        encoders = {f"{one.height}p": codec.choose(one) for one in spec.renditions}
        no_vmaf = await asyncio.to_thread(vmaf.missing) if spec.quality else ""
        say("preparing the inputs")
        sources = await _sources(spec, folder)
    most = max(spec.closed.jobs if spec.closed else [spec.open.workers if spec.open else 1])
    hive = Hive(folder, spec, most)
    try:
        runner = Runner(spec, hive, folder, sources, say)
        async with asyncio.timeout_at(until), Timeline(hive.board).running() as timeline:
            levels = await _levels(spec, runner)
        hive.board.leave()
        after = await _after(spec, hive, runner.shelf, say, until + _SPARE_S)
    finally:
        await hive.close()
    return {
        "spec": msgspec.to_builtins(spec), "sources": [one.provenance for one in sources],
        "encoders": {name: {"encoder": one.name, "refused": one.refused} for name, one in encoders.items()},
        "levels": (rows := [measure.of(level) | measure.meters(level, timeline) for level in levels]), **after,
        "timeline": timeline.document(), "no_vmaf": no_vmaf,
        "no_gpu": timeline.no_gpu, "no_meter": timeline.no_meter,
        "xids": timeline.xids,
        "knee": measure.knee(rows, spec.open.p95_max_s) if spec.open and spec.open.p95_max_s else None,
        "deaths": sum(worker.deaths for worker in hive.workers),
    }  # fmt: skip


async def _sources(spec: EncodeSpec, folder: Path) -> list[Source]:
    """In a thread, which ends with whoever waits for it."""
    ended = threading.Event()
    try:
        return await asyncio.to_thread(
            lambda: [one for asked in spec.inputs for one in source.resolve(asked, folder, ended.is_set)]
        )
    finally:
        ended.set()


async def _levels(spec: EncodeSpec, runner: Runner) -> list[Level]:
    if spec.warm_up:
        await runner.closed(1, spec.warm_up)
        runner.shelf.clear()
    if spec.open is not None:
        asked = spec.open
        found = [await runner.open(rate, come, asked.workers) for rate, come in arrivals.levels(asked)]
    else:
        closed = spec.closed or Closed()
        found = [await runner.closed(jobs, closed.count or 2 * jobs, closed.duration_s) for jobs in closed.jobs]
    if not runner.shelf.count:
        errors = [error for level in found for error in level.errors]
        raise ProbeError(f"no video was encoded: {errors[0] if errors else 'none came'}")
    return found


async def _after(spec: EncodeSpec, hive: Hive, shelf: Shelf, say: Callable[[str], None], until: float) -> Json:
    """What takes time and must not be in the figures: outputs decoded whole, and how much they lost.

    What is not through by then is told as not looked at: the levels were measured all the same.
    """
    chosen = shelf.sample()
    orders = [Order("decode", one.source.path, one.place, made=one.made) for one in chosen]
    if spec.quality:
        orders += [Order("quality", one.source.path, one.place, made=one.made) for one in shelf.firsts.values()]
    waiting, wrong, rows, failed = iter(orders), list[str](), list[Json](), list[str]()
    told = [0, time.monotonic()]

    async def busy(worker: Worker) -> None:
        for order in waiting:
            try:
                answer = await worker.do(order, _AFTER_S)
            except ProbeError as error:  # LostError, or a worker that does not start again
                failed.append(str(error))
                continue
            wrong.extend(answer.wrong)
            rows.extend({"input": order.path, **msgspec.to_builtins(one)} for one in answer.quality)
            if answer.error:
                failed.append(answer.error)
            told[0] += 1
            say(f"looking at the outputs: {told[0]} of {len(orders)}")

    running = [worker for worker in hive.workers if worker.pid][: max(1, (len(orders)))]
    try:
        async with asyncio.timeout_at(until), asyncio.TaskGroup() as group:
            for worker in running:
                group.create_task(busy(worker))
    except TimeoutError:
        failed.insert(0, f"{len(orders) - told[0]} of {len(orders)} looks were not through when timeout_s was over")
    provenance = {path: one.source.provenance for path, one in shelf.firsts.items()}
    return {
        "decoded": {"outputs": len(chosen), "of": shelf.count, "wrong": wrong[:20], "failed": failed[:20]},
        "quality": [row | {"input": provenance[row["input"]]} for row in rows],
    }
