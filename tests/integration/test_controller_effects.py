"""What agents tell of effects unasked, at the real controller: joined, gone, stranded, cleared, certified, silent."""

from __future__ import annotations

import json
import ssl
import time
import urllib.request

import grpc
import pytest

from protos import blackstart_agent_pb2 as pb
from protos import blackstart_operator_pb2 as op
from protos.column import pack_float64, pack_int64
from protos.error import from_rpc
from tests.integration.controller_rig import (
    INJECT,
    RECOVERY,
    TARGETS,
    ControllerProcess,
    ScriptedAgent,
    call,
    effect,
    ended,
    experiment,
    submission,
    until,
)  # fmt: skip
from tests.integration.test_controller_run import invoke

CERTIFICATE = {
    "clean": True, "ours": [], "others": ["+ routes: 10.0.0.0/8"], "taken_before_ns": 5, "taken_after_ns": 9,
    "checks": {"qdiscs": 2, "tables": 1},
}  # fmt: skip


@pytest.fixture
def rig(tmp_path):
    with ControllerProcess(tmp_path / "state") as process:
        yield process


async def tell(agent, kind, body, run_id=""):
    event = pb.Event(at_ns=time.monotonic_ns(), wall_ns=time.time_ns(), run_id=run_id, kind=kind)
    event.body_json = json.dumps(body).encode()
    await agent.spooled(event=event)
    sent = agent.sequence
    await until(lambda: agent.acknowledged >= sent)


async def detail(operator, run_id):
    found = await operator.ShowRun(op.ShowRunRequest(run_id=run_id))
    return found.run, json.loads(found.document_json)


async def agent_of(operator, name="a1"):
    reply = await operator.ListAgents(op.ListAgentsRequest())
    return next(one for one in reply.agents if one.id == name)


async def close(operator, run_id):
    journal = {"status": "completed", "deviated": False, "experiment": {}, "run": [], "rollbacks": []}
    request = op.CloseRunRequest(run_id=run_id, journal_json=json.dumps(journal).encode())
    return await operator.CloseRun(request, timeout=20)


async def begun(operator, **arguments):
    """A run that an external driver has opened and in which one fault is in force."""
    run = await operator.OpenRun(submission(experiment(method=[])))
    answer = await invoke(
        operator, run.id, "inject", fault="test.fault", targets=TARGETS, duration_s=60, name="boom", **arguments
    )
    return run.id, answer


def stranding(agent):
    """Makes every revert of *agent* fail."""

    def refuse(order, arguments):
        del arguments
        for row in agent.effects.values():
            row.update(state="stranded", residue=["rule b_1"], remedy="nft destroy table inet b_1")
        return {"effects": list(agent.effects.values()), "residue": ["a test effect: rule b_1"], "attempts": {}}

    agent.override |= dict.fromkeys(("fault.revert", "run.end", "node.stop"), refuse)


def scrape(rig):
    context = ssl.create_default_context(cafile=str(rig.state / "admin" / "ca.pem"))
    context.check_hostname = False
    context.load_cert_chain(rig.state / "admin" / "cert.pem", rig.state / "admin" / "key.pem")
    with urllib.request.urlopen(f"https://{rig.ready['metrics_address']}/metrics", context=context) as answer:
        return answer.read().decode()


async def test_follow_is_asked_of_the_agent_only_where_the_experiment_asks(rig):
    async with rig.operator() as operator, ScriptedAgent(rig).connected() as agent:
        run_id, _ = await begun(operator)
        await close(operator, run_id)
        await begun(operator, follow=True)
        asked = [json.loads(order.arguments_json) for order in agent.orders if order.kind == "fault.inject"]
        assert [arguments.get("follow") for arguments in asked] == [None, True]


