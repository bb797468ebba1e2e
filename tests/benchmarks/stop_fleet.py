"""Simulated agents for `bench_stop_all`: `python -m tests.benchmarks.stop_fleet ADDRESS AUTHORITY FIRST COUNT`.

Each has a certificate, a connection and an AgentLink stream of its own, and ends its effect the moment it is told to
stop. Writes `ready`; then, for every line that it reads, one JSON line: how many were told since the line before, when
the last of them was (CLOCK_MONOTONIC), and what this process has used of processor time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from protos.channel import CHANNEL_OPTIONS, channel_credentials  # isort: skip - before grpc
import grpc.aio
import uvloop

from controller.pki import Authority
from protos import blackstart_agent_pb2 as pb
from protos import blackstart_agent_pb2_grpc as rpc

FAULT = "test.fault"
HEARTBEAT_S = 2.0
TOGETHER = 40  # handshakes at once


class Tally:
    """What this process has seen of stops."""

    def __init__(self) -> None:
        self.told, self.last_ns = 0, 0

    def note(self) -> None:
        self.told, self.last_ns = self.told + 1, time.monotonic_ns()

    def line(self) -> str:
        row = {"told": self.told, "last_ns": self.last_ns, "cpu_s": time.process_time()}
        self.told = self.last_ns = 0
        return json.dumps(row)


class Agent:
    """One simulated agent."""

    def __init__(self, name: str, tally: Tally) -> None:
        self.name, self._tally, self._sequence = name, tally, 0
        self._effect: dict[str, Any] | None = None
        self.writing = asyncio.Lock()

    def hello(self) -> pb.AgentMessage:
        row = pb.Capability(family="fault", kind=FAULT, available=True, undo="guardian")
        hello = pb.Hello(
            agent_id=self.name, agent_version="1", boot_id="bench", spool_id="s", labels={"role": "bench"},
            capabilities=[row], monotonic_ns=time.monotonic_ns(), wall_ns=time.time_ns(),
        )  # fmt: skip
        return pb.AgentMessage(hello=hello)

    def answer(self, order: pb.Order) -> pb.AgentMessage:
        effects: list[dict[str, Any]] = []
        now_ns = time.monotonic_ns()
        if order.kind == "fault.inject":
            asked = json.loads(order.arguments_json)
            self._effect = {
                "id": self.name, "run_id": order.run_id, "injection": asked["injection"], "fault": FAULT,
                "description": "a simulated effect", "undo": "guardian", "resource": self.name, "state": "injected",
                "confirmed": True, "receipt": "simulated", "injected_lo_ns": now_ns, "injected_hi_ns": now_ns + 1,
                "reverted_ns": 0, "residue": [], "remedy": "", "note": "", "follows": "",
            }  # fmt: skip
            effects = [self._effect]
        elif order.kind in ("node.stop", "run.end", "fault.revert") and self._effect is not None:
            effects, self._effect = [self._effect | {"state": "reverted", "reverted_ns": now_ns}], None
        if order.kind == "node.stop":
            self._tally.note()
        self._sequence += 1
        body = json.dumps({"effects": effects, "residue": [], "attempts": {}}).encode()
        result = pb.Result(order_id=order.id, run_id=order.run_id, status=pb.STATUS_DONE, body_json=body)
        return pb.AgentMessage(sequence=self._sequence, result=result)

    async def run(self, address: str, credentials: grpc.ChannelCredentials, ready: asyncio.Semaphore) -> None:
        options = [*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            async with ready:
                call = rpc.AgentLinkStub(channel).Connect()
                await call.write(self.hello())
                await call.read()
            beating = asyncio.create_task(self._beat(call))
            while (message := await call.read()) is not grpc.aio.EOF:
                if message.HasField("order"):
                    reply = self.answer(message.order)
                    async with self.writing:
                        await call.write(reply)
            beating.cancel()

    async def _beat(self, call: Any) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            async with self.writing:
                await call.write(pb.AgentMessage(heartbeat=pb.Heartbeat(sent_ns=time.monotonic_ns())))


async def main(address: str, authority: Authority, first: int, count: int) -> None:
    tally, ready = Tally(), asyncio.Semaphore(TOGETHER)
    tasks = []
    for number in range(first, first + count):
        name = f"sim-{number:04}"
        cert, key = authority.issue(name, "agent")
        assert key is not None
        credentials = channel_credentials(cert, key, authority.ca_pem)
        tasks.append(asyncio.create_task(Agent(name, tally).run(address, credentials, ready)))
        await asyncio.sleep(0)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        print(tally.line(), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    made = Authority.load(Path(sys.argv[2]))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], made, int(sys.argv[3]), int(sys.argv[4])))
