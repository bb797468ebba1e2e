"""Effects under way: what happens when a stop, a revert or another order comes in between."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.effect import Effects
from agent.guardian import Guardian
from agent.journal import Journal
from agent.policy import Policy
from protos.error import BlackstartError, RefusedError
from tests.chaos import case as cases


@pytest.fixture
def effects(tmp_path: Path) -> Iterator[Effects]:
    guardian, journal = Guardian(tmp_path), Journal(tmp_path)
    policy = Policy(faults=["*"], effects_max=1, protected_processes=[])
    yield Effects(
        journal=journal, guardian=guardian, policy=lambda: policy, controller=list, notify=lambda *_: None
    )  # fmt: skip
    child = guardian._child
    guardian.stop()
    if child is not None:
        child.wait(5)
    journal.close()


def pausing(effects: Effects, made: cases.Case, name: str = "first") -> Any:
    return effects.inject(
        run_id="run", injection=name, kind="process.pause", spec=made.spec, duration_s=20.0, on_lost="revert"
    )


@pytest.mark.parametrize("interruption", ["stop", "revert"])
async def test_what_is_ended_while_it_is_being_injected_does_not_take_hold(effects: Effects, interruption: str) -> None:
    fault = effects.faults["process.pause"]
    inject, started, go = fault.inject, asyncio.Event(), asyncio.Event()

    async def slow(effect: Any) -> Any:
        started.set()
        await go.wait()
        return await inject(effect)

    fault.inject = slow  # type: ignore[method-assign]
    with cases.case("process.pause") as made:
        injecting = asyncio.ensure_future(pausing(effects, made))
        await started.wait()
        await (effects.stop() if interruption == "stop" else effects.revert(effects.of(run_id="run")))
        go.set()
        with pytest.raises(BlackstartError, match=r"before it took hold|in between"):
            await injecting
        assert not made.in_force()
        assert not effects.in_force()


async def test_two_orders_at_once_do_not_get_past_the_conflict_or_the_limit(effects: Effects) -> None:
    with cases.case("process.pause") as made:
        both = await asyncio.gather(pausing(effects, made), pausing(effects, made, "second"), return_exceptions=True)
        refusals = [one for one in both if isinstance(one, RefusedError)]
        assert len(refusals) == 1
        assert "first" in str(refusals[0])
        await effects.close()
        assert not made.in_force()


async def test_a_fault_whose_holder_was_killed_is_not_confirmed(effects: Effects) -> None:
    with cases.case("process.pause") as made:
        (row,) = await pausing(effects, made)
        assert row["confirmed"]
        (active,) = effects.of(run_id="run")
        os.kill(active.effect.facts["holder"]["pid"], signal.SIGKILL)
        await asyncio.to_thread(cases.wait_until, lambda: not made.in_force(), 2.0)
        (row,) = await effects.revert([active])
        assert not row["confirmed"]
        assert "ended by itself" in row["receipt"]
