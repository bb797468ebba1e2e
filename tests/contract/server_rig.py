"""Real servers on loopback: a folder, a port, a process that is stopped or frozen; and what their rigs share."""

from __future__ import annotations

import abc
import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

LOOK_S = 0.02  # between two questions whether a server is ready


def free_port(*kinds: int) -> int:
    """A port of loopback that no socket of these kinds has; TCP, if none is named."""
    for _ in range(100):
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            port = 0
            for kind in kinds or (socket.SOCK_STREAM,):
                one = held.enter_context(socket.socket(type=kind))
                one.bind(("127.0.0.1", port))
                port = int(one.getsockname()[1])
            return port
    raise AssertionError("no port is free for all kinds")


class Server:
    """One server; what it keeps in *folder* is there over a stop and gone with `remove`."""

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"blackstart-{name}-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, command: Sequence[str], ready: Callable[[], bool], within_s: float = 10) -> None:
        """Starts it and waits until it is *ready*; its output goes to the file `log`."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + within_s
        while not ready():
            assert time.monotonic() < until, (self.folder / "log").read_text()
            time.sleep(LOOK_S)

    def accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

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


class RealRig(abc.ABC):
    """A server that is stopped, and one that is frozen."""

    def __init__(self, path: Path) -> None:
        del path
        self.server: Any = None

    @abc.abstractmethod
    def make(self) -> Any:
        """The server, not started."""

    @abc.abstractmethod
    def spec(self) -> dict[str, Any]:
        """Of a probe that asks it."""

    async def up(self) -> dict[str, Any]:
        self.server = self.server or self.make()
        self.server.start()
        return self.spec()

    async def down(self) -> None:
        if self.server is not None:
            self.server.stop()

    async def hang(self) -> None:
        self.server.signal(signal.SIGSTOP)

    def remove(self) -> None:
        if self.server is not None:
            self.server.remove()
