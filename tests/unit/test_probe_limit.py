"""The limit on a virtual clock: exact while the agent is awake, longer by what it slept through."""

from __future__ import annotations

import asyncio

import pytest

from agent.probes.limit import STALLS, Limit, StallMeter
from tests.unit import virtual_time
from tests.unit.virtual_time import VirtualLoop


def loop() -> VirtualLoop:
    running = asyncio.get_running_loop()
    assert isinstance(running, VirtualLoop)
    return running


def test_it_expires_on_time() -> None:
    async def scenario() -> None:
        began_s = loop().time()
        with pytest.raises(TimeoutError):
            async with Limit(0.2):
                await asyncio.sleep(9)
        assert loop().time() - began_s == pytest.approx(0.2, abs=0.002)

    virtual_time.run(scenario())


def test_an_answer_that_came_while_the_agent_slept_counts() -> None:
    async def scenario() -> None:
        answer = loop().create_future()
        loop().call_later(0.05, loop().freeze, 0.5)
        loop().call_later(0.1, lambda: loop().call_soon(answer.set_result, "here"))
        async with Limit(0.2):
            assert await answer == "here"

    virtual_time.run(scenario())


def test_a_service_that_hangs_gets_what_the_agent_slept_through_and_no_more() -> None:
    async def scenario() -> None:
        began_s = loop().time()
        loop().call_later(0.1, loop().freeze, 0.3)
        for tick in range(40):  # as the schedule of a probe does
            due_s = began_s + tick / 100
            loop().call_at(due_s, lambda due_s=due_s: STALLS.note(due_s, loop().time()))
        with pytest.raises(TimeoutError):
            async with Limit(0.2):
                await asyncio.sleep(9)
        assert loop().time() - began_s == pytest.approx(0.5, abs=0.02)

    virtual_time.run(scenario())


def test_a_cancellation_from_outside_stays_one() -> None:
    async def scenario() -> None:
        async def waiting() -> None:
            async with Limit(5):
                await asyncio.sleep(9)

        task = asyncio.create_task(waiting())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    virtual_time.run(scenario())


def test_one_stall_seen_by_many_timers_counts_once() -> None:
    meter = StallMeter()
    for due_s in (1.0, 1.1, 1.2, 1.5):
        meter.note(due_s, 1.5)
    meter.note(2.0, 2.001)
    assert meter.total_s == pytest.approx(0.5)
