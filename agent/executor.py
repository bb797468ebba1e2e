"""Carries out orders, each once, and answers every one.

Invariant: a handler never raises past `execute`; its failure is a result with a status that says who must act.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import msgspec
import structlog

from agent.certificate import Certificates
from agent.effect import STOPPED, Effects
from agent.workloads.base import Workload
from protos import blackstart_agent_pb2 as pb
from protos.error import BlackstartError, Problem, RefusedError, SpecError, StrandedError
from protos.figure import Figure
from protos.recovery import Code

Json = dict[str, Any]
MESSAGE_MAX: Final = 4_000  # characters of a result's message: it may hold what the order held
BODY_MAX: Final = 8_000_000  # bytes of a result's body: what gRPC does not carry would never leave the spool
NAME_MAX: Final = 200  # characters of a probe's name, which every batch repeats
WAIT_S_MAX: Final = 86_400.0
_INSTANT_MAX: Final = 2**63  # ns
_NUMBER_MAX: Final = 1e9
_ENDED_MAX: Final = 1_000
_STATUS: Final[tuple[tuple[type[BlackstartError], pb.Status], ...]] = (
    (RefusedError, pb.STATUS_REFUSED),
    (SpecError, pb.STATUS_INVALID),
    (StrandedError, pb.STATUS_STRANDED),
    (BlackstartError, pb.STATUS_FAILED),
)


_BEGINS: Final = ("probe.start", "fault.inject", "workload.run")  # what a run does first on a node


class Probes(Protocol):
    """What the executor asks of the probe engine (`agent.probes.engine.ProbeEngine`)."""

    async def start(
        self, run_id: str, name: str, kind: str, spec: Json, *,
        interval_ms: float = ..., timeout_ms: float = ..., stable_s: float = ..., p99_max_ms: float | None = ...,
    ) -> int: ...  # fmt: skip
    def count(self, run_id: str, name: str, from_ns: int, to_ns: int) -> Json: ...
    def marks(self, run_id: str, name: str) -> Json: ...
    async def ledger(self, run_id: str, name: str, *, wait_s: float = ...) -> Json: ...
    async def ask(self, kind: str, spec: Json, *, timeout_ms: float = ...) -> Code: ...
    async def stop(self, run_id: str, name: str | None = None) -> dict[str, int]: ...
    def observe(self, run_id: str, name: str, measure: str, window_s: float) -> Json: ...
    def figures(self, run_id: str) -> list[Figure]: ...
    async def recovery(
        self, run_id: str, name: str, *,
        injected_lo_ns: int, injected_hi_ns: int, reverted_ns: int | None = ..., wait_s: float = ...,
    ) -> Json: ...  # fmt: skip


class InjectArguments(msgspec.Struct, forbid_unknown_fields=True):
    injection: str
    fault: str
    spec: Json = {}
    duration_s: float = 300.0
    on_lost_controller: str = "revert"
    follow: bool = False  # join a target again that went away and came back


class Executor:
    """One handler a kind of order; `capabilities` tells which faults, probes and workloads there are."""

    def __init__(
        self, effects: Effects, probes: Probes, workloads: Sequence[Workload], certificates: Certificates | None = None
    ) -> None:
        self._effects, self._probes = effects, probes
        self._workloads = {workload.kind: workload for workload in workloads}
        self._certificates = certificates
        self._ended: dict[str, None] = {}  # runs, the latest last
        self._log = structlog.get_logger("agent.executor")
        self._handlers: dict[str, Callable[[str, Json], Awaitable[Json]]] = {
            "fault.plan": self._plan,
            "fault.inject": self._inject,
            "fault.revert": self._revert,
            "probe.ask": self._probe_ask,
            "probe.count": self._probe_count,
            "probe.ledger": self._probe_ledger,
            "probe.marks": self._probe_marks,
            "probe.start": self._probe_start,
            "probe.stop": self._probe_stop,
            "probe.observe": self._probe_observe,
            "probe.recovery": self._probe_recovery,
            "workload.run": self._workload_run,
            "run.end": self._run_end,
            "node.stop": self._node_stop,
            "node.lift": self._node_lift,
        }

    async def execute(
        self, order: pb.Order, received_ns: int, objection: Callable[[pb.Order], str] = lambda _: ""
    ) -> pb.Result:
        """The result of *order*, whatever happens. *objection*: why it may not start, asked once it has waited."""
        result = pb.Result(order_id=order.id, run_id=order.run_id)
        try:
            if await self._expired(order, received_ns):
                result.status = pb.STATUS_EXPIRED
                result.message = f"not started within {order.deadline_s:g} s of its receipt"
                return result
            result.body_json = await self._handle(order, objection)
            result.status = pb.STATUS_DONE
        except BlackstartError as error:
            result.status = next(status for kind, status in _STATUS if isinstance(error, kind))
            result.message = str(error)[:MESSAGE_MAX]
            self._log.info("order failed", order=order.id, kind=order.kind, run=order.run_id, error=result.message)
        except (TypeError, KeyError, msgspec.ValidationError) as error:
            result.status = pb.STATUS_INVALID
            result.message = f"arguments of {order.kind}: {error}"[:MESSAGE_MAX]
        except Exception as error:  # noqa: BLE001 an answer is owed, and a fault of ours must not end the agent
            self._log.exception("order broke", order=order.id, kind=order.kind)
            result.status = pb.STATUS_FAILED
            result.message = f"{order.kind} broke in the agent: {type(error).__name__}: {error}"[:MESSAGE_MAX]
        return result

    async def _handle(self, order: pb.Order, objection: Callable[[pb.Order], str]) -> bytes:
        if why := objection(order):
            raise RefusedError(why)
        handler = self._handlers.get(order.kind)
        if handler is None:
            raise SpecError(
                Problem("order", f"unknown kind {order.kind!r}", "the agent may be older than its controller")
            )
        arguments = _arguments(order)
        self._check_going(order)
        if self._certificates is not None and order.kind in _BEGINS:
            await self._certificates.begin(order.run_id)
            self._check_going(order)
            if why := objection(order):  # that took its time: the controller may be lost by now
                raise RefusedError(why)
        body = msgspec.json.encode(await handler(order.run_id, arguments))
        if len(body) > BODY_MAX:
            raise BlackstartError(f"{order.kind} is done, and its answer of {len(body)} bytes is too long to be sent")
        return body

    def _check_going(self, order: pb.Order) -> None:
        """An order may have waited for its moment while its run ended: nothing begins after that."""
        if order.kind in _BEGINS and order.run_id in self._ended:
            raise RefusedError(f"run {order.run_id} has ended on this node")

    async def _expired(self, order: pb.Order, received_ns: int) -> bool:
        """Waits until the order may start; True when it may not any more."""
        expires_ns = received_ns + int(order.deadline_s * 1e9) if order.deadline_s else None
        if order.not_before_ns and expires_ns and order.not_before_ns > expires_ns:
            return True
        if (wait_ns := order.not_before_ns - time.monotonic_ns()) > 0:
            await asyncio.sleep(wait_ns / 1e9)
        return expires_ns is not None and time.monotonic_ns() > expires_ns

    async def _plan(self, run_id: str, arguments: Json) -> Json:
        del run_id
        duration_s = _number(arguments, "duration_s", 0.0)
        effects = await self._effects.plan(arguments["fault"], arguments.get("spec") or {}, duration_s)
        rows = [{"description": e.description, "undo": str(e.undo), "resource": e.resource} for e in effects]
        return {"effects": rows, "missing": ""}

    async def _inject(self, run_id: str, arguments: Json) -> Json:
        asked = msgspec.convert(arguments, InjectArguments)
        if asked.on_lost_controller not in ("revert", "hold"):
            raise SpecError(Problem("on_lost_controller", f"{asked.on_lost_controller!r} is neither revert nor hold"))
        effects = await self._effects.inject(
            run_id=run_id, injection=asked.injection, kind=asked.fault, spec=asked.spec, duration_s=asked.duration_s,
            on_lost="hold" if asked.on_lost_controller == "hold" else "revert", follow=asked.follow,
        )  # fmt: skip
        return {"effects": effects}

    async def _revert(self, run_id: str, arguments: Json) -> Json:
        self._effects.call_off(run_id, arguments.get("injection"))
        chosen = self._effects.of(run_id=run_id, injection=arguments.get("injection"))
        effects = await self._effects.revert(chosen)
        return {"effects": effects, "residue": await self._effects.residue(run_id)}

    async def _probe_start(self, run_id: str, arguments: Json) -> Json:
        if len(str(arguments["name"])) > NAME_MAX:
            raise SpecError(Problem("name", f"is longer than {NAME_MAX} characters"))
        options = {
            key: arguments[key] for key in ("interval_ms", "timeout_ms", "stable_s", "p99_max_ms") if key in arguments
        }
        started_ns = await self._probes.start(
            run_id, arguments["name"], arguments["kind"], arguments.get("spec") or {}, **options
        )
        return {"started_ns": started_ns}

    async def _probe_stop(self, run_id: str, arguments: Json) -> Json:
        return {"attempts": await self._probes.stop(run_id, arguments.get("name"))}

    async def _probe_observe(self, run_id: str, arguments: Json) -> Json:
        window_s = _number(arguments, "window_s", None, WAIT_S_MAX)
        return self._probes.observe(run_id, arguments["name"], arguments["measure"], window_s)

    async def _probe_ask(self, run_id: str, arguments: Json) -> Json:
        del run_id
        timeout_ms = _number(arguments, "timeout_ms", 1000.0)
        code = await self._probes.ask(arguments["kind"], arguments["spec"], timeout_ms=timeout_ms)
        return {"ok": code is Code.OK, "code": code.name.lower()}

    async def _probe_ledger(self, run_id: str, arguments: Json) -> Json:
        wait_s = _number(arguments, "wait_s", 60.0, WAIT_S_MAX)
        return await self._probes.ledger(run_id, arguments["name"], wait_s=wait_s)

    async def _probe_count(self, run_id: str, arguments: Json) -> Json:
        from_ns, to_ns = _instant(arguments["from_ns"]), _instant(arguments["to_ns"])
        return self._probes.count(run_id, arguments["name"], from_ns, to_ns)

    async def _probe_marks(self, run_id: str, arguments: Json) -> Json:
        return self._probes.marks(run_id, arguments["name"])

    async def _probe_recovery(self, run_id: str, arguments: Json) -> Json:
        return await self._probes.recovery(
            run_id, arguments["name"],
            injected_lo_ns=_instant(arguments["injected_lo_ns"]), injected_hi_ns=_instant(arguments["injected_hi_ns"]),
            reverted_ns=None if arguments.get("reverted_ns") is None else _instant(arguments["reverted_ns"]),
            wait_s=_number(arguments, "wait_s", 120.0, WAIT_S_MAX),
        )  # fmt: skip

    async def _workload_run(self, run_id: str, arguments: Json) -> Json:
        workload = self._workloads.get(kind := arguments["kind"])
        if workload is None:
            raise SpecError(Problem("kind", f"unknown workload {kind!r}", f"known: {', '.join(self._workloads)}"))
        if self._effects.stopped:
            raise RefusedError(STOPPED)
        done = await workload.run(run_id, arguments.get("spec") or {})
        more = {"detail": done.detail, "summary": done.summary} if done.detail else {}
        return {"figures": [figure.document() for figure in done.figures], **more}

    async def _run_end(self, run_id: str, arguments: Json) -> Json:
        del arguments
        self._ended[run_id] = None
        while len(self._ended) > _ENDED_MAX:
            del self._ended[next(iter(self._ended))]
        self._effects.call_off(run_id, None)
        effects, _ = await asyncio.gather(
            self._effects.revert(self._effects.of(run_id=run_id)), self.end_workloads(run_id)
        )
        figures = [figure.document() for figure in self._probes.figures(run_id)]
        attempts = await self._probes.stop(run_id)
        residue = await self._effects.residue(run_id)
        body = {"effects": effects, "attempts": attempts, "figures": figures, "residue": residue}
        if self._certificates is not None:
            mine = [active.effect for active in self._effects.of(run_id=run_id)]
            others = [active.effect for active in self._effects.of() if active.may_hold]
            if (certificate := await self._certificates.end(run_id, mine, others)) is not None:
                body["certificate"] = certificate
        return body

    async def _node_stop(self, run_id: str, arguments: Json) -> Json:
        del run_id, arguments
        effects, _ = await asyncio.gather(self._effects.stop(), self.end_workloads())
        return {"effects": effects}

    async def end_workloads(self, run_id: str | None = None) -> None:
        """Ends those of that run, or all, at the same time; returns once nothing of them is left."""
        await asyncio.gather(*(workload.end(run_id) for workload in self._workloads.values()))

    async def _node_lift(self, run_id: str, arguments: Json) -> Json:
        del run_id, arguments
        self._effects.stopped = False
        return {"effects": []}


def _arguments(order: pb.Order) -> Json:
    try:
        arguments = msgspec.json.decode(order.arguments_json or b"{}")
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested without end
        raise SpecError(Problem("order", f"the arguments of {order.kind} are not JSON: {error}")) from error
    if not isinstance(arguments, dict):
        raise SpecError(Problem("order", f"the arguments of {order.kind} are not an object"))
    return arguments


def _number(arguments: Json, name: str, default: float | None, most: float = _NUMBER_MAX) -> float:
    """A number of an order; required without a *default*."""
    value = arguments[name] if default is None else arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -most <= value <= most:
        raise SpecError(Problem(name, f"{str(value)[:40]} is not a number up to {most:g}"))
    return float(value)


def _instant(value: Any) -> int:
    """A time of a node's monotonic clock, ns."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _INSTANT_MAX:
        raise SpecError(Problem("order", f"{str(value)[:40]} is not a time in ns"))
    return int(value)
