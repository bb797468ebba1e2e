"""A real service for each kind of probe, which can be up, down, or hanging."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import ssl
import subprocess
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from protos.recovery import Code
from tests.contract import postgres_rig, redis_rig
from tests.contract.postgres_rig import Postgres
from tests.contract.redis_rig import RedisServer
from tests.contract.server_rig import RealRig

if TYPE_CHECKING:
    from pathlib import Path

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nall good"


class Rig(Protocol):
    kind: str
    hangs_as: Code
    bad_spec: ClassVar[dict[str, Any]]
    bad_fields: ClassVar[set[str]]

    async def up(self) -> dict[str, Any]:
        """Starts the service; the spec of a probe of it."""
        ...

    async def down(self) -> None: ...
    async def hang(self) -> None: ...


class ServerRig:
    """A server on loopback; *say* is what it answers to a request, or on connecting."""

    hangs_as = Code.TIMEOUT
    context: ssl.SSLContext | None = None
    greets = False
    say = ANSWER

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server: asyncio.Server | None = None
        self.hanging = False
        self.requests = self.connections = 0
        self.writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def up(self) -> dict[str, Any]:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self.context)
        self.port = self.server.sockets[0].getsockname()[1]
        return self.spec()

    def spec(self) -> dict[str, Any]:
        raise NotImplementedError

    async def down(self) -> None:
        if self.server is not None:
            self.server.close()
            self.drop()
            await self.server.wait_closed()

    def drop(self) -> None:
        """Resets every connection."""
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def hang(self) -> None:
        self.hanging = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        self.connections += 1
        try:
            while self.greets or await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                if not self.hanging:
                    writer.write(self.say)
                if self.greets or b"content-length" not in self.say.lower():
                    break
            if self.hanging or self.greets:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the probe has what it wanted
        finally:
            self.writers.discard(writer)
            writer.close()


class HttpRig(ServerRig):
    kind = "http"
    bad_spec: ClassVar[dict[str, Any]] = {"url": "ftp://x", "status_min": 700, "headers": {"a\r\nb": "c"}}
    bad_fields: ClassVar[set[str]] = {"url", "status_min", "headers"}

    def spec(self) -> dict[str, Any]:
        return {"url": f"http://127.0.0.1:{self.port}/health?full=1", "body_contains": "good"}


class HttpsRig(HttpRig):
    bad_spec: ClassVar[dict[str, Any]] = {"url": "https://", "ca_path": "/nowhere"}
    bad_fields: ClassVar[set[str]] = {"url", "ca_path"}

    async def up(self) -> dict[str, Any]:
        self.context = self.context or _certified(self.path)
        return await super().up()

    def spec(self) -> dict[str, Any]:
        return {"url": f"https://localhost:{self.port}/", "ca_path": str(self.path / "cert.pem")}


class KeepaliveRig(HttpRig):
    bad_spec: ClassVar[dict[str, Any]] = {"url": 5, "keepalive": "yes", "unknown": 1}
    bad_fields: ClassVar[set[str]] = {"url", "keepalive", "unknown"}

    def spec(self) -> dict[str, Any]:
        return {"url": f"http://127.0.0.1:{self.port}/", "keepalive": True}


class TcpRig(ServerRig):
    kind = "tcp"
    greets = True
    say = b"220 ready\r\n"
    bad_spec: ClassVar[dict[str, Any]] = {"host": "", "port": 70_000}
    bad_fields: ClassVar[set[str]] = {"host", "port"}

    def spec(self) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.port, "expect": "220 "}


class ProcessRig:
    kind = "process"
    hangs_as = Code.BAD
    bad_spec: ClassVar[dict[str, Any]] = {"pid": -1, "pattern": "("}
    bad_fields: ClassVar[set[str]] = {"pid_file", "pid", "pattern"}

    def __init__(self, path: Path) -> None:
        self.path = path / "pid"
        self.child: subprocess.Popen[bytes] | None = None

    async def up(self) -> dict[str, Any]:
        self.child = subprocess.Popen(["sleep", "60"])  # noqa: ASYNC220
        self.path.write_text(f"{self.child.pid}\n")
        return {"pid_file": str(self.path)}

    async def down(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait()

    async def hang(self) -> None:
        assert self.child is not None
        self.child.send_signal(signal.SIGSTOP)
        os.waitpid(self.child.pid, os.WUNTRACED)  # noqa: ASYNC222 stops at once


class CommandRig:
    kind = "command"
    hangs_as = Code.TIMEOUT
    bad_spec: ClassVar[dict[str, Any]] = {"argv": [], "shell": True}
    bad_fields: ClassVar[set[str]] = {"argv", "shell"}

    def __init__(self, path: Path) -> None:
        self.path = path

    async def up(self) -> dict[str, Any]:
        (self.path / "up").touch()
        return {"argv": ["sh", "-c", f"cd {self.path} && test -e up && if test -e hang; then sleep 60; fi"]}

    async def down(self) -> None:
        (self.path / "up").unlink(missing_ok=True)

    async def hang(self) -> None:
        (self.path / "hang").touch()


class PostgresRig(RealRig):
    kind = "postgres"
    hangs_as = Code.TIMEOUT
    bad_spec: ClassVar[dict[str, Any]] = {"dsn": "mysql://x", "mode": "verified_write", "table": "a; b"}
    bad_fields: ClassVar[set[str]] = {"dsn", "table"}
    missing = staticmethod(postgres_rig.missing)

    def make(self) -> Postgres:
        return Postgres()

    def spec(self) -> dict[str, Any]:
        return {"dsn": self.server.dsn, "mode": "verified_write"}


class RedisRig(RealRig):
    kind = "redis"
    hangs_as = Code.TIMEOUT
    bad_spec: ClassVar[dict[str, Any]] = {"url": "http://x", "master": "main", "wait_replicas": -1}
    bad_fields: ClassVar[set[str]] = {"url", "master", "wait_replicas"}
    missing = staticmethod(redis_rig.missing)

    def make(self) -> RedisServer:
        return RedisServer()

    def spec(self) -> dict[str, Any]:
        return {"url": self.server.url, "mode": "verified_write"}


RIGS = [HttpRig, HttpsRig, KeepaliveRig, TcpRig, ProcessRig, CommandRig, PostgresRig, RedisRig]


def _certified(path: Path) -> ssl.SSLContext:
    """A server's context with a self-signed certificate for localhost, written to *path*."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (path / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (path / "key.pem").write_bytes(key.private_bytes(pem, pkcs8, plain))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path / "cert.pem", path / "key.pem")
    return context
