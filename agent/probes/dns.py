"""`dns`: a resolver answers a question over UDP, with the records that are expected.

Each attempt is one datagram from a port of its own: one that is lost is a failure, as it is a second of waiting for
a client. Nothing is asked again, and nothing of the node's own resolver is used but to find the server.
Source: RFC 1035, section 4; RFC 5452 (what makes an answer ours).
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from typing import Any, ClassVar, Final, Literal

import msgspec

from agent.probes.base import ProbeSpec, code_of
from agent.probes.limit import Limit
from agent.system import dns_message
from protos.recovery import Code

_SIZE_MAX: Final = 65_535
_CODES: Final = {name: number for number, name in dns_message.CODES.items()}


class DnsSpec(ProbeSpec):
    """*expect*: values that must all be among the answers; empty: there is one at least, if the *code* is NOERROR.

    A value is written as in a zone file, without the last dot: an address, a name, `10 mail.test`, a text.
    """

    server: str
    name: str
    port: int = 53
    kind: Literal["A", "AAAA", "CNAME", "MX", "NS", "PTR", "SRV", "TXT"] = "A"
    expect: list[str] = msgspec.field(default_factory=list)
    code: Literal["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "REFUSED"] = "NOERROR"

    def problems(self) -> list[tuple[str, str]]:
        found = [] if self.server else [("server", "is empty")]
        labels = self.name.removesuffix(".").split(".")
        if not self.name.isascii() or len(self.name) > 253 or not all(0 < len(label) < 64 for label in labels):
            found.append(("name", f"{self.name!r} is not a name"))
        if not 0 < self.port < 65_536:
            found.append(("port", f"{self.port} is not in 1..65535"))
        if self.expect and self.code != "NOERROR":
            found.append(("expect", f"an answer with code {self.code} has no records"))
        return found


class DnsProbe:
    """REFUSED: nobody listens at the port. BAD: another code, other records, or more than a datagram holds."""

    kind: ClassVar[str] = "dns"
    spec_type: ClassVar[type[ProbeSpec]] = DnsSpec

    def __init__(self, spec: DnsSpec) -> None:
        self._spec = spec
        self._asked = spec.name.removesuffix(".").lower()
        text = spec.kind == "TXT"
        self._expect = {value if text else value.removesuffix(".").lower() for value in spec.expect}
        self._address: tuple[int, Any] | None = None

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        try:
            await self._resolve()
        except socket.gaierror:
            self._address = None  # the attempts look again

    async def attempt(self, timeout_s: float) -> Code:
        try:
            async with Limit(timeout_s):
                return await self._ask()
        except OSError as error:
            self._address = None  # a name may point elsewhere by now; a numeric one costs nothing to read again
            return code_of(error)

    async def close(self) -> None:
        """Nothing to release."""

    async def _resolve(self) -> tuple[int, Any]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._spec.server, self._spec.port, type=socket.SOCK_DGRAM)
        family, _, _, _, address = found[0]
        self._address = family, address
        return self._address

    async def _ask(self) -> Code:
        family, address = self._address or await self._resolve()
        loop, number = asyncio.get_running_loop(), secrets.randbelow(65_536)
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as channel:
            channel.connect(address)  # only what this address sends is received, and its refusals are
            channel.send(dns_message.query(self._asked, dns_message.KINDS[self._spec.kind], number))
            while True:
                message = await loop.sock_recv(channel, _SIZE_MAX)
                code = self._judged(message, number)
                if code is not None:
                    return code

    def _judged(self, message: bytes, number: int) -> Code | None:
        """None: no answer to this question; ours may still come."""
        spec = self._spec
        try:
            asked = dns_message.question(message)
        except dns_message.MalformedError:
            return None
        wanted = (number, self._asked, dns_message.KINDS[spec.kind])
        if (int.from_bytes(message[:2], "big"), asked.name, asked.kind) != wanted:
            return None
        if dns_message.code(message) != _CODES[spec.code]:
            return Code.BAD
        if spec.code != "NOERROR":
            return Code.OK
        values = dns_message.values(message, asked, spec.kind)
        good = bool(values) and self._expect <= set(values) and not dns_message.truncated(message)
        return Code.OK if good else Code.BAD
