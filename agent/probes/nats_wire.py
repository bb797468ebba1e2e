"""NATS's protocol, as much of it as a probe needs: requests with their answers, and what a consumer delivers.

A client of its own: nats-py leaves a socket open for each connect that a time limit cuts off at a frozen server.
Source: docs of NATS, "Client protocol" and "JetStream wire API".
"""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from agent.probes.endpoint import Stream
from agent.probes.rotation import BrokenError, ErrorAnswerError

_BUFFER_MAX: Final = 16 << 20  # bytes of one message, or of many that wait
_CONSUMED_MAX: Final = 1 << 16
_ANSWERS, _DELIVERIES = "1", "2"  # subscriptions
NOBODY: Final = 503  # the status of "no responders"


class NobodyError(ErrorAnswerError):
    """No server has a subscriber for the subject: nobody got the message."""


@dataclass(frozen=True, slots=True)
class Message:
    """*status* is 0 where the message has none."""

    subject: str
    reply: str
    content: bytes
    status: int = 0


class NatsWire:
    """One connection. After any error but NobodyError it is good for nothing but `close`."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._buffer, self._at = stream, bytearray(), 0
        self.token = secrets.token_hex(8)
        self.inbox = f"_INBOX.{self.token}.deliveries"
        self._requests = itertools.count()
        self._early: list[Message] = []  # deliveries that came while an answer was awaited
        self.info: dict[str, Any] = {}
        self.consumes = False  # the owner's

    async def greet(self, credentials: dict[str, str]) -> None:
        """What a client says first; ErrorAnswerError where the server does not want it."""
        line = await self._line()
        if not line.startswith(b"INFO "):
            raise BrokenError(f"no server of NATS: {line[:40]!r}")
        self.info = _json(line[5:])
        options = {
            "verbose": False, "pedantic": False, "headers": True, "no_responders": True, "protocol": 1,
            "lang": "python", "version": "0", "name": "blackstart-probe", **credentials,
        }  # fmt: skip
        subscriptions = f"SUB _INBOX.{self.token}.answers.* {_ANSWERS}\r\nSUB {self.inbox} {_DELIVERIES}\r\n"
        await self._stream.send(b"CONNECT %b\r\n%b" % (msgspec.json.encode(options), subscriptions.encode()))
        await self.ping()

    async def ping(self) -> None:
        await self._stream.send(b"PING\r\n")
        while (found := await self._next()) is not None:
            self._early.append(found[1])

    async def request(self, subject: str, content: bytes = b"") -> bytes:
        """The answer to a message. NobodyError: it reached nobody."""
        reply = f"_INBOX.{self.token}.answers.{next(self._requests)}"
        await self._stream.send(b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(content), content))
        while True:
            found = await self._next()
            if found is None:
                continue
            subscription, message = found
            if subscription == _DELIVERIES:
                self._early.append(message)
            elif message.subject == reply:
                if message.status == NOBODY:
                    raise NobodyError(NOBODY, "nobody is there to answer")
                return message.content

    async def ask(self, subject: str, question: dict[str, Any] | None = None) -> dict[str, Any]:
        """JetStream's answer to a request of its API, or to a message that a stream takes."""
        return _answer(await self.request(subject, msgspec.json.encode(question) if question else b""))

    async def publish(self, subject: str, content: bytes) -> dict[str, Any]:
        """A stream's acknowledgement."""
        answer = _answer(await self.request(subject, content))
        if not answer.get("stream"):
            raise BrokenError("an answer that is no acknowledgement of a stream")
        return answer

    async def send(self, subject: str, question: dict[str, Any]) -> None:
        """Asks for deliveries."""
        content = msgspec.json.encode(question)
        await self._stream.send(
            b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), self.inbox.encode(), len(content), content)
        )

    async def delivered(self) -> Message:
        """The next message for `inbox`."""
        while not self._early:
            found = await self._next()
            if found is not None and found[0] == _DELIVERIES:
                return found[1]
        return self._early.pop(0)

    def close(self) -> None:
        self._stream.close()

    async def _next(self) -> tuple[str, Message] | None:
        """The next message with its subscription; None: the answer to a ping."""
        while True:
            line = await self._line()
            verb, _, rest = line.partition(b" ")
            if verb in (b"MSG", b"HMSG"):
                return await self._message(verb, rest)
            if line == b"PONG":
                return None
            if line == b"PING":
                await self._stream.send(b"PONG\r\n")
            elif verb == b"-ERR":
                raise ErrorAnswerError(0, rest.decode(errors="replace"))
            elif verb not in (b"INFO", b"+OK"):
                raise BrokenError(f"no message of NATS: {line[:40]!r}")

    async def _message(self, verb: bytes, rest: bytes) -> tuple[str, Message]:
        words = rest.decode(errors="replace").split(" ")
        sizes = 2 if verb == b"HMSG" else 1
        try:
            head, (heading, size) = words[:-sizes], ([0, *map(int, words[-sizes:])])[-2:]
            subject, subscription = head[0], head[1]
        except (ValueError, IndexError) as error:
            raise BrokenError(f"no message of NATS: {rest[:40]!r}") from error
        if not 0 <= heading <= size <= _BUFFER_MAX:
            raise BrokenError(f"a message of {size} bytes")
        content = await self._bytes(size)
        reply = head[2] if len(head) > 2 else ""
        return subscription, Message(subject, reply, content[heading:], _status(content[:heading]))

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n", self._at)) < 0:
            await self._more()
        line = bytes(self._buffer[self._at : end])
        self._at = end + 2
        return line

    async def _bytes(self, count: int) -> bytes:
        while len(self._buffer) < self._at + count + 2:
            await self._more()
        content = bytes(self._buffer[self._at : self._at + count])
        self._at += count + 2
        return content

    async def _more(self) -> None:
        if self._at > _CONSUMED_MAX or self._at == len(self._buffer):
            del self._buffer[: self._at]
            self._at = 0
        part = await self._stream.receive()
        if not part or len(self._buffer) > _BUFFER_MAX:
            raise BrokenError("the connection ended within a message")
        self._buffer += part


def _status(head: bytes) -> int:
    """Of `NATS/1.0 503 …`; 0 where there is none."""
    words = head.partition(b"\r\n")[0].split(b" ")
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def _json(content: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BrokenError(f"no JSON: {content[:40]!r}") from error


def _answer(content: bytes) -> dict[str, Any]:
    answer = _json(content)
    error = answer.get("error")
    if isinstance(error, dict):
        code = error.get("code")
        raise ErrorAnswerError(code if isinstance(code, int) else 0, str(error.get("description", "")))
    return answer
