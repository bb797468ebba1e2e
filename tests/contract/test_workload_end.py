"""Workloads under the emergency stop and the end of their run: programs that really run, and the executor."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent.effect import Effects
from agent.executor import Executor
from agent.guardian import Guardian
from agent.journal import Journal
from agent.policy import Policy
from agent.probes.engine import ProbeEngine
from agent.workloads.command import CommandWorkload
from protos import blackstart_agent_pb2 as pb

LONG = ["sleep", "54.321"]


@pytest.fixture
async def executor(tmp_path: Path) -> AsyncIterator[Executor]:
    guardian, journal = Guardian(tmp_path), Journal(tmp_path)
    effects = Effects(
        journal=journal, guardian=guardian, policy=Policy, controller=list, notify=lambda *_: None
    )  # fmt: skip
    probes = ProbeEngine(sink=lambda *_: None)
    yield Executor(effects, probes, [CommandWorkload(lambda _: True)])
    await effects.close()
    await probes.close()
    guardian.stop()
    journal.close()


def order(executor: Executor, order_kind: str, run_id: str = "", **arguments: Any) -> Any:
    body = json.dumps(arguments).encode()
    asked = pb.Order(id=f"{order_kind}-{time.monotonic_ns()}", kind=order_kind, run_id=run_id, arguments_json=body)
    return asyncio.ensure_future(executor.execute(asked, time.monotonic_ns()))


def sleepers() -> list[int]:
    return [child.pid for child in psutil.Process().children() if child.cmdline() == LONG]


async def begun(executor: Executor, run_id: str) -> Any:
    task = order(executor, "workload.run", run_id, kind="command", spec={"argv": LONG, "repeat": 3})
    count = len(sleepers())
    while len(sleepers()) == count:
        await asyncio.sleep(0.01)
    return task


async def test_the_emergency_stop_ends_workloads_and_none_begins_until_it_is_lifted(executor: Executor) -> None:
    task = await begun(executor, "r1")
    assert (await order(executor, "node.stop")).status == pb.STATUS_DONE
    assert not sleepers(), "once the stop is answered"
    ended = await task
    assert (ended.status, "ended before it was through" in ended.message) == (pb.STATUS_FAILED, True), ended.message
    again = await order(executor, "workload.run", "r2", kind="command", spec={"argv": ["true"]})
    assert (again.status, "emergency stop" in again.message) == (pb.STATUS_REFUSED, True), again.message
    await order(executor, "node.lift")
    done = await order(executor, "workload.run", "r2", kind="command", spec={"argv": ["true"]})
    assert done.status == pb.STATUS_DONE, done.message


async def test_the_end_of_a_run_ends_its_workload_and_no_other(executor: Executor) -> None:
    first, second = await begun(executor, "r1"), await begun(executor, "r2")
    assert (await order(executor, "run.end", "r1")).status == pb.STATUS_DONE
    assert (await first).status == pb.STATUS_FAILED
    assert len(sleepers()) == 1
    assert not second.done()
    await executor.end_workloads()
    assert (await second).status == pb.STATUS_FAILED


async def test_a_command_that_is_cancelled_is_not_begun_again(executor: Executor) -> None:
    task = await begun(executor, "r1")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not sleepers()