async def test_an_effect_that_joins_is_of_the_injection_and_a_gone_target_is_no_failure(rig):
    async with rig.operator() as operator, ScriptedAgent(rig).connected() as agent:
        run_id, answer = await begun(operator, follow=True)
        first = answer["effects"][0]
        now_ns = time.monotonic_ns()
        gone = first | {"note": "its target went away by itself", "follows": ""}
        await tell(agent, "effect.target_gone", gone, run_id)
        await tell(agent, "effect.reverted", gone | {"state": "reverted", "reverted_ns": now_ns}, run_id)
        order = {"injection": "boom", "fault": "test.fault"}
        joined = effect(order, "second00", now_ns, run_id=run_id, resource="process:2:2", note="", follows=first["id"])
        await tell(agent, "effect.joined", joined, run_id)
        same = {"resource": "process:2:2", "description": "", "undo": ""}
        agent.override["fault.plan"] = lambda *_: {"effects": [same]}
        with pytest.raises(grpc.aio.AioRpcError) as caught:  # what joined is in the ledger, too
            await invoke(operator, run_id, "inject", fault="test.fault", targets=TARGETS, name="again")
        assert "conflict" in str(from_rpc(caught.value))
        agent.effects = {"1": gone | {"state": "reverted"}, "2": joined}
        await close(operator, run_id)
        run, document = await detail(operator, run_id)
        assert not run.stranded
        (injection,) = document["injections"]
        assert [row["state"] for row in injection["effects"]] == ["reverted", "reverted"]
        assert injection["effects"][0]["note"] == "its target went away by itself"
        assert injection["effects"][1]["follows"] == first["id"]
        told = {event["kind"]: event["message"] for event in document["events"]}
        assert "joined boom, after effect" in told["effect.joined"]
        assert "the target of a test effect is gone (its target went away by itself)" in told["effect.target_gone"]
        assert not any("failed" in reason for reason in document["reasons"])


async def test_what_is_stranded_is_shown_until_the_agent_has_cleared_it(rig):
    agent = ScriptedAgent(rig)
    async with rig.operator() as operator, agent.connected():
        stranding(agent)
        run_id, _ = await begun(operator)
        run = await close(operator, run_id)
        assert run.stranded
        _, document = await detail(operator, run_id)
        assert "by hand: nft destroy table inet b_1" in document["zero_residue"]["left"][0]
        shown = await agent_of(operator)
        (row,) = json.loads(shown.stranded_json)
        assert (row["state"], row["remedy"]) == ("stranded", "nft destroy table inet b_1")
        assert 'blackstart_effects_stranded{agent="a1"} 1.0' in scrape(rig)
        reply = await operator.Stop(op.StopRequest(reason="test"))
        assert list(reply.stranded) == ["a1: a test effect; by hand: nft destroy table inet b_1"]
        (held,) = agent.effects.values()
        held.update(state="reverted", residue=[], remedy="", reverted_ns=time.monotonic_ns())
        await tell(agent, "effect.reverted", held, run_id)
        run, document = await detail(operator, run_id)
        assert not run.stranded
        assert document["zero_residue"]["left"] == []
        assert "cleared since" in document["zero_residue"]["words"]
        assert any(event["kind"] == "effect.cleared" for event in document["events"])
        assert not json.loads((await agent_of(operator)).stranded_json)
        assert 'blackstart_effects_stranded{agent="a1"} 0.0' in scrape(rig)


async def test_what_is_stranded_outlives_a_restart_of_the_controller(rig):
    agent = ScriptedAgent(rig)
    async with rig.operator() as operator, agent.connected():
        stranding(agent)
        run_id, _ = await begun(operator)
        await close(operator, run_id)
    rig.end()
    with ControllerProcess(rig.state) as second:
        async with second.operator() as operator:
            assert len(json.loads((await agent_of(operator)).stranded_json)) == 1
            agent.rig = second
            agent.override.clear()
            async with agent.connected():  # whose hello names nothing that is in force
                await until(lambda: cleared(operator))


async def cleared(operator):
    return not json.loads((await agent_of(operator)).stranded_json)


