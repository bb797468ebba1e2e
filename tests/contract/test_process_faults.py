"""What is particular to `process.*`, beside the contract that all faults keep."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest

from agent.faults import registry
from agent.faults.base import Effect
from agent.system import proc
from protos.error import FaultError
from tests.chaos import case as cases


def planned(made: cases.Case) -> tuple[Any, Effect]:
    faults = registry.all_faults()
    (effect,) = registry.plan(faults, made.kind, made.spec)
    effect.boot_id, effect.deadline_ns = proc.boot_id(), time.monotonic_ns() + 20_000_000_000
    return faults[made.kind], effect


async def put_in_force(fault: Any, effect: Effect) -> Any:
    fault.prepare(effect)
    return await fault.observe(effect, await fault.inject(effect))


async def test_a_recycled_pid_is_not_the_target() -> None:
    with cases.case("process.kill") as made:
        fault, effect = planned(made)
        for row in effect.facts["targets"]:
            row["start"] -= 1  # as if the pid had belonged to an earlier process
        with pytest.raises(FaultError, match="gone before the signal"):
            await fault.inject(effect)
        assert made.fingerprint()["alive"] == 2


async def test_a_pause_that_was_lifted_by_somebody_else_is_not_confirmed() -> None:
    with cases.case("process.pause") as made:
        made.spec["mechanism"] = "sigstop"
        fault, effect = planned(made)
        fault.prepare(effect)
        injected = await fault.inject(effect)
        for one in effect.facts["targets"]:
            os.kill(one["pid"], 18)
        receipt = await fault.observe(effect, injected)
        await fault.revert(effect)
        assert not receipt.confirmed
        assert "not standing still" in receipt.text


async def test_a_process_killed_while_paused_is_seen_dead_by_its_parent() -> None:
    with cases.case("process.pause") as made:
        fault, effect = planned(made)
        await put_in_force(fault, effect)
        os.kill(made.spec["pid"], 9)
        await asyncio.to_thread(cases.wait_until, lambda: proc.identify(made.spec["pid"]) is None, 2)
        await fault.revert(effect)
