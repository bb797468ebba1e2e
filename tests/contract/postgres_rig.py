"""A real PostgreSQL server on loopback, as the database's own user."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
from pathlib import Path

from agent.system import proc
from tests.contract.server_rig import Server

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def missing() -> str:
    if not BINARIES:
        return "install postgresql"
    return "" if os.getuid() == 0 else "needs root, to run as the database's own user"


class Postgres(Server):
    """One server; its data is kept over a stop and gone with `remove`."""

    def __init__(self) -> None:
        super().__init__("pg")
        account = pwd.getpwnam("postgres")
        os.chown(self.folder, account.pw_uid, account.pw_gid)
        self._run("initdb", "-D", str(self.folder / "data"), "-A", "trust", "--no-sync", "-E", "UTF8")

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self, **more: str) -> None:
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder,
                    "shared_buffers": "16MB", "fsync": "off", "max_connections": 60, **more}  # fmt: skip
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [*self._as_owner(), str(BINARIES[-1] / "postgres"), "-D", str(self.folder / "data"), *flags]
        self.launch(command, lambda: self.sql("SELECT 1") == "1", 20)

    def sql(self, text: str) -> str:
        """What `psql` prints; empty where it fails."""
        command = ["psql", "-AtqX", "-d", self.dsn, "-c", text]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout.strip()

    def signal(self, number: int) -> None:
        """To the server and all its children."""
        assert self.process is not None
        identity = proc.identify(self.process.pid)
        for one in proc.tree(identity) if identity else ():
            with contextlib.suppress(ProcessLookupError):  # a child that has just ended
                os.kill(one.pid, number)

    def stop(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGCONT)
            super().stop()
            (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def _as_owner(self) -> list[str]:
        return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"]

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_owner(), str(BINARIES[-1] / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd="/")