async def test_a_certificate_stands_in_the_report_and_one_of_ours_strands_the_run(rig):
    agent = ScriptedAgent(rig)
    certificate = dict(CERTIFICATE)
    agent.override["run.end"] = lambda order, arguments: agent._usual(order, arguments) | {"certificate": certificate}
    async with rig.operator() as operator, agent.connected():
        run, _ = await ended(operator, (await operator.Submit(submission(experiment(INJECT, RECOVERY)))).id)
        assert run.verdict == "held", run.reason
        _, document = await detail(operator, run.id)
        assert document["zero_residue"]["words"].startswith("zero residue: certified on 1 agent; 3 things compared")
        assert document["certificates"][0]["others"] == ["+ routes: 10.0.0.0/8"]
        certificate |= {"clean": False, "ours": ["+ tables: b_9"]}
        run, _ = await ended(operator, (await operator.Submit(submission(experiment(INJECT, RECOVERY)))).id)
        assert (run.verdict, run.stranded) == ("inconclusive", True)
        _, document = await detail(operator, run.id)
        assert document["zero_residue"]["left"] == ["a1: + tables: b_9"]


async def test_an_older_agent_is_not_certified(rig):
    async with rig.operator() as operator, ScriptedAgent(rig).connected():
        run, _ = await ended(operator, (await operator.Submit(submission(experiment(INJECT, RECOVERY)))).id)
        assert run.verdict == "held"
        _, document = await detail(operator, run.id)
        assert document["zero_residue"]["certified"] is False
        assert "not certified on a1" in document["zero_residue"]["words"]


async def test_what_an_agents_audit_finds_is_in_audit_and_metrics_and_at_the_agent(rig):
    async with rig.operator() as operator, ScriptedAgent(rig).connected() as agent:
        traces = ["table b_3", "qdisc 504d: on eth0"]
        await tell(agent, "residue.found", {"ours": traces, "effect": "e1", "still": traces})
        await tell(agent, "residue.found", {"ours": ["file x"], "effect": "e2", "still": []})
        assert list((await agent_of(operator)).residue) == traces
        assert 'blackstart_residue{agent="a1"} 2.0' in scrape(rig)
        records = (await operator.ListAudit(op.ListAuditRequest())).records
        reverted, found = (record for record in records if record.method == "residue.found")
        assert (found.actor, found.role, found.subject) == ("a1", "agent", "e1")
        assert "still there: table b_3" in found.outcome
        assert reverted.outcome == "found left behind: file x; reverted now"
        await tell(agent, "residue.found", {"ours": [], "effect": "e1", "still": []})
        assert not (await agent_of(operator)).residue


async def test_gauges_are_kept_while_a_run_uses_the_agent(rig):
    async with rig.operator() as operator, ScriptedAgent(rig).connected() as agent:

        async def sense(value):
            batch = {
                "series": 3,
                "count": 1,
                "at_ns": pack_int64([time.monotonic_ns()]),
                "value": pack_float64([value]),
            }
            await agent.spooled(telemetry=pb.Telemetry(gauges=[pb.GaugeBatch(**batch)]))
            sent = agent.sequence
            await until(lambda: agent.acknowledged >= sent)

        await sense(9.0)  # at rest: taken in, and not kept
        run_id, _ = await begun(operator)
        await sense(1.0)
        await sense(2.0)
        await close(operator, run_id)
        await sense(9.0)
        _, document = await detail(operator, run_id)
        (gauge,) = document["gauges"]
        assert (gauge["name"], gauge["unit"], gauge["agent_id"]) == ("node_load1", "1", "a1")
        assert (gauge["samples"], gauge["least"], gauge["mean"], gauge["most"]) == (2, 1.0, 1.5, 2.0)
        assert abs(gauge["timeline"][0][0] - time.time_ns()) < 60e9


async def test_a_wrong_spec_starts_nothing(rig):
    document = experiment(call("inject", fault="process.kill", targets=TARGETS, spec={"sigal": "KILL"}))
    async with rig.operator() as operator, ScriptedAgent(rig).connected() as agent:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await operator.Submit(submission(document))
        text = str(from_rpc(caught.value))
        assert "method[0].provider.arguments.spec.sigal: process.kill has no such field (did you mean signal?)" in text
        assert "no agent knows 'process.kill'" in text
        assert agent.kinds() == []
