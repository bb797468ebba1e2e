"""A real Redis server on loopback."""

from __future__ import annotations

import shutil
import subprocess

from tests.contract.server_rig import Server


def missing() -> str:
    return "" if shutil.which("redis-server") else "install redis-server"


class RedisServer(Server):
    def __init__(self) -> None:
        super().__init__("redis")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self, *options: str) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
                   "--save", "", "--appendonly", "yes", "--appendfsync", "always", *options]  # fmt: skip
        self.launch(command, lambda: self.say("PING") == "PONG")

    def say(self, *words: str) -> str:
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout.strip()
