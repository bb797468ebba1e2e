"""`amqp`: a server of RabbitMQ answers, a queue confirms a message, gives one back, or takes numbered records.

A client stays with its server until an attempt fails there, and then goes to the next of its list.
Source: docs of RabbitMQ, "Quorum queues" and "Publisher confirms".
"""

from __future__ import annotations

import asyncio
import importlib.util
import secrets
import ssl
from typing import Any, ClassVar, Final, Literal
from urllib.parse import unquote, urlsplit

from agent.probes.amqp_wire import AmqpWire, Message, UnroutableError
from agent.probes.base import ProbeSpec
from agent.probes.broker import BrokerProbe
from agent.probes.endpoint import Endpoint
from agent.probes.rotation import BrokenError, ErrorAnswerError, greeted
from protos.recovery import Code

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_MISSING: Final = 404
_AHEAD: Final = 20_000  # records that a consumer is given before it takes the first for good
_BLOCK: Final = 1000  # taken for good at a time
_KEPT_MAX: Final = 10_000  # messages of the modes that keep no ledger
_REDELIVERED_MAX: Final = 1_000_000  # readings that a record outlives; newer servers drop it after twenty
_MARK: Final = "blackstart-mark"


class AmqpSpec(ProbeSpec):
    """*servers* as `amqp://user:password@host:port/virtual-host`, or amqps. *mode*: what an attempt does.

    ping: a connection and a channel, fresh each time. publish: the queue confirms a message. deliver: and gives one
    back. ledger numbers its records, so that losses can be counted (`probe.ledger`). A *queue* that is not there is
    made once, of *queue_type*, durable. A ledger that is read back takes its records out: give it a queue of its own.
    *keepalive*: connections are used again; else a fresh one each.
    """

    servers: list[str]
    mode: Literal["ping", "publish", "deliver", "ledger"] = "ping"
    queue: str = ""
    queue_type: Literal["quorum", "classic"] = "quorum"
    keepalive: bool = True

    def problems(self) -> list[tuple[str, str]]:
        found = [] if self.servers else [("servers", "names none")]
        found += [("servers", f"{url!r} is not amqp://host:port") for url in self.servers if _strange(url)]
        return [*found, ("queue", "is longer than 200 bytes")] if len(self.queue.encode()) > 200 else found


