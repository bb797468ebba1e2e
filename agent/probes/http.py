"""`http`: GET answers with an expected status, and body where one is asked for.

A client of its own, since a probe needs one request on one connection, at a tenth of the price of a general client.
Source: RFC 9112 (framing of messages).
"""

from __future__ import annotations

import ssl
from typing import ClassVar, Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from agent.probes.base import ProbeSpec, code_of
from agent.probes.endpoint import Endpoint, Stream
from agent.probes.limit import Limit
from agent.probes.message import MalformedError, ResponseReader
from agent.system import small_file
from protos.recovery import Code

IDLE_MAX: Final = 8
_CA_BYTES: Final = 1_000_000


class HttpSpec(ProbeSpec):
    """A fresh connection an attempt, unless *keepalive*; the body is read only for *body_contains* or *keepalive*."""

    url: str
    status_min: int = 200
    status_max: int = 299
    body_contains: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    keepalive: bool = False
    ca_path: str = ""  # authority of the service's certificate; empty: the system's
    verify: bool = True

    def problems(self) -> list[tuple[str, str]]:
        found = []
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or any(character <= " " for character in self.url):
            found.append(("url", f"{self.url!r} is not http:// or https:// with a host"))
        if not 100 <= self.status_min <= self.status_max <= 599:
            found.append(("status_min", f"{self.status_min}..{self.status_max} is not a range within 100..599"))
        for name, value in self.headers.items():
            if not name or any(character in "\r\n\0" for character in name + value) or ":" in name:
                found.append(("headers", f"{name!r} is not a header"))
        if self.ca_path:
            try:
                _authorities(self.ca_path)
            except (OSError, ValueError) as error:  # what is in it may be no certificate
                found.append(("ca_path", f"cannot read certificates from {self.ca_path}: {error}"))
        return found


class HttpProbe:
    kind: ClassVar[str] = "http"
    spec_type: ClassVar[type[ProbeSpec]] = HttpSpec

    def __init__(self, spec: HttpSpec) -> None:
        self._spec, parts = spec, urlsplit(spec.url)
        context = _context(spec) if parts.scheme == "https" else None
        self._endpoint = Endpoint(parts.hostname or "", parts.port or (443 if context else 80), context)
        self._request = _request(spec, parts)
        self._body = spec.body_contains.encode()
        self._idle: list[Stream] = []

    @staticmethod
    def missing() -> str:
        return ""

    async def open(self) -> None:
        await self._endpoint.open()

    async def attempt(self, timeout_s: float) -> Code:
        try:
            async with Limit(timeout_s):
                return await self._ask()
        except (MalformedError, ssl.SSLError):
            return Code.BAD
        except OSError as error:
            return code_of(error)

    async def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
        await self._endpoint.close()

    async def _ask(self) -> Code:
        if self._idle:
            answer = await self._exchange(self._idle.pop(), reused=True)
            if answer is not None:
                return answer
        return await self._exchange(await self._endpoint.connect(), reused=False) or Code.OK

    async def _exchange(self, stream: Stream, *, reused: bool) -> Code | None:
        """One request; None when a reused connection turned out to be closed, which says nothing of the service."""
        reader, kept = ResponseReader(stream), False
        try:
            await stream.send(self._request)
            status, whole = await reader.head()
            body = await reader.body() if self._body or self._spec.keepalive else b""
            kept = self._spec.keepalive and whole and len(self._idle) < IDLE_MAX
            good = self._spec.status_min <= status <= self._spec.status_max and self._body in body
            return Code.OK if good else Code.BAD
        except ConnectionError:
            if reused and not reader.started:
                return None
            raise
        finally:
            if kept:
                self._idle.append(stream)
            else:
                stream.close()


def _authorities(path: str) -> ssl.SSLContext:
    """A context that trusts the certificates in the file at *path* ("": the system's)."""
    content = small_file.read(path, _CA_BYTES).decode("ascii") if path else None
    return ssl.create_default_context(cadata=content)


def _request(spec: HttpSpec, parts: SplitResult) -> bytes:
    given = {name.lower() for name in spec.headers}
    defaults = {
        "Host": parts.netloc.rpartition("@")[2],
        "User-Agent": "blackstart-probe",
        "Accept": "*/*",
        "Connection": "keep-alive" if spec.keepalive else "close",
    }
    headers = {**{name: value for name, value in defaults.items() if name.lower() not in given}, **spec.headers}
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


def _context(spec: HttpSpec) -> ssl.SSLContext:
    context = _authorities(spec.ca_path)
    if not spec.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
