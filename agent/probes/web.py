"""HTTP/1.1 requests of probes.

A client of its own, since a probe needs one request on one connection, at a tenth of the price of a general client.
Source: RFC 9112 (framing of messages).
Invariant: only origins that the spec names are ever asked, whatever a service's answers say; redirects are not
followed. A body larger than `message.BODY_MAX` is an error of the service.
"""

from __future__ import annotations

import ssl
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec

from agent.probes.base import ProbeSpec, code_of
from agent.probes.endpoint import Endpoint, Stream
from agent.probes.message import MalformedError, ResponseReader
from agent.system import small_file
from protos.recovery import Code

IDLE_MAX: Final = 8  # connections kept of each origin
_BARE_MAX: Final = 64  # requests without content or headers of their own that are made once
_CA_BYTES: Final = 1_000_000
_PORTS: Final = {"http": 80, "https": 443}

Origin = tuple[str, str, int]  # scheme, host, port


class WebSpec(ProbeSpec):
    """A fresh connection for each request, unless *keepalive*."""

    url: str
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    keepalive: bool = False
    fresh_lookup: bool = False  # the host's name is looked up for each connection, not only after a failure
    ca_path: str = ""  # authority of the service's certificate; empty: the system's
    verify: bool = True

    def problems(self) -> list[tuple[str, str]]:
        found = [] if usable(self.url) else [("url", f"{self.url!r} is not http:// or https:// with a host")]
        for name, value in self.headers.items():
            if not name or any(character in "\r\n\0" for character in name + value) or ":" in name:
                found.append(("headers", f"{name!r} is not a header"))
        if self.ca_path:
            try:
                _context(self.ca_path, verify=self.verify)
            except (OSError, ValueError) as error:  # what is in it may be no certificate
                found.append(("ca_path", f"cannot read certificates from {self.ca_path}: {error}"))
        return found


class Answer(NamedTuple):
    """*body*: empty where it was not asked for."""

    status: int
    body: bytes


class Web:
    """A client of the origins of *urls*. Requests may overlap."""

    def __init__(self, spec: WebSpec, *urls: str) -> None:
        self._spec, self._idle = spec, dict[Origin, list[Stream]]()
        self._bare: dict[tuple[str, str], tuple[Origin, bytes]] = {}
        self._given = {name.lower() for name in spec.headers}
        origins = {origin(urlsplit(url)) for url in (spec.url, *urls)}
        secure = any(scheme == "https" for scheme, _, _ in origins)
        context = _context(spec.ca_path, verify=spec.verify) if secure else None
        self._endpoints = {
            one: Endpoint(one[1], one[2], context if one[0] == "https" else None, fresh_lookup=spec.fresh_lookup)
            for one in sorted(origins)
        }

    async def open(self) -> None:
        for endpoint in self._endpoints.values():
            await endpoint.open()

    async def close(self) -> None:
        for streams in self._idle.values():
            while streams:
                streams.pop().close()
        for endpoint in self._endpoints.values():
            await endpoint.close()

    async def ask(
        self, method: str, url: str, content: bytes | None = None, *,
        body: bool = True, headers: dict[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """One request; without *body* only the status is waited for.

        Raises:
            MalformedError: *url* is of no origin that the spec names, or the answer is not HTTP/1.1.
            OSError: no connection, or it broke.
        """
        known = self._bare.get((method, url)) if content is None and not headers else None
        place, request = known or self._prepared(method, url, content, headers)
        idle = self._idle.setdefault(place, [])
        if idle:
            answer = await self._exchange(idle.pop(), idle, request, body=body, reused=True)
            if answer is not None:
                return answer
        answer = await self._exchange(await self._endpoints[place].connect(), idle, request, body=body, reused=False)
        assert answer is not None
        return answer

    def _prepared(
        self, method: str, url: str, content: bytes | None, headers: dict[str, str] | None
    ) -> tuple[Origin, bytes]:
        """Where *url* is asked, and by what bytes; known by heart where they are always the same."""
        if not usable(url) or (place := origin(parts := urlsplit(url))) not in self._endpoints:
            raise MalformedError(f"{url[:200]!r} is of no origin that the spec names")
        request = self._request(method, parts, content, headers or {})
        if content is None and not headers and len(self._bare) < _BARE_MAX:
            self._bare[method, url] = place, request
        return place, request

    async def _exchange(
        self, stream: Stream, idle: list[Stream], request: bytes, *, body: bool, reused: bool
    ) -> Answer | None:
        """None when a reused connection turned out to be closed, which says nothing of the service.

        What is sent again then is GET, PUT or DELETE, which may be carried out twice (RFC 9110, section 9.2.2).
        """
        reader, kept = ResponseReader(stream), False
        try:
            await stream.send(request)
            status, whole = await reader.head()
            found = await reader.body() if body or self._spec.keepalive else b""
            kept = self._spec.keepalive and whole and len(idle) < IDLE_MAX
            return Answer(status, found if body else b"")
        except ConnectionError:
            if reused and not reader.started:
                return None
            raise
        finally:
            if kept:
                idle.append(stream)
            else:
                stream.close()

    def _request(self, method: str, parts: SplitResult, content: bytes | None, headers: dict[str, str]) -> bytes:
        defaults = {
            "Host": host(parts),
            "User-Agent": "blackstart-probe",
            "Accept": "*/*",
            "Connection": "keep-alive" if self._spec.keepalive else "close",
        }
        if content is not None:
            defaults["Content-Length"] = str(len(content))
        kept = {name: value for name, value in defaults.items() if name.lower() not in self._given}
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        rows = {**kept, **self._spec.headers, **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in rows.items()), "", ""]
        return "\r\n".join(lines).encode() + (content or b"")


def failure(error: OSError) -> Code:
    """What a request that failed with *error* says of the service: a TLS that is wrong is an answer."""
    return Code.BAD if isinstance(error, ssl.SSLError) else code_of(error)


def usable(url: str) -> bool:
    """Whether *url* can be asked: http or https, a host, and no character that would end the request's line."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return good and url.isascii() and not any(character <= " " or character == "\x7f" for character in url)


def host(parts: SplitResult) -> str:
    """What the header `Host` says: the port too, where the url names one."""
    return parts.netloc.rpartition("@")[2]


def origin(parts: SplitResult) -> Origin:
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80)


def _context(path: str, *, verify: bool) -> ssl.SSLContext:
    """A context that trusts the certificates in the file at *path* ("": the system's)."""
    content = small_file.read(path, _CA_BYTES).decode("ascii") if path else None
    context = ssl.create_default_context(cadata=content)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
