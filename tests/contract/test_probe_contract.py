"""What holds for every kind of probe, against a real service of its kind."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import pytest

from agent.probes.registry import KINDS, build, capabilities
from protos.error import ProbeError, RefusedError, SpecError
from protos.recovery import FAILED, Code
from tests.contract.amqp_rig import AmqpRig
from tests.contract.edge_rig import EDGE_RIGS
from tests.contract.nats_rig import NatsRig
from tests.contract.probe_rig import ANSWER, RIGS, HttpRig, KeepaliveRig, TcpRig
from tests.contract.s3_rig import S3Rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.contract.probe_rig import Rig

TIMEOUT_S = 0.15
AMPLE_S = 10.0


ALL_RIGS = [*RIGS, *EDGE_RIGS, AmqpRig, NatsRig, S3Rig]
# The first only looks, the second wants a cluster (tests/cluster), the third an encoding: tests of their own.
ALONE = {"log", "kube", "encode"}


@pytest.fixture(params=ALL_RIGS, ids=lambda rig: rig.__name__)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    lacking = getattr(request.param, "missing", None)
    if lacking and (lacks := lacking()):
        pytest.skip(lacks)
    made: Rig = request.param(tmp_path)
    yield made
    await made.down()
    if hasattr(made, "remove"):
        made.remove()


async def test_up_down_and_up_again(rig: Rig) -> None:
    probe = build(rig.kind, await rig.up(), lambda _: True)
    await probe.open()
    assert [await probe.attempt(AMPLE_S) for _ in range(3)] == [Code.OK] * 3
    await rig.down()
    assert await probe.attempt(AMPLE_S) in FAILED
    await rig.up()
    assert await probe.attempt(AMPLE_S) == Code.OK
    await probe.close()


async def test_a_service_that_was_down_at_the_start_is_found(rig: Rig) -> None:
    spec = await rig.up()
    await rig.down()
    probe = build(rig.kind, spec, lambda _: True)
    await probe.open()
    assert await probe.attempt(AMPLE_S) in FAILED
    await rig.up()
    assert await probe.attempt(AMPLE_S) == Code.OK
    await probe.close()


async def test_a_service_that_hangs_is_told_within_the_timeout(rig: Rig) -> None:
    probe = build(rig.kind, await rig.up(), lambda _: True)
    await probe.open()
    await rig.hang()
    began_s = time.monotonic()
    codes = await asyncio.gather(*(probe.attempt(TIMEOUT_S) for _ in range(3)))
    assert codes == [rig.hangs_as] * 3
    assert time.monotonic() - began_s < TIMEOUT_S + 2.0
    await probe.close()


async def test_close_releases_everything(rig: Rig) -> None:
    spec = await rig.up()
    before = len(os.listdir("/proc/self/fd")), asyncio.all_tasks()
    probe = build(rig.kind, spec, lambda _: True)
    await probe.open()
    await asyncio.gather(*(probe.attempt(AMPLE_S) for _ in range(4)))
    await rig.hang()
    await probe.attempt(0.05)
    await probe.close()
    for _ in range(200):  # the server's side of the connections ends a few turns of the loop later
        if len(os.listdir("/proc/self/fd")) <= before[0] and asyncio.all_tasks() <= before[1]:
            break
        await asyncio.sleep(0)
        if hasattr(rig, "drop"):
            rig.drop()
    assert len(os.listdir("/proc/self/fd")) <= before[0]


def test_a_bad_spec_is_refused_with_every_problem(rig: Rig) -> None:
    with pytest.raises(SpecError) as caught:
        build(rig.kind, rig.bad_spec, lambda _: True)
    assert {problem.where.rpartition(".")[2] for problem in caught.value.problems} == rig.bad_fields
    assert all(problem.where.startswith(f"spec of probe {rig.kind}.") for problem in caught.value.problems)


def test_every_kind_has_a_rig_and_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path))
    assert {rig.kind for rig in ALL_RIGS} | ALONE == set(KINDS)
    assert dict(capabilities([["true"]])) == dict.fromkeys(KINDS, "")
    assert dict(capabilities([]))["command"] == "a command in the policy"
    monkeypatch.delenv("KUBECONFIG")
    assert "set KUBECONFIG in the agent's environment" in dict(capabilities([]))["kube"]


def test_what_is_no_spec_and_no_kind() -> None:
    with pytest.raises(SpecError, match=f"known: {', '.join(KINDS)}"):
        build("icmp", {}, lambda _: True)
    with pytest.raises(SpecError, match="list instead of an object"):
        build("tcp", [], lambda _: True)
    with pytest.raises(RefusedError, match="policy does not allow"):
        build("command", {"argv": ["id"]}, lambda argv: argv != ["id"])
    assert not issubclass(SpecError, ProbeError)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Code.BAD),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", Code.BAD),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n..g\r\n3;x=1\r\nood\r\n0\r\n\r\n", Code.OK),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER, Code.OK),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end it is good", Code.OK),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", Code.BAD),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Code.BAD),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Code.BAD),
        (b"HTTP/1.1 200 OK\r\nTruncat", Code.REFUSED),
    ],
)
async def test_http_answers(tmp_path: Path, said: bytes, code: Code) -> None:
    rig = HttpRig(tmp_path)
    rig.say = said
    if code == Code.REFUSED or b"HTTP/1.0" in said:
        rig.say = said.replace(b"Content-Length", b"X")
    probe = build("http", await rig.up(), lambda _: True)
    await probe.open()
    assert await probe.attempt(AMPLE_S) == code
    await probe.close()
    await rig.down()


async def test_keepalive_uses_one_connection_and_a_closed_one_is_no_failure(tmp_path: Path) -> None:
    rig = KeepaliveRig(tmp_path)
    probe = build("http", await rig.up(), lambda _: True)
    await probe.open()
    assert [await probe.attempt(AMPLE_S) for _ in range(5)] == [Code.OK] * 5
    assert rig.connections == 1
    rig.drop()
    assert await probe.attempt(AMPLE_S) == Code.OK
    assert rig.connections == 2
    await probe.close()
    await rig.down()


async def test_tcp_that_says_something_else_is_bad(tmp_path: Path) -> None:
    rig = TcpRig(tmp_path)
    rig.say = b"5"
    probe = build("tcp", await rig.up(), lambda _: True)
    await probe.open()
    assert await probe.attempt(AMPLE_S) == Code.BAD
    await probe.close()
    await rig.down()


async def test_a_name_that_does_not_resolve_is_refused() -> None:
    probe = build("tcp", {"host": "no-such-host.invalid", "port": 1}, lambda _: True)
    await probe.open()
    assert await probe.attempt(AMPLE_S) == Code.REFUSED
    await probe.close()
