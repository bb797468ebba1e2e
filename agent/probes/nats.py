"""`nats`: a server answers, a stream of JetStream takes a message, delivers it, or takes numbered records.

A client stays with its server until an attempt fails there, and then goes to the next of its list: a server that was
cut off from the others still accepts, and would keep it for ever. Source: docs of NATS, "JetStream wire API".
"""

from __future__ import annotations

import asyncio
import re
from typing import ClassVar, Final, Literal
from urllib.parse import unquote, urlsplit

from agent.probes.base import ProbeSpec
from agent.probes.broker import BrokerProbe
from agent.probes.endpoint import Endpoint
from agent.probes.nats_stream import MISSING, consume, leads, make, numbers
from agent.probes.nats_wire import NatsWire, NobodyError
from agent.probes.rotation import greeted
from protos.recovery import Code

_PORT: Final = 4222
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SUBJECT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,8}")


class NatsSpec(ProbeSpec):
    """*servers* as `nats://user:password@host:port`, or less of it. *mode*: what an attempt does.

    ping: the server answers. publish: the stream acknowledges a message. deliver: and a consumer gets it. leader: the
    server leads the stream. ledger numbers its records, so that losses can be counted (`probe.ledger`). A *stream* that
    is not there is made once, with *replicas* in *storage*, for all subjects under *subject* (the stream's name, where
    there is none); one that is there stays as it is. *keepalive*: connections are used again; else a fresh one each.
    """

    servers: list[str]
    mode: Literal["ping", "publish", "deliver", "leader", "ledger"] = "ping"
    stream: str = ""
    subject: str = ""
    replicas: int = 1
    storage: Literal["file", "memory"] = "file"
    keepalive: bool = True

    def problems(self) -> list[tuple[str, str]]:
        found = [] if self.servers else [("servers", "names none")]
        found += [("servers", f"{url!r} is not nats://host:port") for url in self.servers if _strange(url)]
        if self.stream and not _NAME.fullmatch(self.stream):
            found.append(("stream", f"{self.stream!r} is not a plain name"))
        if self.mode == "leader" and not self.stream:
            found.append(("stream", "which one it leads must be named"))
        if self.subject and not _SUBJECT.fullmatch(self.subject):
            found.append(("subject", f"{self.subject!r} is not words with dots between them"))
        return found if 1 <= self.replicas <= 5 else [*found, ("replicas", f"{self.replicas} is not in 1..5")]


class NatsProbe(BrokerProbe[NatsWire]):
    """REFUSED: no connection, or it broke. BAD: an error of the server, such as a stream without a leader."""

    kind: ClassVar[str] = "nats"
    spec_type: ClassVar[type[ProbeSpec]] = NatsSpec
    missing_status: ClassVar[int] = MISSING

    def __init__(self, spec: NatsSpec) -> None:
        super().__init__(len(spec.servers), keep=spec.keepalive, ledger=spec.mode == "ledger")
        self._spec, self._servers = spec, [urlsplit(_whole(url)) for url in spec.servers]
        self._endpoints = {
            at: Endpoint(parts.hostname or "", parts.port or _PORT) for at, parts in enumerate(self._servers)
        }
        self._making = asyncio.Lock()
        self._made = False
        self._values = 0
        self._name("blackstart_probe")

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        if self.ledger is not None:
            self._name(self.ledger.name)

    async def _numbers(self, connection: NatsWire) -> list[int]:
        return await numbers(connection, self._stream, self._subject)

    def _name(self, own: str) -> None:
        """Where it writes: records of each ledger under a subject of their own, so that one stream takes many."""
        self._stream = self._spec.stream or own
        self._subject = f"{self._spec.subject or self._stream}.{own}"

    async def _reach(self, at: int) -> NatsWire:
        parts = self._servers[at]
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        credentials = {"user": user, "pass": password} if password else {"auth_token": user} if user else {}
        wire = NatsWire(await self._endpoints[at].connect())
        return await greeted(wire, wire.greet(credentials))

    async def _do(self, connection: NatsWire) -> Code:
        mode = self._spec.mode
        if mode == "ping":
            await connection.ping()
            return Code.OK
        if mode == "leader":
            return Code.OK if await leads(connection, self._stream) else Code.BAD
        if not self._made:
            await self._make(connection)
        if mode == "ledger":
            return await self._enter(connection)
        self._values += 1
        value = b"%d" % self._values
        if mode == "publish":
            await connection.publish(self._subject, value)
            return Code.OK
        return await self._deliver(connection, value)

    async def _make(self, connection: NatsWire) -> None:
        """The stream, once: one that was lost later is not made again."""
        async with self._making:
            if not self._made:
                spec = self._spec
                subjects = f"{spec.subject or self._stream}.>"
                await make(connection, self._stream, subjects, spec.replicas, spec.storage, keep=self.keeps_ledger)
                self._made = True

    async def _deliver(self, connection: NatsWire, value: bytes) -> Code:
        """To a consumer of this connection alone; its server may be lost, and with it the connection is."""
        subject = f"{self._subject}.{connection.token}"
        if not connection.consumes:
            config = {"deliver_subject": connection.inbox, "deliver_policy": "new"}
            await consume(connection, self._stream, subject, config)
            connection.consumes = True
        await connection.publish(subject, value)
        while (await connection.delivered()).content != value:
            pass
        return Code.OK

    async def _enter(self, connection: NatsWire) -> Code:
        assert self.ledger is not None
        if self.ledger.full:
            return Code.ERROR
        number = self.ledger.send()
        try:
            await connection.publish(self._subject, b"%d" % number)
        except NobodyError:
            self.ledger.refused(number)  # of all other errors nobody knows what the replicas did before
            raise
        self.ledger.acknowledged(number)
        return Code.OK

    async def _clear(self, connection: NatsWire) -> None:
        """All of a stream of its own, else its own subject."""
        if self._spec.stream:
            await connection.ask(f"$JS.API.STREAM.PURGE.{self._stream}", {"filter": self._subject})
        else:
            await connection.ask(f"$JS.API.STREAM.DELETE.{self._stream}")


def _whole(url: str) -> str:
    return url if "://" in url else f"nats://{url}"


def _strange(url: str) -> bool:
    try:
        parts = urlsplit(_whole(url))
        return parts.scheme != "nats" or not parts.hostname or parts.port == 0 or bool(parts.path)
    except ValueError:
        return True
