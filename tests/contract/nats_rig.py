"""A real NATS server with JetStream on loopback, and what others do to its streams, by another client than ours."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import socket
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, ClassVar

from protos.recovery import Code
from tests.contract.server_rig import RealRig, Server

if TYPE_CHECKING:
    from nats.js import JetStreamContext


def missing() -> str:
    if not shutil.which("nats-server"):
        return "install nats-server"
    return "" if importlib.util.find_spec("nats") else "install nats-py"


class NatsServer(Server):
    def __init__(self) -> None:
        super().__init__("nats")

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self, *options: str) -> None:
        command = ["nats-server", "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder), *options]
        self.launch(command, self._greets)

    def _greets(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False

    @contextlib.asynccontextmanager
    async def streams(self) -> AsyncIterator[JetStreamContext]:
        import nats

        client = await nats.connect(self.url)
        try:
            yield client.jetstream()
        finally:
            await client.close()


class NatsRig(RealRig):
    kind = "nats"
    hangs_as = Code.TIMEOUT
    bad_spec: ClassVar[dict[str, Any]] = {
        "servers": ["http://x"], "mode": "leader", "subject": "a.*", "replicas": 0,
    }  # fmt: skip
    bad_fields: ClassVar[set[str]] = {"servers", "stream", "subject", "replicas"}
    missing = staticmethod(missing)

    def make(self) -> NatsServer:
        return NatsServer()

    def spec(self) -> dict[str, Any]:
        return {"servers": [self.server.url], "mode": "deliver"}
