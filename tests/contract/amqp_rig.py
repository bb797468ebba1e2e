"""A real RabbitMQ node on loopback, one for all tests of a process, since it takes seconds to start."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from protos.recovery import Code
from tests.contract.server_rig import free_port

if TYPE_CHECKING:
    from aiormq.abc import AbstractChannel

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
BOOT_S = 60


def missing() -> str:
    if not PROGRAM.exists() or not shutil.which("erl_call"):
        return "install rabbitmq-server"
    return "" if importlib.util.find_spec("aiormq") else "install aiormq"


class RabbitNode:
    """The machine of Erlang stays; the server in it is stopped and started, or all of it frozen."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="blackstart-rabbit-"))
        self.port, epmd = free_port(), free_port()
        self.node = f"probe{self.port}@localhost"
        (self.folder / "plugins").write_text("[].")
        (self.folder / "rabbitmq.conf").write_text(f"listeners.tcp.default = 127.0.0.1:{self.port}\n")
        (self.folder / ".erlang.cookie").write_text("probed")
        (self.folder / ".erlang.cookie").chmod(0o400)
        self.environment = {
            **os.environ, "HOME": str(self.folder), "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_NODENAME": self.node, "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"), "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"), "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_DIST_PORT": str(free_port()), "ERL_EPMD_PORT": str(epmd), "ERL_EPMD_ADDRESS": "127.0.0.1",
        }  # fmt: skip
        self.names = self._run("epmd", "-port", str(epmd), "-address", "127.0.0.1")
        self.process = self._run(str(PROGRAM), "-noinput")
        atexit.register(self.remove)
        self._await_running("rabbit is_running []")  # it starts by itself

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}"

    def call(self, words: str) -> str:
        command = ["erl_call", "-c", "probed", "-n", self.node, "-a", words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout

    def start(self) -> None:
        self.signal(signal.SIGCONT)
        self._await_running("rabbit start []")  # which does nothing while a stop is under way

    def stop(self) -> None:
        self.signal(signal.SIGCONT)
        self.call("rabbit stop []")

    def _running(self) -> bool:
        return "true" in self.call("rabbit is_running []")

    def _await_running(self, words: str) -> None:
        """Says *words* until it runs; each takes a tenth of a second and more."""
        until = time.monotonic() + BOOT_S
        while not self._running():
            assert time.monotonic() < until, "RabbitMQ does not start"
            self.call(words)

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """Of another client than ours."""
        import aiormq

        connection = await aiormq.connect(self.url)
        try:
            yield await connection.channel(publisher_confirms=True)
        finally:
            await connection.close()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def remove(self) -> None:
        for process in (self.process, self.names):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def shared_node() -> RabbitNode:
    return RabbitNode()


class AmqpRig:
    """A server that is stopped, and one that is frozen."""

    kind = "amqp"
    hangs_as = Code.TIMEOUT
    bad_spec: ClassVar[dict[str, Any]] = {"servers": ["http://x"], "queue": "x" * 300}
    bad_fields: ClassVar[set[str]] = {"servers", "queue"}

    def __init__(self, path: Path) -> None:
        del path

    @staticmethod
    def missing() -> str:
        return missing()

    async def up(self) -> dict[str, Any]:
        shared_node().start()
        return {"servers": [shared_node().url], "mode": "deliver"}

    async def down(self) -> None:
        shared_node().stop()

    async def hang(self) -> None:
        shared_node().signal(signal.SIGSTOP)
