"""One HTTP/1.1 response off a stream: status, framing, body.

Invariant: reads no more than the limits below, so that a service gone mad cannot fill the agent's memory.
Source: RFC 9112, sections 2 to 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.probes.endpoint import Stream

HEAD_MAX: Final = 65_536
BODY_MAX: Final = 4 << 20


class MalformedError(Exception):
    """What came is not an HTTP/1.1 response, or is larger than a probe should fetch."""


class ResponseReader:
    """Reads one response: `head`, then `body` if wanted."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._status = 0

    @property
    def started(self) -> bool:
        """Whether any byte has come."""
        return bool(self._buffer) or self._status > 0

    async def head(self) -> tuple[int, bool]:
        """Status of the final response, and whether the connection can be used again once the body is read."""
        self._status, version = await self._one_head()
        while 100 <= self._status < 200 and self._status != 101:
            self._status, version = await self._one_head()
        framed = b"content-length" in self._headers or self._chunked or self._bodyless
        closing = b"close" in self._headers.get(b"connection", b"").lower()
        return self._status, framed and not closing and version == b"HTTP/1.1"

    async def body(self) -> bytes:
        """The whole body; what follows it stays unread."""
        if self._bodyless:
            return b""
        if self._chunked:
            return await self._chunks()
        if b"content-length" in self._headers:
            return await self._exactly(_number(self._headers[b"content-length"], 10))
        while part := await self._stream.receive():
            self._buffer += part
            if len(self._buffer) > BODY_MAX:
                raise MalformedError("body too large")
        return bytes(self._buffer)

    @property
    def _chunked(self) -> bool:
        return self._headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked")

    @property
    def _bodyless(self) -> bool:
        return self._status in (204, 304)

    async def _one_head(self) -> tuple[int, bytes]:
        head = await self._until(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        version, _, rest = lines[0].partition(b" ")
        code = rest[:3]
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or not (len(code) == 3 and code.isdigit()):
            raise MalformedError("not an HTTP/1.1 status line")
        self._headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon:
                raise MalformedError("a header without a colon")
            self._headers[name.strip().lower()] = value.strip()
        return int(code), version

    async def _chunks(self) -> bytes:
        whole = bytearray()
        while size := _number((await self._until(b"\r\n")).partition(b";")[0].strip(), 16):
            whole += (await self._exactly(size + 2))[:size]
            if len(whole) > BODY_MAX:
                raise MalformedError("body too large")
        while await self._until(b"\r\n"):
            pass  # trailers
        return bytes(whole)

    async def _until(self, end: bytes) -> bytes:
        """Bytes up to *end*, which is taken off as well."""
        while (at := self._buffer.find(end)) < 0:
            if len(self._buffer) > HEAD_MAX:
                raise MalformedError("head too large")
            await self._more()
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return taken

    async def _exactly(self, size: int) -> bytes:
        if size > BODY_MAX:
            raise MalformedError("body too large")
        while len(self._buffer) < size:
            await self._more()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def _more(self) -> None:
        part = await self._stream.receive()
        if not part:
            raise ConnectionResetError("closed before the end of the response")
        self._buffer += part


def _number(digits: bytes, base: int) -> int:
    try:
        number = int(digits, base)
    except ValueError:
        number = -1
    if number < 0:
        raise MalformedError("a length that is no number")
    return number
