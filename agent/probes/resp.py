"""Redis's protocol, as much of it as a probe needs: a command, its answer.

A client of its own, since the general one takes 27 MB and a probe needs one command on one connection.
Source: the specification of RESP2.
"""

from __future__ import annotations

from typing import Final

from agent.probes.endpoint import Stream
from agent.probes.rotation import BrokenError, ErrorAnswerError

_ANSWER_MAX: Final = 256 << 20  # bytes: ten million numbers
Answer = bytes | int | None | list["Answer"]


class Resp:
    """One connection. After any error it is good for nothing but `close`."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._buffer, self._at = stream, bytearray(), 0

    async def call(self, *words: str | int) -> Answer:
        """The answer to a command; ErrorAnswerError for the server's own errors."""
        parts = [str(word).encode() for word in words]
        command = b"".join([b"*%d\r\n" % len(parts), *(b"$%d\r\n%b\r\n" % (len(one), one) for one in parts)])
        await self._stream.send(command)
        answer = await self._answer()
        del self._buffer[: self._at]
        self._at = 0
        return answer

    def close(self) -> None:
        self._stream.close()

    async def _answer(self) -> Answer:
        line = await self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise ErrorAnswerError(0, rest.decode(errors="replace"))
        if kind == b"+":
            return rest
        try:
            number = int(rest)
        except ValueError as error:
            raise BrokenError(f"no answer of Redis: {line[:40]!r}") from error
        if kind == b":":
            return number
        if kind == b"$":
            return None if number < 0 else await self._bytes(number)
        if kind == b"*":
            return None if number < 0 else [await self._answer() for _ in range(number)]
        raise BrokenError(f"no answer of Redis: {line[:40]!r}")

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n", self._at)) < 0:
            await self._more()
        line = bytes(self._buffer[self._at : end])
        self._at = end + 2
        return line

    async def _bytes(self, count: int) -> bytes:
        if count > _ANSWER_MAX:
            raise BrokenError(f"an answer of {count} bytes")
        while len(self._buffer) < self._at + count + 2:
            await self._more()
        content = bytes(self._buffer[self._at : self._at + count])
        self._at += count + 2
        return content

    async def _more(self) -> None:
        part = await self._stream.receive()
        if not part or len(self._buffer) > _ANSWER_MAX:
            raise BrokenError("the connection ended within an answer")
        self._buffer += part
