"""Orders to agents and their answers.

Invariant: every order ends in exactly one of: its result, an error that says who must act, or a timeout. An order is
sent again with the same id when its agent comes back; the agent carries it out once.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from protos import blackstart_agent_pb2 as pb
from protos.error import (
    BlackstartError,
    FaultError,
    ProbeError,
    Problem,
    RefusedError,
    SpecError,
    StrandedError,
    TransientError,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from controller.fleet import Fleet, Member

Json = dict[str, Any]
LEAD_S: Final = 0.1  # how far ahead a common start is set: an order reaches its agent in well under that


@dataclass(slots=True)
class _Pending:
    agent_id: str
    order: pb.Order
    answer: asyncio.Future[pb.Result]


class Dispatch:
    """See the module. *epoch* is the leader's; agents refuse orders of an older one."""

    def __init__(self, fleet: Fleet, epoch: int) -> None:
        self._fleet = fleet
        self._epoch = epoch
        self._pending: dict[str, _Pending] = {}
        self._log = structlog.get_logger("controller.dispatch")
        self.counts: dict[tuple[str, str], int] = {}  # by kind and outcome

    async def order(
        self, agent_id: str, kind: str, arguments: Json, *, run_id: str = "", actor: str = "", timeout_s: float = 30.0,
        not_before_ns: int = 0,
    ) -> Json:  # fmt: skip
        """The body of the agent's result.

        Args:
            agent_id: a member of the fleet; it may be away for a part of *timeout_s*.
            kind: see docs/architecture.md, "Orders".
            arguments: likewise.
            run_id: the run for which the order is given.
            actor: who asked for it.
            timeout_s: how long to wait; the agent does not start the order after that.
            not_before_ns: earliest start on the controller's monotonic clock; 0: at once.

        Raises:
            BlackstartError: by the result's status. TransientError: no answer in time.
        """
        pending = self._make(agent_id, kind, arguments, run_id, actor, timeout_s, not_before_ns)
        self._send(pending)
        return (await self._answers([pending], timeout_s))[0]()

    async def order_all(
        self, agent_ids: Iterable[str], kind: str, arguments: Json, *, run_id: str = "",
        actor: str = "", timeout_s: float = 30.0, together: bool = False, each: Mapping[str, Json] | None = None,
    ) -> dict[str, Json | BlackstartError]:  # fmt: skip
        """The same order to several agents at once; by agent, its body or its error.

        *together*: they start as one. *each*: arguments by agent, beside those that all are given.
        """
        agents = sorted(set(agent_ids))
        start_ns = time.monotonic_ns() + int(LEAD_S * 1e9) if together and len(agents) > 1 else 0
        waiting: list[_Pending] = []
        found: dict[str, Json | BlackstartError] = {}
        for agent in agents:
            own = arguments | (each or {}).get(agent, {})
            try:
                waiting.append(self._make(agent, kind, own, run_id, actor, timeout_s, start_ns))
            except BlackstartError as error:
                found[agent] = error
        for pending in waiting:  # nothing is waited for before all are on their way
            self._send(pending)
        for pending, answer in zip(waiting, await self._answers(waiting, timeout_s), strict=True):
            try:
                found[pending.agent_id] = answer()
            except BlackstartError as error:
                found[pending.agent_id] = error
        return dict(sorted(found.items()))

    async def _answers(self, waiting: list[_Pending], timeout_s: float) -> list[Callable[[], Json]]:
        """One call for each, which gives its body or raises; once all have answered, or the time is over."""
        try:
            if waiting:
                await asyncio.wait([pending.answer for pending in waiting], timeout=timeout_s)
        finally:
            for pending in waiting:
                del self._pending[pending.order.id]
        return [partial(self._answer, pending, timeout_s) for pending in waiting]

    def _answer(self, pending: _Pending, timeout_s: float) -> Json:
        kind = pending.order.kind
        result = pending.answer.result() if pending.answer.done() else None
        outcome = pb.Status.Name(result.status).removeprefix("STATUS_").lower() if result is not None else "timeout"
        self.counts[kind, outcome] = self.counts.get((kind, outcome), 0) + 1
        if result is None:
            raise TransientError(f"agent {pending.agent_id} did not answer {kind} within {timeout_s:g} s")
        return _body(pending.agent_id, kind, result)

    def resolve(self, agent_id: str, result: pb.Result) -> None:
        """Takes in an agent's result; one for an order that nobody waits for any more is logged."""
        pending = self._pending.get(result.order_id)
        if pending is None or pending.agent_id != agent_id:
            self._log.info("result without a waiting order", agent=agent_id, order=result.order_id, run=result.run_id)
        elif not pending.answer.done():
            pending.answer.set_result(result)

    def resend(self, agent_id: str) -> int:
        """Sends what *agent_id* has not answered yet again, after it came back; how many orders."""
        waiting = [p for p in self._pending.values() if p.agent_id == agent_id and not p.answer.done()]
        for pending in waiting:
            self._send(pending)
        return len(waiting)

    def _make(
        self, agent_id: str, kind: str, arguments: Json, run_id: str, actor: str,
        timeout_s: float, not_before_ns: int,
    ) -> _Pending:  # fmt: skip
        member = self._fleet.member(agent_id)
        if member is None:
            raise SpecError(f"no agent {agent_id!r} has ever connected; see `blackstart agents list`")
        order = pb.Order(
            id=uuid.uuid4().hex, kind=kind, arguments_json=json.dumps(arguments).encode(), epoch=self._epoch,
            run_id=run_id, actor=actor, deadline_s=timeout_s, not_before_ns=self._on_agent(member, not_before_ns),
        )  # fmt: skip
        pending = _Pending(agent_id, order, asyncio.get_running_loop().create_future())
        self._pending[order.id] = pending
        return pending

    def _on_agent(self, member: Member, at_ns: int) -> int:
        """*at_ns* of the controller's clock on the agent's; 0 (at once) while its offset is not known."""
        translation = self._fleet.translation(member, None) if at_ns else None
        return at_ns - translation.offset_ns if translation is not None else 0

    def _send(self, pending: _Pending) -> None:
        member = self._fleet.member(pending.agent_id)
        if member is not None and member.link is not None:
            member.link.send(pb.ControllerMessage(order=pending.order))
        self._log.debug("order", agent=pending.agent_id, run=pending.order.run_id, kind=pending.order.kind)


def _body(agent_id: str, kind: str, result: pb.Result) -> Json:
    if result.status == pb.STATUS_DONE:
        body = json.loads(result.body_json or b"{}")
        return body if isinstance(body, dict) else {"value": body}
    message = f"{agent_id}: {result.message or pb.Status.Name(result.status)}"
    if result.status == pb.STATUS_REFUSED:
        raise RefusedError(message)
    if result.status == pb.STATUS_INVALID:
        raise SpecError(Problem(agent_id, result.message or "the arguments are wrong"))
    if result.status == pb.STATUS_STRANDED:
        raise StrandedError(message)
    if result.status == pb.STATUS_EXPIRED:
        raise TransientError(message)
    raise (FaultError if kind.startswith("fault.") else ProbeError)(message)
