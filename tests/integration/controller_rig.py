"""A real controller process, and an agent that is played over the real wire by a script."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from protos.channel import CHANNEL_OPTIONS, channel_credentials  # isort: skip - before grpc
import grpc
import grpc.aio

from controller.pki import Authority
from protos import blackstart_agent_pb2 as pb
from protos import blackstart_agent_pb2_grpc as agent_rpc
from protos import blackstart_operator_pb2 as op
from protos import blackstart_operator_pb2_grpc as operator_rpc
from protos.credential import load_credential, write_credential

if TYPE_CHECKING:
    from pathlib import Path

FAST = {"BLACKSTART_CONTROLLER_HEARTBEAT_S": "0.1", "BLACKSTART_CONTROLLER_LEASE_S": "3"}


class ControllerProcess:
    """`python -m controller run`; killed at the end if it has not ended by itself."""

    def __init__(self, state: Path, **environment: str) -> None:
        self.state = state
        log = (state.parent / f"{state.name}.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "controller", "run", "--state", str(state), "--listen", "127.0.0.1:0",
             "--enrol-listen", "127.0.0.1:0", "--log-level", "warning"],
            stdout=subprocess.PIPE, stderr=log, text=True,
            env=os.environ | FAST | environment,
        )  # fmt: skip
        log.close()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (state.parent / f"{state.name}.log").read_text()
        self.ready = json.loads(line)

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGTERM)

    def certificate(self, name: str, role: str) -> Path:
        """A directory with a certificate of this installation."""
        directory = self.state.parent / f"certs-{name}-{role}"
        authority = Authority.load(self.state / "pki" / "ca")
        cert, key = authority.issue(name, role)
        assert key is not None
        write_credential(directory, cert, key, authority.ca_pem)
        return directory

    @contextlib.asynccontextmanager
    async def channel(self, certs: Path | None = None, address: str = ""):
        held = load_credential(certs or self.state / "admin")
        credentials = channel_credentials(held.cert_pem, held.key_pem, held.ca_pem)
        target = address or self.ready["address"]
        async with grpc.aio.secure_channel(target, credentials, options=list(CHANNEL_OPTIONS)) as channel:
            yield channel

    @contextlib.asynccontextmanager
    async def operator(self, certs: Path | None = None):
        async with self.channel(certs) as channel:
            yield operator_rpc.OperatorStub(channel)


def effect(order: dict, order_id: str, now_ns: int, **more: object) -> dict:
    return {
        "id": order_id[:8], "injection": order["injection"], "fault": order["fault"], "description": "a test effect",
        "undo": "guardian", "resource": "process:1:1", "state": "injected", "confirmed": True, "receipt": "seen",
        "injected_lo_ns": now_ns, "injected_hi_ns": now_ns + 1000, "reverted_ns": None, "residue": [], "remedy": "",
        **more,
    }  # fmt: skip


@dataclass
class ScriptedAgent:
    """Says hello, beats, and answers orders as a good agent does; *override* replaces the answer to a kind."""

    rig: ControllerProcess
    name: str = "a1"
    labels: dict[str, str] = field(default_factory=lambda: {"role": "web"})
    orders: list[pb.Order] = field(default_factory=list)
    effects: dict[str, dict] = field(default_factory=dict)
    welcome: pb.Welcome | None = None
    acknowledged: int = 0
    sequence: int = 0
    spool: str = "s1"
    override: dict = field(default_factory=dict)
    boot_id: str = "test-boot"
    silent: bool = False
    faults: tuple[str, ...] = ("test.fault",)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)  # one write at a time is gRPC's rule

    def hello(self) -> pb.AgentMessage:
        kinds = [*(("fault", kind) for kind in self.faults), ("probe", "http"), ("workload", "command")]
        rows = [pb.Capability(family=f, kind=k, available=True, undo="guardian") for f, k in kinds]
        return pb.AgentMessage(
            hello=pb.Hello(
                agent_id=self.name,
                agent_version="1",
                boot_id=self.boot_id,
                spool_id=self.spool,
                labels=self.labels,
                capabilities=rows,
                series=[pb.SeriesInfo(id=3, name="node_load1", unit="1")],
                monotonic_ns=time.monotonic_ns(),
                wall_ns=time.time_ns(),
            )
        )

    def kinds(self) -> list[str]:
        return [order.kind for order in self.orders]

    @contextlib.asynccontextmanager
    async def connected(self, certs: Path | None = None):
        certs = certs or self.rig.certificate(self.name, "agent")
        async with self.rig.channel(certs) as channel:
            self.call = agent_rpc.AgentLinkStub(channel).Connect()
            await self.call.write(self.hello())
            first = await asyncio.wait_for(self.call.read(), 10)
            self.welcome = first.welcome
            tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._beat())]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                self.call.cancel()

    async def spooled(self, sequence: int = 0, **body: object) -> None:
        if not sequence:
            self.sequence += 1
            sequence = self.sequence
        async with self.writing:
            await self.call.write(pb.AgentMessage(sequence=sequence, **body))

    async def _beat(self) -> None:
        while True:
            if not self.silent:
                async with self.writing:
                    await self.call.write(pb.AgentMessage(heartbeat=pb.Heartbeat(sent_ns=time.monotonic_ns())))
            await asyncio.sleep(0.1)

    async def _read(self) -> None:
        while (message := await self.call.read()) is not grpc.aio.EOF:
            if message.HasField("ack"):
                self.acknowledged = message.ack.sequence
            elif message.HasField("order"):
                self.orders.append(message.order)
                asyncio.get_running_loop().create_task(self._answer(message.order))

    async def _answer(self, order: pb.Order) -> None:
        arguments = json.loads(order.arguments_json)
        make = self.override.get(order.kind) or self._usual
        found = make(order, arguments)
        if asyncio.iscoroutine(found):
            found = await found
        status, body = found if isinstance(found, tuple) else (pb.STATUS_DONE, found)
        text = body if isinstance(body, str) else ""
        await self.spooled(
            result=pb.Result(
                order_id=order.id, run_id=order.run_id, status=status, message=text, body_json=json.dumps(body).encode()
            )
        )

    def _usual(self, order: pb.Order, arguments: dict) -> object:
        now_ns = time.monotonic_ns()
        if order.kind == "fault.plan":
            row = {"description": "would", "undo": "guardian", "resource": "process:1:1"}
            return {"effects": [row], "missing": ""}
        if order.kind == "fault.inject":
            self.effects[order.id] = effect(arguments, order.id, now_ns, run_id=order.run_id)
            return {"effects": [self.effects[order.id]]}
        if order.kind in ("fault.revert", "run.end", "node.stop"):
            for row in self.effects.values():
                if row["state"] == "injected":
                    row.update(state="reverted", reverted_ns=now_ns)
            return {"effects": list(self.effects.values()), "residue": [], "attempts": {}}
        if order.kind == "probe.observe":
            return {"value": 1.0, "samples": 50}
        if order.kind == "probe.recovery":
            return {
                "recovered": True, "value_s": 0.5, "lo_s": 0.4, "hi_s": 0.6, "outages": [], "flaps": 0,
                "disturbance_s": 0.0, "attempts": 10, "note": "",
            }  # fmt: skip
        return {"started_ns": now_ns}


TARGETS = {"labels": {"role": "web"}, "pick": "one"}


def call(function: str, **arguments: object) -> dict:
    provider = {"type": "python", "module": "blackstart.chaos", "func": function, "arguments": arguments}
    return {"type": "action", "name": function, "provider": provider}


def experiment(*method: dict, **more: object) -> dict:
    probe = call("steady", name="web", kind="http", targets=TARGETS, spec={"url": "x"}, window_s=0)
    probe |= {"type": "probe", "tolerance": {"type": "range", "range": [0.99, 1]}}
    return {
        "version": "1.0.0", "title": "t", "description": "d",
        "steady-state-hypothesis": {"title": "up", "probes": [probe]},
        "method": list(method), "rollbacks": [call("revert")], **more,
    }  # fmt: skip


INJECT = call("inject", fault="test.fault", targets=TARGETS, duration_s=60, name="boom")
RECOVERY = call("recovery", probe="web", after="boom", objective="web", wait_s=1)
PROFILE = json.dumps({"objectives": {"web": {"rto_s": 5}}})


def submission(document: dict) -> op.SubmitRequest:
    return op.SubmitRequest(experiment_json=json.dumps(document).encode(), source="x.yaml", profile_json=PROFILE)


async def ended(operator, run_id: str, timeout_s: float = 40) -> tuple[op.Run, list[op.RunEvent]]:
    """The run once it has ended, and its events."""
    events = []

    async def follow() -> None:
        events.extend([event async for event in operator.Watch(op.WatchRequest(run_id=run_id))])

    await asyncio.wait_for(follow(), timeout_s)
    return (await operator.ShowRun(op.ShowRunRequest(run_id=run_id))).run, events


async def until(condition, timeout_s: float = 15) -> None:
    """Waits until *condition* (may be a coroutine function) is true."""
    give_up = time.monotonic() + timeout_s
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert time.monotonic() < give_up, "did not come true in time"
        await asyncio.sleep(0.02)
