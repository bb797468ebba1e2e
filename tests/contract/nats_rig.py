"""A real NATS server with JetStream on loopback, and what others do to its streams, by another client than ours."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from protos.recovery import Code

if TYPE_CHECKING:
    from nats.js import JetStreamContext


def missing() -> str:
    if not shutil.which("nats-server"):
        return "install nats-server"
    return "" if importlib.util.find_spec("nats") else "install nats-py"


class NatsServer:
    """Its streams are kept over a stop and gone with `remove`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="blackstart-nats-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self, *options: str) -> None:
        command = ["nats-server", "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.folder), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while not self._greets():
            assert time.monotonic() < until
            time.sleep(0.02)

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

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class NatsRig:
    """A server that is stopped, and one that is frozen."""

    kind = "nats"
    hangs_as = Code.TIMEOUT
    bad_spec: ClassVar[dict[str, Any]] = {
        "servers": ["http://x"], "mode": "leader", "subject": "a.*", "replicas": 0,
    }  # fmt: skip
    bad_fields: ClassVar[set[str]] = {"servers", "stream", "subject", "replicas"}
    mode: ClassVar[str] = "deliver"

    def __init__(self, path: Path) -> None:
        del path
        self.server: NatsServer | None = None

    @staticmethod
    def missing() -> str:
        return missing()

    async def up(self) -> dict[str, Any]:
        self.server = self.server or NatsServer()
        self.server.start()
        return {"servers": [self.server.url], "mode": self.mode}

    async def down(self) -> None:
        if self.server is not None:
            self.server.stop()

    async def hang(self) -> None:
        assert self.server is not None
        self.server.signal(signal.SIGSTOP)

    def remove(self) -> None:
        if self.server is not None:
            self.server.remove()
