"""AMQP 0-9-1 on one connection with one channel: publishing with confirmation, getting, consuming.

Frames by pamqp; the connection is our own, since a probe has to cut it at once at a frozen server, where aiormq's
orderly end takes two seconds. Source: the specification of AMQP 0-9-1; docs of RabbitMQ, "Publisher confirms".
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent.probes.endpoint import Stream
from agent.probes.rotation import BrokenError, ErrorAnswerError

if TYPE_CHECKING:
    from pamqp.base import Frame

PROTOCOL: Final = b"AMQP\x00\x00\x09\x01"
UNROUTABLE: Final = 312
_CHANNEL: Final = 1
_HEAD: Final = 7  # bytes of a frame before its content
_FRAME_MAX: Final = 131_072
_CAPABILITIES: Final = {
    "publisher_confirms": True, "basic.nack": True, "consumer_cancel_notify": True, "connection.blocked": True,
    "authentication_failure_close": True,
}  # fmt: skip


class UnroutableError(ErrorAnswerError):
    """No queue took the message: the server gave it back."""


@dataclass(frozen=True, slots=True)
class Message:
    """*tag*: by which it is acknowledged. *writer*: who it says that wrote it. *again*: it was delivered before."""

    tag: int
    writer: str
    content: bytes
    again: bool


class AmqpWire:
    """After any error but UnroutableError it is good for nothing but `close`."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._buffer, self._at = stream, bytearray(), 0
        self._published = 0
        self._early: deque[Message] = deque()  # deliveries that came while another answer was awaited

    async def greet(self, user: str, password: str, host: str) -> None:
        """Up to a channel that confirms; *host* is the virtual one."""
        from pamqp.commands import Channel, Confirm, Connection

        await self._stream.send(PROTOCOL)
        await self._answer(Connection.Start)
        properties: dict[str, Any] = {"product": "blackstart-probe", "capabilities": _CAPABILITIES}
        await self._send(0, Connection.StartOk(properties, "PLAIN", f"\0{user}\0{password}", "en_US"))
        await self._answer(Connection.Tune)
        await self._send(0, Connection.TuneOk(1, _FRAME_MAX, 0), Connection.Open(host))
        await self._answer(Connection.OpenOk)
        await self._send(_CHANNEL, Channel.Open(), Confirm.Select())
        await self._answer(Confirm.SelectOk)

    async def ask(self, request: Frame, answer: type[Frame]) -> Any:
        """The answer to a method. ErrorAnswerError: the server closes the channel or the connection instead."""
        await self._send(_CHANNEL, request)
        return await self._answer(answer)

    async def publish(self, queue: str, content: bytes, writer: str) -> bool:
        """Whether the server confirms it. UnroutableError: there is no such queue."""
        from pamqp.commands import Basic

        self._published += 1
        properties = Basic.Properties(delivery_mode=2, app_id=writer)
        await self._stream.send(self._content(Basic.Publish(routing_key=queue, mandatory=True), properties, content))
        returned = False
        while True:
            frame = await self._method()
            if isinstance(frame, Basic.Return):
                await self._message(0, again=False)
                returned = True
            elif isinstance(frame, Basic.Ack | Basic.Nack):
                if returned:
                    raise UnroutableError(UNROUTABLE, f"there is no queue {queue}")
                return isinstance(frame, Basic.Ack)

    async def get(self, queue: str) -> Message | None:
        """The first message of a queue, taken out of it."""
        from pamqp.commands import Basic

        await self._send(_CHANNEL, Basic.Get(queue=queue, no_ack=True))
        while True:
            frame = await self._method()
            if isinstance(frame, Basic.GetEmpty):
                return None
            if isinstance(frame, Basic.GetOk):
                return await self._message(frame.delivery_tag or 0, again=frame.redelivered)

    async def delivered(self) -> Message:
        """What a consumer is given next."""
        from pamqp.commands import Basic

        while not self._early:
            frame = await self._method()
            if isinstance(frame, Basic.Cancel):
                raise ErrorAnswerError(0, "the server ended the consumer")
        return self._early.popleft()

    async def acknowledge(self, *tags: int, all_before: bool = False) -> None:
        """These deliveries are taken for good."""
        from pamqp.commands import Basic

        await self._send(_CHANNEL, *(Basic.Ack(tag, all_before) for tag in tags))

    def close(self) -> None:
        self._stream.close()

    async def _send(self, channel: int, *methods: Frame) -> None:
        from pamqp import frame

        await self._stream.send(b"".join(frame.marshal(method, channel) for method in methods))

    def _content(self, method: Frame, properties: Any, content: bytes) -> bytes:
        from pamqp import body, frame, header

        head = header.ContentHeader(body_size=len(content), properties=properties)
        return b"".join(frame.marshal(part, _CHANNEL) for part in (method, head, body.ContentBody(content)))

    async def _answer(self, wanted: type[Frame]) -> Any:
        while not isinstance(found := await self._method(), wanted):
            pass
        return found

    async def _method(self) -> Any:
        """The next method that is not about the connection itself; deliveries are put aside with what they carry."""
        from pamqp.commands import Basic, Channel, Connection

        found = await self._frame()
        if isinstance(found, Connection.Close | Channel.Close):
            raise ErrorAnswerError(found.reply_code or 0, str(found.reply_text))
        if isinstance(found, Basic.Deliver):
            self._early.append(await self._message(found.delivery_tag or 0, again=found.redelivered))
        return found

    async def _message(self, tag: int, *, again: bool) -> Message:
        from pamqp import body, header

        head = await self._frame()
        if not isinstance(head, header.ContentHeader):
            raise BrokenError("a message without a head")
        content = b""
        while len(content) < head.body_size:
            part = await self._frame()
            if not isinstance(part, body.ContentBody):
                raise BrokenError("a message without its content")
            content += part.value
        return Message(tag, str(getattr(head.properties, "app_id", "") or ""), content, again)

    async def _frame(self) -> Any:
        from pamqp import exceptions, frame

        size = int.from_bytes((await self._bytes(_HEAD, keep=True))[3:], "big")
        if size > _FRAME_MAX:
            raise BrokenError(f"no frame of AMQP: {bytes(self._buffer[self._at : self._at + 20])!r}")
        content = await self._bytes(_HEAD + size + 1)
        try:
            return frame.unmarshal(content)[2]
        except (exceptions.UnmarshalingException, exceptions.PAMQPException, ValueError, KeyError) as error:
            raise BrokenError(f"no frame of AMQP: {error}") from error

    async def _bytes(self, count: int, *, keep: bool = False) -> bytes:
        while len(self._buffer) < self._at + count:
            if self._at:
                del self._buffer[: self._at]
                self._at = 0
            part = await self._stream.receive()
            if not part:
                raise BrokenError("the connection ended within an answer")
            self._buffer += part
        content = bytes(self._buffer[self._at : self._at + count])
        self._at += 0 if keep else count
        return content
