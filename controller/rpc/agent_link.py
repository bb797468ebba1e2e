"""The agents' side of the controller: one stream each, and the renewal of their certificates.

Invariant: a stream belongs to the agent that its certificate names. What is stored is acknowledged, cumulatively; when
the store is full the stream is closed, and the agent keeps and repeats what it has.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import structlog

from controller.rpc.auth import caller
from protos import blackstart_agent_pb2 as pb
from protos import blackstart_agent_pb2_grpc as rpc
from protos.error import BlackstartError, DeniedError, SpecError, TransientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from controller.admission import Admission
    from controller.dispatch import Dispatch
    from controller.fleet import Fleet, Member
    from controller.pki import Authority
    from controller.store.base import Store
    from controller.telemetry.ingest import Ingest


class StreamLink:
    """`controller.fleet.Link` over one gRPC stream."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[pb.ControllerMessage | None] = asyncio.Queue()
        self._closed = False
        self.reason = ""
        self.error: BlackstartError | None = None

    def send(self, message: pb.ControllerMessage) -> None:
        if not self._closed:
            self._queue.put_nowait(message)

    def close(self, reason: str) -> None:
        if not self._closed:
            self._closed, self.reason = True, reason
            self._queue.put_nowait(None)

    async def messages(self) -> AsyncIterator[pb.ControllerMessage]:
        """What was sent, until the link is closed."""
        while (message := await self._queue.get()) is not None:
            yield message


@dataclass(frozen=True, slots=True)
class Terms:
    """What every agent is told at its welcome."""

    epoch: int
    heartbeat_s: float
    lease_s: float


class AgentLink(rpc.AgentLinkServicer):
    """See the module."""

    def __init__(
        self, terms: Terms, store: Store, fleet: Fleet, dispatch: Dispatch, ingest: Ingest, admission: Admission,
        authority: Callable[[], Authority], on_hello: Callable[[Member, bytes], Coroutine[Any, Any, None]],
    ) -> None:  # fmt: skip
        self._terms, self._store, self._fleet = terms, store, fleet
        self._dispatch, self._ingest, self._admission = dispatch, ingest, admission
        self._authority, self._on_hello = authority, on_hello
        self._log = structlog.get_logger("controller.link")

    async def Connect(self, request_iterator: AsyncIterator[pb.AgentMessage], context: Any) -> Any:  # noqa: N802
        hello = await _hello(request_iterator)
        if hello.agent_id != (name := caller.get().name):
            raise DeniedError(f"the certificate names {name}, the hello names {hello.agent_id}")
        link = StreamLink()
        acknowledged = await self._store.acknowledged(hello.agent_id, hello.spool_id)
        link.send(self._welcome(acknowledged))
        member = await self._fleet.attach(
            hello, link, now_ns=time.monotonic_ns(), wall_ns=time.time_ns(), address=_address(context.peer())
        )
        await self._store.put_agent(member.record())
        again = self._dispatch.resend(member.id)
        self._log.info("agent connected", agent=member.id, version=member.version, orders_sent_again=again)
        reading = asyncio.create_task(self._read(member, link, request_iterator))
        greeting = asyncio.create_task(self._on_hello(member, hello.effects_json))
        try:
            async for message in link.messages():
                yield message
        finally:
            reading.cancel()
            greeting.cancel()
            link.close(link.reason or "the stream ended")
            if await self._fleet.detach(member, link):
                await asyncio.shield(self._store.put_agent(member.record()))
            self._log.info("agent disconnected", agent=member.id, reason=link.reason)
        if link.error is not None:
            raise link.error

    async def Renew(self, request: pb.CertificateRequest, context: Any) -> pb.Certificate:  # noqa: N802
        del context
        return certificate(self._authority(), request.csr_pem, caller.get().name)

    def _welcome(self, acknowledged: int) -> pb.ControllerMessage:
        terms = self._terms
        return pb.ControllerMessage(
            welcome=pb.Welcome(
                epoch=terms.epoch,
                heartbeat_s=terms.heartbeat_s,
                lease_s=terms.lease_s,
                acknowledged=acknowledged,
                stopped=self._admission.stop_reason is not None,
            )
        )

    async def _read(self, member: Member, link: StreamLink, messages: AsyncIterator[pb.AgentMessage]) -> None:
        try:
            async for message in messages:
                now_ns = time.monotonic_ns()
                self._fleet.heard(member, now_ns=now_ns, wall_ns=time.time_ns())
                if message.HasField("heartbeat"):
                    self._beat(member, link, message.heartbeat, now_ns)
                elif message.sequence:
                    stored = await self._ingest.take(member, message)
                    link.send(pb.ControllerMessage(ack=pb.Ack(sequence=stored)))
            link.close("the agent ended the stream")
        except BlackstartError as error:
            self._log.error("cannot take in what the agent sends", agent=member.id, error=str(error))
            link.error = error if isinstance(error, TransientError) else TransientError(str(error))
            link.close(str(error))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever broke, the agent must learn it and come again
            link.error = TransientError(f"the stream broke: {type(error).__name__}: {error}")
            self._log.exception("stream broke", agent=member.id)
            link.close(str(error))

    def _beat(self, member: Member, link: StreamLink, beat: pb.Heartbeat, received_ns: int) -> None:
        member.agent_ns = beat.sent_ns
        member.spooled, member.dropped, member.effects = beat.spooled, beat.dropped, beat.effects
        if beat.last_received_ns:
            member.estimator.add(
                beat.last_sent_ns, beat.last_controller_received_ns, beat.last_controller_sent_ns, beat.last_received_ns
            )
        reply = pb.HeartbeatReply(
            agent_sent_ns=beat.sent_ns, received_ns=received_ns, sent_ns=time.monotonic_ns(), epoch=self._terms.epoch
        )
        link.send(pb.ControllerMessage(heartbeat_reply=reply))


def certificate(authority: Authority, csr_pem: bytes, agent_id: str) -> pb.Certificate:
    """The answer to a request for a certificate of *agent_id*."""
    from controller.pki import identity

    pem = authority.sign_agent(csr_pem, agent_id)
    return pb.Certificate(certificate_pem=pem, ca_pem=authority.ca_pem, not_after_s=int(identity(pem).not_after_s))


def _address(peer: str) -> str:
    """The IP address in gRPC's name of a peer (`ipv4:10.0.0.5:4711`, `ipv6:[fd00::5]:4711`); empty for others."""
    family, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if family in ("ipv4", "ipv6") else ""


async def _hello(messages: AsyncIterator[pb.AgentMessage]) -> pb.Hello:
    async for message in messages:
        if not message.HasField("hello"):
            break
        return message.hello
    raise SpecError("an agent speaks first, and says hello")
