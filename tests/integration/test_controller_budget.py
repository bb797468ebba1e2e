"""The budget at the real controller: over several runs, by failure domain, beyond the end of runs and controllers."""

from __future__ import annotations

import asyncio
import json
import signal

import grpc
import pytest

from protos import blackstart_operator_pb2 as op
from protos.error import RefusedError, from_rpc
from tests.integration.controller_rig import ControllerProcess, ScriptedAgent, ended, experiment, submission, until
from tests.integration.test_controller_run import invoke

BUDGET = {
    "BLACKSTART_CONTROLLER_BUDGET__DOMAINS": json.dumps({"zone": {"targets_max": 1}}),
    "BLACKSTART_CONTROLLER_BUDGET__TARGETS_FRACTION": "1",
}


@pytest.fixture
def rig(tmp_path):
    with ControllerProcess(tmp_path / "state", **BUDGET) as process:
        yield process


def agent(rig, name, zone):
    return ScriptedAgent(rig, name=name, labels={"node": name, "zone": zone})


async def opened(operator):
    return (await operator.OpenRun(submission(experiment(method=[])))).id


async def hit(operator, run_id, node, **more):
    targets = {"labels": {"node": node}, "pick": "one"}
    arguments = {"fault": "test.fault", "targets": targets, "duration_s": 60, "name": node} | more
    return await invoke(operator, run_id, "inject", **arguments)


async def refused(awaited):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaited
    error = from_rpc(caught.value)
    assert isinstance(error, RefusedError), error
    return str(error)


async def succeeds(make):
    try:
        await make()
    except grpc.aio.AioRpcError:
        return False
    return True


async def close(operator, run_id):
    journal = {"status": "completed", "deviated": False, "experiment": {}, "run": [], "rollbacks": []}
    request = op.CloseRunRequest(run_id=run_id, journal_json=json.dumps(journal).encode())
    return await operator.CloseRun(request, timeout=20)


async def test_two_runs_at_once_share_the_budget_of_a_zone(rig):
    agents = [agent(rig, name, zone) for name, zone in (("a1", "z1"), ("a2", "z1"), ("a3", "z2"))]
    async with rig.operator() as operator, agents[0].connected(), agents[1].connected(), agents[2].connected():
        first, second = await opened(operator), await opened(operator)
        both = await asyncio.gather(
            *(hit(operator, run, node) for run, node in ((first, "a1"), (second, "a2"))), return_exceptions=True
        )
        failed = [answer for answer in both if isinstance(answer, grpc.aio.AioRpcError)]
        assert len(failed) == 1
        assert "2 agents of zone=z1 would be under fault (1 are, over all runs)" in str(from_rpc(failed[0]))
        await hit(operator, second, "a3")
        await close(operator, first)
        await close(operator, second)
        third = await opened(operator)
        await hit(operator, third, "a1")


async def test_a_silent_agent_stays_reserved_after_the_run_until_it_is_back(rig):
    first, second, third = agent(rig, "a1", "z1"), agent(rig, "a2", "z1"), agent(rig, "a3", "z2")
    async with rig.operator() as operator, second.connected(), third.connected():
        run = await opened(operator)
        async with first.connected():
            await hit(operator, run, "a1")
        await close(operator, run)  # a1 is away and was not told
        run = await opened(operator)
        assert "budget is 1 of 1 connected there" in await refused(hit(operator, run, "a2"))
        await hit(operator, run, "a3")
        async with first.connected():  # it is told to end, and answers
            await until(lambda: "run.end" in first.kinds())
            await until(lambda: succeeds(lambda: hit(operator, run, "a2")))


async def test_a_controller_that_comes_back_counts_what_may_still_be_in_force(rig):
    first, second = agent(rig, "a1", "z1"), agent(rig, "a2", "z1")
    async with rig.operator() as operator:
        async with first.connected():
            run = await opened(operator)
            await hit(operator, run, "a1")
        rig.end(signal.SIGKILL)
    with ControllerProcess(rig.state, **BUDGET) as again:
        second.rig = again
        async with again.operator() as operator, second.connected():
            closed, _ = await ended(operator, run)
            assert "not answered by a1" in closed.reason
            assert "2 agents would be under fault (1 are" in await refused(hit(operator, await opened(operator), "a2"))


async def test_what_an_agent_says_is_in_force_counts_though_nobody_here_asked_for_it(rig):
    first, second = agent(rig, "a1", "z1"), agent(rig, "a2", "z1")
    first.override["run.end"] = lambda order, arguments: hold()
    row = {
        "id": "e9",
        "run_id": "elsewhere",
        "injection": "x",
        "fault": "test.fault",
        "resource": "r",
        "undo": "kernel",
    }
    usual = first.hello
    first.hello = lambda: held_hello(usual(), [row | {"state": "injected"}])
    async with rig.operator() as operator, first.connected(), second.connected():
        run = await opened(operator)
        await until(lambda: "run.end" in first.kinds())
        assert "2 agents of zone=z1" in await refused(hit(operator, run, "a2"))


def held_hello(message, effects):
    message.hello.effects_json = json.dumps(effects).encode()
    return message


async def hold():
    await asyncio.sleep(60)
