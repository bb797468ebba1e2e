"""The bound for `bench_stop_all`: the same streams, messages and TLS, and nothing behind them.

`python -m tests.benchmarks.stop_bare AUTHORITY`. No store, no run, no audit, no deadline: `Stop` writes one order to
every stream and waits for as many answers. Writes one JSON line with its address.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from protos.channel import SERVER_OPTIONS, server_credentials  # isort: skip - before grpc
import grpc.aio
import uvloop

from controller.pki import Authority
from protos import blackstart_agent_pb2 as pb
from protos import blackstart_agent_pb2_grpc as agent_rpc
from protos import blackstart_operator_pb2 as op
from protos import blackstart_operator_pb2_grpc as operator_rpc


class Bare(agent_rpc.AgentLinkServicer, operator_rpc.OperatorServicer):
    """Both services."""

    def __init__(self) -> None:
        self._links: set[asyncio.Queue[pb.ControllerMessage]] = set()
        self._waiting = 0
        self._answered = asyncio.Event()

    async def Connect(self, request_iterator: AsyncIterator[pb.AgentMessage], context: Any) -> Any:  # noqa: N802
        queue: asyncio.Queue[pb.ControllerMessage] = asyncio.Queue()
        await anext(aiter(request_iterator))
        queue.put_nowait(pb.ControllerMessage(welcome=pb.Welcome(epoch=1)))
        self._links.add(queue)
        reading = asyncio.create_task(self._read(request_iterator))
        try:
            while True:
                yield await queue.get()
        finally:
            self._links.discard(queue)
            reading.cancel()

    async def _read(self, messages: AsyncIterator[pb.AgentMessage]) -> None:
        async for message in messages:
            if message.HasField("result"):
                self._waiting -= 1
                if self._waiting == 0:
                    self._answered.set()

    async def ListAgents(self, request: op.ListAgentsRequest, context: Any) -> op.ListAgentsReply:  # noqa: N802
        return op.ListAgentsReply(agents=[op.Agent(id=str(at), connected=True) for at in range(len(self._links))])

    async def Stop(self, request: op.StopRequest, context: Any) -> op.StopReply:  # noqa: N802
        self._answered.clear()
        self._waiting = len(self._links)
        order = pb.Order(id="1", kind="node.lift" if request.lift else "node.stop", epoch=1, arguments_json=b"{}")
        for queue in self._links:
            queue.put_nowait(pb.ControllerMessage(order=order))
        await self._answered.wait()
        return op.StopReply(agents=len(self._links))


async def main(folder: Path) -> None:
    authority, bare = Authority.load(folder), Bare()
    cert, key = authority.issue("bare", "controller", hosts=["127.0.0.1"])
    assert key is not None
    server = grpc.aio.server(options=[*SERVER_OPTIONS, ("grpc.max_concurrent_streams", 20_000)])
    port = server.add_secure_port("127.0.0.1:0", server_credentials(cert, key, authority.ca_pem))
    agent_rpc.add_AgentLinkServicer_to_server(bare, server)
    operator_rpc.add_OperatorServicer_to_server(bare, server)
    await server.start()
    print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1])))