class AmqpProbe(BrokerProbe[AmqpWire]):
    """REFUSED: no connection, or it broke. BAD: an error of the server, such as a queue without a majority."""

    kind: ClassVar[str] = "amqp"
    spec_type: ClassVar[type[ProbeSpec]] = AmqpSpec
    missing_status: ClassVar[int] = _MISSING
    clear_s: ClassVar[float] = 5.0

    def __init__(self, spec: AmqpSpec) -> None:
        super().__init__(len(spec.servers), keep=spec.keepalive and spec.mode != "ping", ledger=spec.mode == "ledger")
        self._spec, self._servers = spec, [urlsplit(_whole(url)) for url in spec.servers]
        self._endpoints = {
            at: Endpoint(
                parts.hostname or "", parts.port or _PORTS[parts.scheme],
                ssl.create_default_context() if parts.scheme == "amqps" else None,
            )
            for at, parts in enumerate(self._servers)
        }  # fmt: skip
        self._making = asyncio.Lock()
        self._made = False
        self._queue, self._writer = spec.queue or "blackstart_probe", "blackstart_probe"
        self._read: list[int] = []  # numbers in the order in which the queue gave them out
        self._known: set[int] = set()  # of those
        self._strange: dict[bytes, int] = {}  # what is no number

    @staticmethod
    def missing() -> str:
        return "" if importlib.util.find_spec("pamqp") else "pamqp (pip install 'blackstart[amqp]')"

    async def open(self) -> None:
        if self.ledger is not None:
            self._queue, self._writer = self._spec.queue or self.ledger.name, self.ledger.name

    async def _numbers(self, connection: AmqpWire) -> list[int]:
        await self._take(connection)
        return self._read[:]

    def _read_before(self) -> list[int]:
        return self._read[:]

    async def _reach(self, at: int) -> AmqpWire:
        parts = self._servers[at]
        host = unquote(parts.path[1:]) or "/"
        wire = AmqpWire(await self._endpoints[at].connect())
        user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        return await greeted(wire, wire.greet(user, password, host))

    async def _do(self, connection: AmqpWire) -> Code:
        mode = self._spec.mode
        if mode == "ping":
            return Code.OK
        if not self._made:
            await self._make(connection)
        if mode == "ledger":
            return await self._enter(connection)
        if not await connection.publish(self._queue, b"0", self._writer):
            return Code.BAD
        if mode == "deliver":
            return Code.OK if await connection.get(self._queue) is not None else Code.BAD
        return Code.OK

    async def _make(self, connection: AmqpWire) -> None:
        """The queue, once: one that was lost later is not made again."""
        async with self._making:
            if self._made:
                return
            if not await self._is_there():
                from pamqp.commands import Queue

                arguments: dict[str, Any] = {"x-queue-type": self._spec.queue_type}
                if self._spec.queue_type == "quorum":
                    arguments["x-delivery-limit"] = _REDELIVERED_MAX
                if not self.keeps_ledger:
                    arguments["x-max-length"] = _KEPT_MAX
                await connection.ask(
                    Queue.Declare(queue=self._queue, durable=True, arguments=arguments), Queue.DeclareOk
                )
            self._made = True

    async def _is_there(self) -> bool:
        """By a connection of its own: the server answers no by closing the channel."""
        from pamqp.commands import Queue

        _, connection = await self._rotation.connect()
        try:
            await connection.ask(Queue.Declare(queue=self._queue, passive=True), Queue.DeclareOk)
        except ErrorAnswerError as error:
            if error.status == _MISSING:
                return False
            raise
        finally:
            connection.close()
        return True

    async def _enter(self, connection: AmqpWire) -> Code:
        assert self.ledger is not None
        if self.ledger.full:
            return Code.ERROR
        number = self.ledger.send()
        try:
            confirmed = await connection.publish(self._queue, b"%d" % number, self._writer)
        except UnroutableError:
            self.ledger.refused(number)  # of all other errors nobody knows what the replicas did before
            raise
        if not confirmed:
            return Code.BAD  # neither promised nor ruled out
        self.ledger.acknowledged(number)
        return Code.OK

    async def _take(self, connection: AmqpWire) -> None:
        """All records up to a mark written now, by a consumer, for good: a queue gives back what it requeues elsewhere.

        The mark is confirmed by the same majority as the records: whatever stands before it is given out before it.
        """
        from pamqp.commands import Basic, Queue

        state = await connection.ask(Queue.Declare(queue=self._queue, passive=True), Queue.DeclareOk)
        if state.consumer_count:
            raise BrokenError(f"{state.consumer_count} other consumers hold records of the queue")
        mark = secrets.token_hex(8).encode()
        if not await connection.publish(self._queue, mark, _MARK):
            raise BrokenError("the queue does not take the mark")
        await connection.ask(Basic.Qos(prefetch_count=_AHEAD), Basic.QosOk)
        await connection.ask(Basic.Consume(queue=self._queue), Basic.ConsumeOk)
        content, open_tag, foreign = b"", 0, False  # open_tag: the last one of ours that is not taken yet
        while content != mark:
            message = await connection.delivered()
            content = message.content
            ours = message.writer in (self._writer, _MARK)
            if open_tag and (not ours or message.tag % _BLOCK == 0):
                await connection.acknowledge(open_tag, all_before=True)
                open_tag = 0
            foreign = foreign or not ours  # it goes back, and with it would all before it
            if message.writer == self._writer:
                self._note(message)
            if ours and foreign:
                await connection.acknowledge(message.tag)
            elif ours:
                open_tag = message.tag
        if open_tag:
            await connection.acknowledge(open_tag, all_before=True)
        await connection.ask(Queue.Declare(queue=self._queue, passive=True), Queue.DeclareOk)  # the last went through

    def _note(self, message: Message) -> None:
        """One record; what a reading had been given before, and did not take for good, comes again and is no copy."""
        if message.content.isdigit():
            number = int(message.content)
        else:
            number = self._strange.setdefault(message.content, -1 - len(self._strange))
        if not message.again or number not in self._known:
            self._read.append(number)
            self._known.add(number)

    async def _clear(self, connection: AmqpWire) -> None:
        """A queue of its own, else its own records."""
        from pamqp.commands import Queue

        if self._spec.queue:
            await self._take(connection)
        else:
            await connection.ask(Queue.Delete(queue=self._queue), Queue.DeleteOk)


def _whole(url: str) -> str:
    return url if "://" in url else f"amqp://{url}"


def _strange(url: str) -> bool:
    try:
        parts = urlsplit(_whole(url))
        return parts.scheme not in _PORTS or not parts.hostname or parts.port == 0
    except ValueError:
        return True
