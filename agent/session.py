"""The stream to the controller: dials out, reconnects, and never loses or repeats what the spool holds.

Invariant: losing the controller stops nothing here but the sending: probes go on, effects end by their deadline (or at
once where the experiment asked for it), workloads end with the lease, and what was missed is sent after the reconnect,
in order. A controller counts as heard once its welcome is accepted, and not before; what is refused of it is in the
audit before it is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
import msgspec
import structlog

from agent.audit import Audit
from agent.effect import Effects
from agent.executor import Executor
from agent.gate import Gate, wrong_order, wrong_welcome
from agent.spool import Spool
from protos import blackstart_agent_pb2 as pb
from protos.blackstart_agent_pb2_grpc import AgentLinkStub
from protos.error import TransientError

_BACKOFF_S: Final = (0.2, 15.0)  # first and longest upper bound of the pause between two attempts
_LEASE_S, _HEARTBEAT_S = 15.0, 2.0  # until a controller says otherwise
_ID_MAX: Final = 128
_UNREADABLE: Final = ("message larger than", "deserializing")  # how gRPC says that the peer sent what cannot be read


@dataclass(slots=True)
class _Position:
    """How far one stream has sent the spool; -1 until its Welcome has come.

    Each stream has its own: gRPC may go on reading the messages of a stream that is broken already.
    """

    sequence: int = -1


ChannelMaker = Callable[[], Awaitable[grpc.aio.Channel]]


class Session:
    """The link. `link` opens a channel with the certificates of the moment; `hello` describes the agent."""

    def __init__(
        self, *, link: ChannelMaker, hello: Callable[[], pb.Hello], spool: Spool, executor: Executor, effects: Effects,
        audit: Audit,
    ) -> None:  # fmt: skip
        self._link, self._hello = link, hello
        self._gate, self._audit = Gate(), audit
        self._spool, self._executor, self._effects = spool, executor, effects
        self._wake = asyncio.Event()
        self._orders: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.Task[None]] = set()  # of workloads
        self._heard_s = time.monotonic()
        self._lease_s, self._heartbeat_s = _LEASE_S, _HEARTBEAT_S
        self._lost = False
        self._position = _Position()
        self._last = pb.Heartbeat()
        self.connected = False
        self._log = structlog.get_logger("agent.session")

    def keep(self, message: pb.AgentMessage) -> None:
        """Spools *message* and has it sent as soon as there is a stream."""
        self._spool.put(message.SerializeToString())
        self._wake.set()

    def event(self, kind: str, run_id: str, body: dict[str, Any]) -> None:
        """Spools an event, stamped now."""
        event = pb.Event(
            at_ns=time.monotonic_ns(),
            wall_ns=time.time_ns(),
            run_id=run_id,
            kind=kind,
            body_json=msgspec.json.encode(body),
        )
        self.keep(pb.AgentMessage(event=event))

    async def run(self) -> None:
        """Keeps a stream up until cancelled."""
        lease = asyncio.create_task(self._watch_lease())
        try:
            failures = 0
            while True:
                was = self._heard_s
                try:
                    await self._once()
                except (grpc.aio.AioRpcError, OSError, asyncio.InvalidStateError) as error:
                    self._log.warning("no stream to the controller", reason=_reason(error))
                    if any(sign in _reason(error) for sign in _UNREADABLE):
                        self._audit.refused("stream", _reason(error), status="invalid")
                except asyncio.CancelledError:
                    if (task := asyncio.current_task()) is None or task.cancelling():
                        raise
                    self._log.warning("no stream to the controller", reason="the stream was cancelled")
                except Exception as error:  # noqa: BLE001 no message may end the agent, nor the effects of others
                    self._log.exception("a stream broke the session")
                    self._audit.refused("stream", f"broke the session: {error!r}", status="failed")
                self.connected = False
                failures = 0 if self._heard_s > was else failures + 1
                most_s = min(_BACKOFF_S[1], _BACKOFF_S[0] * 2**failures)
                await asyncio.sleep(random.uniform(0, most_s))  # noqa: S311 full jitter: a herd spreads itself
        finally:
            lease.cancel()
            for task in (*self._orders, *self._ends):
                task.cancel()
            await asyncio.gather(lease, *self._orders, *self._ends, return_exceptions=True)

    async def _once(self) -> None:
        async with await self._link() as channel:
            stub = AgentLinkStub(channel)
            self._position = _Position()
            stream = stub.Connect(self._outgoing(self._position))
            async for message in stream:
                if message is None:  # what gRPC gives for bytes that are no message
                    raise asyncio.InvalidStateError("no message: deserializing failed")
                await self._receive(message)
                if self._position.sequence >= 0:
                    self._heard_s, self._lost = time.monotonic(), False

    async def _outgoing(self, position: _Position) -> AsyncIterator[pb.AgentMessage]:
        """As `_messages`; gRPC calls the stream cancelled, and says no more, when this raises: so it is said here."""
        try:
            async for message in self._messages(position):
                yield message
        except Exception as error:
            self._log.exception("nothing can be sent to the controller")
            self._audit.refused("stream", f"nothing can be sent: {error!r}", status="failed")
            raise

    async def _messages(self, position: _Position) -> AsyncIterator[pb.AgentMessage]:
        """Hello, then the spool in order, then heartbeats between."""
        hello = self._hello()
        hello.spool_id = self._spool.id
        hello.effects_json = msgspec.json.encode(self._effects.in_force())
        yield pb.AgentMessage(hello=hello)
        beat_s = time.monotonic()
        while True:
            if position.sequence >= 0:
                for sequence, payload in self._spool.after(position.sequence):
                    position.sequence = sequence
                    message = pb.AgentMessage.FromString(payload)
                    message.sequence = sequence
                    yield message
            if time.monotonic() >= beat_s:
                yield pb.AgentMessage(heartbeat=self._heartbeat())
                beat_s = time.monotonic() + self._heartbeat_s
            if position.sequence < 0 or not self._spool.after(position.sequence, 1):
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), max(0.01, beat_s - time.monotonic()))

    def _heartbeat(self) -> pb.Heartbeat:
        beat = self._last
        beat.sent_ns = time.monotonic_ns()
        beat.spooled, beat.dropped = len(self._spool), self._spool.dropped
        beat.effects = len(self._effects.in_force())
        return beat

    async def _receive(self, message: pb.ControllerMessage) -> None:
        received_ns = time.monotonic_ns()
        match message.WhichOneof("body"):
            case "welcome":
                await self._welcome(message.welcome)
            case "heartbeat_reply":
                reply = message.heartbeat_reply
                self._last = pb.Heartbeat(
                    last_sent_ns=reply.agent_sent_ns, last_controller_received_ns=reply.received_ns,
                    last_controller_sent_ns=reply.sent_ns, last_received_ns=received_ns,
                )  # fmt: skip
            case "ack":
                self._spool.acknowledge(min(message.ack.sequence, self._position.sequence))
            case "order":
                self._accept(message.order, received_ns)
            case _:
                self._log.warning("a message of an unknown kind was passed over: is the controller newer?")

    async def _welcome(self, welcome: pb.Welcome) -> None:
        if wrong := wrong_welcome(welcome, self._position.sequence >= 0, self._spool.epoch):
            self._audit.refused("welcome", wrong)
            raise asyncio.InvalidStateError(f"the controller is refused: {wrong}")
        self._spool.epoch = welcome.epoch
        self._spool.skip_to(welcome.acknowledged)
        self._spool.acknowledge(welcome.acknowledged)
        self._lease_s = welcome.lease_s or _LEASE_S
        self._heartbeat_s = welcome.heartbeat_s or _HEARTBEAT_S
        self._position.sequence = welcome.acknowledged
        self.connected = True
        self._wake.set()
        if welcome.stopped and not self._effects.stopped:
            self._end_workloads()
            await self._effects.stop()
        self._effects.stopped = welcome.stopped
        self._log.info("connected", epoch=welcome.epoch, to_send=len(self._spool))

    def _accept(self, order: pb.Order, received_ns: int) -> None:
        if wrong := wrong_order(order, received_ns):
            self._answer(order, pb.Result(status=pb.STATUS_INVALID, message=f"the order cannot be taken: {wrong}"))
            return
        if why := "no welcome before it" if self._position.sequence < 0 else self._overtaken(order):
            self._answer(order, pb.Result(status=pb.STATUS_REFUSED, message=why))
            return
        try:
            known = self._spool.begin_order(order.id)
        except TransientError as error:
            self._answer(order, pb.Result(status=pb.STATUS_FAILED, message=str(error)))
            return
        flood = self._gate.flood(order.kind, len(self._orders))
        if known is None and flood:
            self._end(order, pb.Result(status=pb.STATUS_REFUSED, message=flood), flood=True)
        elif known is None:
            task = asyncio.get_running_loop().create_task(self._carry_out(order, received_ns))
            self._orders.add(task)
            task.add_done_callback(self._orders.discard)
        elif known and not flood:
            self.keep(pb.AgentMessage(result=pb.Result.FromString(known)))

    def _overtaken(self, order: pb.Order) -> str:
        """Why nobody may give this order any more; empty if its controller may. Asked again when it had to wait."""
        if self._lost and order.kind in ("fault.inject", "workload.run"):
            return "the controller was lost while the order waited for its moment"
        if order.epoch < (seen := self._spool.epoch):
            return f"the order is of epoch {order.epoch}, a controller of epoch {seen} has taken over"
        return ""

    async def _carry_out(self, order: pb.Order, received_ns: int) -> None:
        self._end(order, await self._executor.execute(order, received_ns, self._overtaken))

    def _end(self, order: pb.Order, result: pb.Result, *, flood: bool = False) -> None:
        """Answers for good: who sends the order again gets the same answer."""
        result.order_id, result.run_id = order.id, order.run_id
        self._spool.end_order(order.id, result.SerializeToString())
        self._answer(order, result, flood=flood)

    def _answer(self, order: pb.Order, result: pb.Result, *, flood: bool = False) -> None:
        """Audits what is refused, then keeps the result for the controller."""
        result.order_id, result.run_id = order.id[:_ID_MAX], order.run_id[:_ID_MAX]
        if result.status in (pb.STATUS_REFUSED, pb.STATUS_INVALID):
            status = pb.Status.Name(result.status).removeprefix("STATUS_").lower()
            self._audit.refused(
                order.kind, result.message, status=status, order=order.id, run=order.run_id, actor=order.actor,
                flood=flood,
            )  # fmt: skip
        self.keep(pb.AgentMessage(result=result))

    def answer_unfinished(self) -> None:
        """Answers the orders that an agent before this one did not live to end."""
        for order_id in self._spool.unfinished_orders():
            message = "the agent restarted while it carried out the order; what was in force has been reverted"
            result = pb.Result(order_id=order_id, status=pb.STATUS_FAILED, message=message)
            self._spool.end_order(order_id, result.SerializeToString())
            self.keep(pb.AgentMessage(result=result))

    async def _watch_lease(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            self._audit.settle()
            if not self._lost and time.monotonic() - self._heard_s > self._lease_s:
                self._lost = True
                self.event("controller.lost", "", {"silent_s": self._lease_s})
                self._end_workloads()
                await self._effects.lose_controller()

    def _end_workloads(self) -> None:
        """Beside all else: a removal may take its time, and the link is not to wait for it."""
        task = asyncio.get_running_loop().create_task(self._executor.end_workloads())
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)


def _reason(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error)
