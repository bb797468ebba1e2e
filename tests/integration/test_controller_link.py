"""The ports of the real controller: who may call, how agents join and are heard, and how a start fails."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos import blackstart_agent_pb2 as pb
from protos import blackstart_agent_pb2_grpc as agent_rpc
from protos import blackstart_operator_pb2 as op
from protos.credential import new_key_and_csr, write_credential
from tests.integration.controller_rig import (
    INJECT,
    ControllerProcess,
    ScriptedAgent,
    experiment,
    submission,
    until,
)  # fmt: skip


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with ControllerProcess(tmp_path_factory.mktemp("controller") / "state") as process:
        yield process


def code_of(caught) -> grpc.StatusCode:
    return caught.value.code()


async def audit(operator) -> list[tuple[str, str, str, str]]:
    records = (await operator.ListAudit(op.ListAuditRequest(most=50))).records
    return [(r.actor, r.role, r.method, r.outcome) for r in records]


async def test_health_answers_every_certificate_and_nobody_else(rig):
    async with rig.channel(rig.certificate("vic", "viewer")) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    authority = (rig.state / "admin" / "ca.pem").read_bytes()
    async with grpc.aio.secure_channel(rig.ready["address"], grpc.ssl_channel_credentials(authority)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert code_of(caught) == grpc.StatusCode.UNAVAILABLE


async def test_roles_are_kept_and_denials_are_in_the_audit(rig):
    async with rig.operator(rig.certificate("vic", "viewer")) as viewer, rig.operator() as admin:
        await viewer.ListAgents(op.ListAgentsRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await viewer.Submit(submission(experiment(INJECT)))
        assert code_of(caught) == grpc.StatusCode.PERMISSION_DENIED
        async with rig.operator(rig.certificate("olga", "operator")) as operator:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await operator.IssueJoinToken(op.IssueJoinTokenRequest())
            assert code_of(caught) == grpc.StatusCode.PERMISSION_DENIED
        async with rig.operator(rig.certificate("r1", "runner")) as runner:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await runner.CloseRun(op.CloseRunRequest(run_id="another"))
            assert code_of(caught) == grpc.StatusCode.PERMISSION_DENIED
        lines = await audit(admin)
        assert ("vic", "viewer", "ListAgents", "ok") in lines
        assert any(line[:3] == ("vic", "viewer", "Submit") and "DeniedError" in line[3] for line in lines)
        assert any(line[:3] == ("r1", "runner", "CloseRun") and "DeniedError" in line[3] for line in lines)


async def test_a_bad_experiment_comes_back_with_all_its_problems(rig):
    document = experiment({"type": "action", "name": "x", "provider": {"type": "process", "path": "rm"}}, title="")
    async with rig.operator() as operator:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await operator.Submit(submission(document))
    assert code_of(caught) == grpc.StatusCode.INVALID_ARGUMENT
    assert "title: is missing" in caught.value.details()
    assert "process providers" in caught.value.details()


async def test_an_agent_joins_once_by_its_token_renews_and_connects(rig, tmp_path):
    key, csr = new_key_and_csr("j1")
    async with rig.operator() as operator:
        token = await operator.IssueJoinToken(op.IssueJoinTokenRequest(agent_id="j1"))
    root = grpc.ssl_channel_credentials(token.ca_pem)
    async with grpc.aio.secure_channel(token.enrol_address, root) as channel:
        enrolment = agent_rpc.EnrolmentStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await enrolment.Enrol(pb.EnrolRequest(token=token.token, agent_id="j2", csr_pem=csr))
        assert code_of(caught) == grpc.StatusCode.PERMISSION_DENIED
        answer = await enrolment.Enrol(pb.EnrolRequest(token=token.token, agent_id="j1", csr_pem=csr))
        with pytest.raises(grpc.aio.AioRpcError):
            await enrolment.Enrol(pb.EnrolRequest(token=token.token, agent_id="j1", csr_pem=csr))
    write_credential(tmp_path / "certs", answer.certificate_pem, key, answer.ca_pem)
    async with rig.channel(tmp_path / "certs") as channel:
        renewed = await agent_rpc.AgentLinkStub(channel).Renew(pb.CertificateRequest(csr_pem=csr))
    write_credential(tmp_path / "certs", renewed.certificate_pem, key, renewed.ca_pem)
    async with ScriptedAgent(rig, name="j1").connected(tmp_path / "certs") as agent:
        assert agent.welcome.epoch >= 1


async def test_a_hello_under_another_name_is_denied(rig):
    agent = ScriptedAgent(rig, name="honest")
    async with rig.channel(rig.certificate("liar", "agent")) as channel:
        stream = agent_rpc.AgentLinkStub(channel).Connect()
        await stream.write(agent.hello())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert code_of(caught) == grpc.StatusCode.PERMISSION_DENIED


async def test_a_message_that_comes_twice_counts_once_and_is_acknowledged_twice(rig):
    batch = pb.ProbeBatch(
        run_id="none", probe="p", first_index=0, count=2, due_ns=bytes(16), start_ns=bytes(16), done_ns=bytes(16),
        outcome=bytes(2),
    )  # fmt: skip
    async with ScriptedAgent(rig, name="twice").connected() as agent:
        for sequence in (1, 2, 2, 1):
            await agent.spooled(sequence, telemetry=pb.Telemetry(probes=[batch]))
        await until(lambda: agent.acknowledged == 1)
    async with ScriptedAgent(rig, name="twice").connected() as agent:
        assert agent.welcome.acknowledged == 2


async def test_a_second_connection_replaces_the_first_and_silence_ends_the_lease(rig):
    async with rig.operator() as operator:

        async def here(name: str) -> bool:
            agents = (await operator.ListAgents(op.ListAgentsRequest())).agents
            return any(agent.id == name and agent.connected for agent in agents)

        async def gone() -> bool:
            return not await here("again")

        one, two = ScriptedAgent(rig, name="again"), ScriptedAgent(rig, name="again")
        async with one.connected() as first, two.connected() as second:
            await until(first.call.done)
            assert await here("again")
            second.silent = True
            await until(gone)


def scrape(rig, certs) -> bytes:
    host, _, port = rig.ready["metrics_address"].rpartition(":")
    context = ssl.create_default_context(cafile=str(rig.state / "admin" / "ca.pem"))
    if certs is not None:
        context.load_cert_chain(certs / "cert.pem", certs / "key.pem")
    with socket.create_connection((host, int(port)), 5) as plain, context.wrap_socket(plain, server_hostname=host) as s:
        s.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: s.recv(65536), b""))


def test_metrics_want_a_certificate(rig):
    assert b"blackstart_agents_connected" in scrape(rig, rig.certificate("prometheus", "viewer"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        scrape(rig, None)


def failing(state, *flags: str) -> str:
    """What a controller that cannot start says; its exit code is 2."""
    done = subprocess.run(
        [sys.executable, "-m", "controller", "run", "--state", str(state), "--listen", "127.0.0.1:0",
         "--enrol-listen", "127.0.0.1:0", *flags],
        capture_output=True, text=True, timeout=30, env=dict(os.environ), check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_start_that_fails_says_why_and_ends_with_2(rig, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in failing(tmp_path / "file" / "state")
    assert "the port is in use" in failing(tmp_path / "one", "--listen", rig.ready["address"])
    assert "cannot listen" in failing(tmp_path / "one", "--metrics", rig.ready["metrics_address"])
    assert "not HOST:PORT" in failing(tmp_path / "one", "--listen", "7400")
    (rig.state / "runs" / "under-way").mkdir()
    assert "another controller" in failing(rig.state)
    assert (rig.state / "runs" / "under-way").exists(), "the folders of a running controller's runs are not another's"
    (tmp_path / "settings.yaml").write_text(json.dumps({"lease_s": -1, "leese_s": 3}))
    said = failing(tmp_path / "two", "--config", str(tmp_path / "settings.yaml"))
    assert "lease_s" in said
    assert "leese_s" in said


def test_an_expired_certificate_is_named(tmp_path):
    with ControllerProcess(tmp_path / "state") as process:
        authority_certs = tmp_path / "state" / "pki" / "controller"
        from controller.pki import Authority

        authority = Authority.load(tmp_path / "state" / "pki" / "ca")
        cert, key = authority.issue("controller", "controller", hosts=["127.0.0.1"], valid_s=0.001)
        write_credential(authority_certs, cert, key, authority.ca_pem)
        assert process.ready["ready"]
    said = failing(tmp_path / "state")
    assert "expired" in said
    assert "cert.pem" in said
