"""Runs through the real controller, its real child process and a scripted agent: however they go, effects end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import grpc
import psutil
import pytest

from protos import blackstart_agent_pb2 as pb
from protos import blackstart_operator_pb2 as op
from protos.error import ProbeError, RefusedError, SpecError, from_rpc
from tests.integration.controller_rig import (
    INJECT,
    RECOVERY,
    TARGETS,
    ControllerProcess,
    ScriptedAgent,
    call,
    ended,
    experiment,
    submission,
    until,
)  # fmt: skip


@pytest.fixture
def rig(tmp_path):
    with ControllerProcess(tmp_path / "state", BLACKSTART_CONTROLLER_DRIVER_SILENCE_S="1.5") as process:
        yield process


async def test_an_experiment_from_submission_to_verdict(rig):
    async with rig.operator() as operator, ScriptedAgent(rig).connected() as agent:
        run = await operator.Submit(submission(experiment(INJECT, RECOVERY)))
        run, events = await ended(operator, run.id)
        assert (run.state, run.outcome, run.verdict) == ("ended", "completed", "held"), run.reason
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        assert agent.kinds()[-1] == "run.end"
        detail = await operator.ShowRun(op.ShowRunRequest(run_id=run.id))
        document = json.loads(detail.document_json)
        assert document["recoveries"][0]["result"] == "met"
        assert document["residue_checked"] is True
        report = await operator.Report(op.ReportRequest(run_ids=[run.id], format="junit"))
        assert b"<testsuite" in report.content
        assert not list((rig.state / "runs").iterdir())


def children(rig):
    return [c for c in psutil.Process(rig.process.pid).children() if "controller.run.child" in " ".join(c.cmdline())]


async def hanging(order, arguments):
    await asyncio.sleep(60)


async def injected(agent):
    await until(lambda: agent.effects)


async def test_a_runner_that_is_killed_is_noticed_and_its_effects_reverted(rig):
    agent = ScriptedAgent(rig, override={"probe.recovery": hanging})
    async with rig.operator() as operator, agent.connected():
        run = await operator.Submit(submission(experiment(INJECT, RECOVERY)))
        await until(lambda: "probe.recovery" in agent.kinds())
        os.kill(children(rig)[0].pid, signal.SIGKILL)
        run, _ = await ended(operator, run.id)
        assert (run.outcome, run.verdict) == ("lost", "inconclusive")
        assert "SIGKILL" in run.reason
        assert {row["state"] for row in agent.effects.values()} == {"reverted"}


async def test_abort_reverts_at_once(rig):
    agent = ScriptedAgent(rig, override={"probe.recovery": hanging})
    async with rig.operator() as operator, agent.connected():
        run = await operator.Submit(submission(experiment(INJECT, RECOVERY)))
        await until(lambda: "probe.recovery" in agent.kinds())
        run = await operator.Abort(op.AbortRequest(run_id=run.id, reason="enough"), timeout=20)
        assert (run.state, run.outcome) == ("ended", "aborted")
        assert "enough" in run.reason
        assert {row["state"] for row in agent.effects.values()} == {"reverted"}
        assert not children(rig)


async def test_the_emergency_stop_ends_all_and_refuses_until_lifted(rig):
    agent = ScriptedAgent(rig, override={"probe.recovery": hanging})
    async with rig.operator() as operator, agent.connected():
        run = await operator.Submit(submission(experiment(INJECT, RECOVERY)))
        await until(lambda: "probe.recovery" in agent.kinds())
        reply = await operator.Stop(op.StopRequest(reason="fire"))
        assert (reply.stopped, reply.agents, reply.effects_reverted) == (True, 1, 1)
        run, _ = await ended(operator, run.id)
        assert run.outcome == "aborted"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await operator.Submit(submission(experiment(INJECT)))
        assert isinstance(from_rpc(caught.value), RefusedError)
        await operator.Stop(op.StopRequest(lift=True))
        agent.override.clear()
        run, _ = await ended(operator, (await operator.Submit(submission(experiment(INJECT, RECOVERY)))).id)
        assert run.verdict == "held", run.reason


async def test_sigkill_of_the_controller_closes_the_run_at_its_restart(rig, tmp_path):
    agent = ScriptedAgent(rig, override={"probe.recovery": hanging})
    async with rig.operator() as operator, agent.connected():
        run = await operator.Submit(submission(experiment(INJECT, RECOVERY)))
        await until(lambda: "probe.recovery" in agent.kinds())
        child = children(rig)[0]
        epoch = agent.welcome.epoch
        rig.end(signal.SIGKILL)
        await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    with ControllerProcess(rig.state) as second:
        agent.rig = second
        async with second.operator() as operator, agent.connected():
            closed, events = await ended(operator, run.id)
            assert agent.welcome.epoch > epoch
            assert (closed.outcome, closed.verdict) == ("lost", "inconclusive")
            assert "restarted" in closed.reason
            assert "controller.restarted" in [event.kind for event in events]
            assert agent.kinds()[-1] == "run.end"
            assert {row["state"] for row in agent.effects.values()} == {"reverted"}


async def test_an_exception_that_escapes_the_engine_still_ends_the_effect(rig):
    start = call("start_probe", name="web", kind="http", targets=TARGETS, spec={})
    named = {"type": "probe", "tolerance": {"type": "regex", "pattern": "boom|web", "target": "name"}}
    raising = {"type": "probe", "tolerance": {"type": "regex", "pattern": "1", "target": "value_s"}}
    document = experiment(call("revert"))
    document["steady-state-hypothesis"]["probes"] = [start | named, INJECT | named, RECOVERY | raising]
    async with rig.operator() as operator, ScriptedAgent(rig).connected() as agent:
        run, _ = await ended(operator, (await operator.Submit(submission(document))).id)
        assert run.outcome == "failed"
        assert "engine broke: TypeError" in run.reason
        assert {row["state"] for row in agent.effects.values()} == {"reverted"}


async def test_an_unconfirmed_fault_is_inconclusive(rig):
    agent = ScriptedAgent(rig)

    def unconfirmed(order, arguments):
        body = agent._usual(order, arguments)
        body["effects"][0].update(confirmed=False, receipt="nothing seen")
        return body

    agent.override["fault.inject"] = unconfirmed
    async with rig.operator() as operator, agent.connected():
        run, _ = await ended(operator, (await operator.Submit(submission(experiment(INJECT, RECOVERY)))).id)
        assert (run.outcome, run.verdict) == ("completed", "inconclusive")


async def test_targets_that_fit_nobody_are_refused_at_submission(rig):
    nobody = call("inject", fault="test.fault", targets={"labels": {"role": "db"}, "pick": "one"})
    async with rig.operator() as operator, ScriptedAgent(rig).connected() as agent:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await operator.Submit(submission(experiment(nobody)))
        error = from_rpc(caught.value)
        assert isinstance(error, SpecError)
        assert error.problems[0].where == "x.yaml: method[0].provider.arguments.targets.labels"
        assert "no connected agent has role=db" in error.problems[0].what
        assert not (await operator.ListRuns(op.ListRunsRequest())).runs
        assert agent.kinds() == []


async def test_a_run_of_which_nothing_could_be_injected_was_refused(rig):
    agent = ScriptedAgent(rig)
    agent.override["fault.plan"] = lambda order, arguments: (pb.STATUS_REFUSED, "the policy protects it")
    async with rig.operator() as operator, agent.connected():
        run, events = await ended(operator, (await operator.Submit(submission(experiment(INJECT)))).id)
        assert (run.outcome, run.verdict) == ("refused", "inconclusive")
        assert "Nothing was injected: a1: the policy protects it" in run.reason
        (failed,) = [event.message for event in events if event.kind == "step.failed"]
        assert "ActivityFailed" not in failed


async def test_an_agent_that_finds_the_spec_wrong_makes_it_bad_input(rig):
    agent = ScriptedAgent(rig)
    agent.override["fault.inject"] = lambda order, arguments: (pb.STATUS_INVALID, "spec.pid: a pid does not come back")
    async with rig.operator() as operator, agent.connected():
        run, _ = await ended(operator, (await operator.Submit(submission(experiment(INJECT)))).id)
        assert run.outcome == "refused"
        assert "boom: failed on a1 and is reverted everywhere: a1: spec.pid: a pid does not come back" in run.reason


async def test_an_injection_that_fails_on_one_of_two_is_reverted_on_both(rig):
    good, bad = ScriptedAgent(rig), ScriptedAgent(rig, name="a2")
    bad.override["fault.inject"] = lambda order, arguments: (pb.STATUS_FAILED, "no such thing")
    both = call("inject", fault="test.fault", targets={"labels": {"role": "web"}, "pick": "all"}, name="boom")
    async with rig.operator() as operator, good.connected(), bad.connected():
        run, events = await ended(operator, (await operator.Submit(submission(experiment(both)))).id)
        assert run.verdict == "inconclusive"
        assert any(event.kind == "fault.failed" and "a2" in event.message for event in events)
        assert {row["state"] for row in good.effects.values()} == {"reverted"}
        starts = [order.not_before_ns for order in good.orders + bad.orders if order.kind == "fault.inject"]
        assert len(starts) == 2


async def invoke(operator, run_id, function, **arguments):
    request = op.InvokeRequest(run_id=run_id, function=function, arguments_json=json.dumps(arguments).encode())
    async for reply in operator.Invoke(request):
        if reply.done:
            return json.loads(reply.result_json)
    raise AssertionError("no result")


async def test_an_external_driver_opens_drives_and_closes(rig):
    async with rig.operator() as operator, ScriptedAgent(rig).connected() as agent:
        run = await operator.OpenRun(submission(experiment(method=[])))
        assert run.state == "running"
        await invoke(operator, run.id, "start_probe", name="web", kind="http", targets=TARGETS, spec={})
        assert await invoke(operator, run.id, "observe", probe="web") == 1.0
        answer = await invoke(operator, run.id, "inject", fault="test.fault", targets=TARGETS, duration_s=9)
        assert answer["confirmed"] is True
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await invoke(operator, run.id, "inject", fault="test.fault", targets=TARGETS, name="again")
        assert "conflict" in str(from_rpc(caught.value))
        journal = {"status": "completed", "deviated": False, "experiment": {}, "run": [], "rollbacks": []}
        run = await operator.CloseRun(
            op.CloseRunRequest(run_id=run.id, journal_json=json.dumps(journal).encode()), timeout=20
        )
        assert (run.state, run.outcome) == ("ended", "completed")
        assert {row["state"] for row in agent.effects.values()} == {"reverted"}


async def test_an_external_driver_that_falls_silent_is_lost(rig):
    async with rig.operator() as operator, ScriptedAgent(rig).connected() as agent:
        viewer = rig.certificate("eve", "viewer")
        run = await operator.OpenRun(submission(experiment(method=[])))
        await invoke(operator, run.id, "inject", fault="test.fault", targets=TARGETS, duration_s=9)
        async with rig.operator(viewer) as watcher:
            run, _ = await ended(watcher, run.id, 15)
        assert run.outcome == "lost"
        assert "silent" in run.reason
        assert {row["state"] for row in agent.effects.values()} == {"reverted"}


async def test_an_order_without_data_is_a_probe_error(rig):
    agent = ScriptedAgent(rig, override={"probe.observe": lambda *_: {"value": None, "samples": 0}})
    async with rig.operator() as operator, agent.connected():
        run = await operator.OpenRun(submission(experiment(method=[])))
        await invoke(operator, run.id, "start_probe", name="web", kind="http", targets=TARGETS, spec={})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await invoke(operator, run.id, "observe", probe="web")
        assert isinstance(from_rpc(caught.value), ProbeError)


async def test_a_plan_touches_nothing(rig):
    async with rig.operator() as operator, ScriptedAgent(rig).connected() as agent:
        reply = await operator.Plan(submission(experiment(INJECT)))
        plan = json.loads(reply.plan_json)
        assert plan["problems"] == []
        assert plan["steps"][-1]["effects"][0]["agent_id"] == "a1"
        assert set(agent.kinds()) == {"fault.plan"}
        assert not (await operator.ListRuns(op.ListRunsRequest())).runs
        assert Path(rig.state).exists()


async def test_an_objective_that_the_profile_lacks_is_found_before_the_fault(rig):
    lost = {**RECOVERY, "provider": {**RECOVERY["provider"]}}
    lost["provider"]["arguments"] = RECOVERY["provider"]["arguments"] | {"objective": "wob"}
    async with rig.operator() as operator, ScriptedAgent(rig).connected() as agent:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await operator.Submit(submission(experiment(INJECT, lost)))
        error = from_rpc(refusal.value)
        assert isinstance(error, SpecError)
        assert "no objective 'wob' with rto_s; it has: web" in str(error)
        assert "fault.inject" not in agent.kinds()
