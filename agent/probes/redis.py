"""`redis`: the server answers, takes a key, gives it back, is the master, or enters a number into a ledger.

Where Sentinels are named, each connection asks them who the master is, as a client of the field does.
Source: docs of Redis, "WAIT", "ROLE", "Sentinel clients".
"""

from __future__ import annotations

import contextlib
import ssl
from typing import ClassVar, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from agent.probes.base import ProbeSpec
from agent.probes.broker import BrokerProbe
from agent.probes.endpoint import Endpoint
from agent.probes.limit import Limit
from agent.probes.resp import Resp
from agent.probes.rotation import BrokenError, ErrorAnswerError, greeted
from protos.recovery import Code

IDLE_MAX: Final = 8
_PORT, _PORT_SENTINEL = 6379, 26_379
_SENTINEL_S: Final = 0.3  # for one Sentinel to answer: another may be there


class RedisSpec(ProbeSpec):
    """*url* of the server, or *sentinels* (host:port each) and the *master*'s name. *mode*: what an attempt does.

    master: the server says that this is its role. ledger numbers its records, so that losses can be counted
    (`probe.ledger`). A write counts once *wait_replicas* replicas have it, within *wait_ms*. *keepalive*:
    connections are used again; else a fresh one each. *members*: further servers (name: url) that a ledger is read
    back from.
    """

    url: str = ""
    sentinels: list[str] = msgspec.field(default_factory=list)
    master: str = ""
    mode: Literal["ping", "write", "verified_write", "master", "ledger"] = "ping"
    key: str = ""
    wait_replicas: int = 0
    wait_ms: int = 1000
    keepalive: bool = True
    members: dict[str, str] = msgspec.field(default_factory=dict)

    def problems(self) -> list[tuple[str, str]]:
        found = []
        if bool(self.url) == bool(self.sentinels):
            found.append(("url", "either url or sentinels must name the server"))
        if bool(self.sentinels) != bool(self.master):
            found.append(("master", "sentinels and the master's name go together"))
        urls = {"url": self.url, **{f"members.{name}": url for name, url in self.members.items()}}
        found += [(name, f"{url!r} is not redis://…") for name, url in urls.items() if url and _strange(url)]
        if self.wait_replicas < 0 or self.wait_ms <= 0:
            found.append(("wait_replicas", "must not be below 0, and wait_ms must be above 0"))
        return found


class RedisProbe(BrokerProbe[Resp]):
    """REFUSED: no connection, or it broke. BAD: an error of the server, such as a write on a replica."""

    kind: ClassVar[str] = "redis"
    spec_type: ClassVar[type[ProbeSpec]] = RedisSpec

    def __init__(self, spec: RedisSpec) -> None:
        super().__init__(1, keep=spec.keepalive, ledger=spec.mode == "ledger")
        self._spec, self._key = spec, spec.key or "blackstart:probe"
        self._value = 0

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        if self.ledger is not None and not self._spec.key:
            self._key = f"blackstart:{self.ledger.name}"

    async def _numbers(self, connection: Resp) -> list[int]:
        if self._spec.sentinels:  # one that is behind may name what is no master any more
            role = await connection.call("ROLE")
            if not (isinstance(role, list) and role[:1] == [b"master"]):
                raise BrokenError("the Sentinels name a server that is not the master")
        return await self._listed(connection)

    async def _members(self, timeout_s: float) -> dict[str, list[int] | str]:
        members: dict[str, list[int] | str] = {}
        for name, url in self._spec.members.items():
            try:
                async with Limit(timeout_s):
                    with contextlib.closing(await self._to(url)) as connection:
                        members[name] = await self._listed(connection)
            except (OSError, ErrorAnswerError) as error:  # a member may be away; the service is not
                members[name] = str(error) or type(error).__name__
        return members

    async def _listed(self, connection: Resp) -> list[int]:
        found = await connection.call("LRANGE", self._key, 0, -1)
        return [int(one) for one in found if isinstance(one, bytes)] if isinstance(found, list) else []

    async def _clear(self, connection: Resp) -> None:
        """The ledger's own list; one whose key was given stays."""
        if not self._spec.key:
            await connection.call("DEL", self._key)

    async def _reach(self, at: int) -> Resp:
        """A connection to the server, or to the master that the first Sentinel to answer names."""
        del at  # there is one master
        if self._spec.url:
            return await self._to(self._spec.url)
        failure: Exception = BrokenError("no Sentinel knows the master")
        for place in self._spec.sentinels:
            url = f"redis://{place}" if ":" in place else f"redis://{place}:{_PORT_SENTINEL}"
            try:
                async with Limit(_SENTINEL_S):
                    sentinel = await self._to(url)
                    try:
                        found = await sentinel.call("SENTINEL", "get-master-addr-by-name", self._spec.master)
                    finally:
                        sentinel.close()
            except (OSError, ErrorAnswerError) as error:  # the next one may know
                failure = error
                continue
            if isinstance(found, list) and all(isinstance(one, bytes) for one in found):
                host, port = (one.decode() for one in found if isinstance(one, bytes))
                return await self._to(f"redis://{host}:{port}")
        raise failure

    async def _to(self, url: str) -> Resp:
        """A connection to the server at *url*."""
        parts = urlsplit(url)
        if url not in self._endpoints:
            context = ssl.create_default_context() if parts.scheme == "rediss" else None
            self._endpoints[url] = Endpoint(parts.hostname or "", parts.port or _PORT, context)
        wire = Resp(await self._endpoints[url].connect())
        return await greeted(wire, _greet(wire, parts))

    async def _do(self, connection: Resp) -> Code:
        mode = self._spec.mode
        if mode == "ping":
            return Code.OK if await connection.call("PING") == b"PONG" else Code.BAD
        if mode == "master":
            role = await connection.call("ROLE")
            return Code.OK if isinstance(role, list) and role[:1] == [b"master"] else Code.BAD
        if mode == "ledger":
            return await self._enter(connection)
        self._value += 1
        value = self._value
        await connection.call("SET", self._key, value, "EX", 3600)
        if not await self._copied(connection):
            return Code.BAD
        if mode == "verified_write":
            found = await connection.call("GET", self._key)
            return Code.OK if isinstance(found, bytes) and int(found) >= value else Code.BAD
        return Code.OK

    async def _enter(self, connection: Resp) -> Code:
        assert self.ledger is not None
        if self.ledger.full:
            return Code.ERROR
        number = self.ledger.send()
        try:
            await connection.call("RPUSH", self._key, number)
        except ErrorAnswerError:
            self.ledger.refused(number)  # READONLY, NOREPLICAS, OOM: the server did not take it
            raise
        if not await self._copied(connection):
            return Code.BAD  # written, and not on enough replicas: nobody promised anything
        self.ledger.acknowledged(number)
        return Code.OK

    async def _copied(self, connection: Resp) -> bool:
        wanted = self._spec.wait_replicas
        if not wanted:
            return True
        found = await connection.call("WAIT", wanted, self._spec.wait_ms)
        return isinstance(found, int) and found >= wanted


async def _greet(wire: Resp, parts: SplitResult) -> None:
    if parts.password:
        user = [unquote(parts.username)] if parts.username else []
        await wire.call("AUTH", *user, unquote(parts.password))
    if database := parts.path.strip("/"):
        await wire.call("SELECT", database)


def _strange(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.port == 0
    except ValueError:
        return True
