"""Who may call what, in one place: authorization, translation of errors, and the audit of every operator call.

Invariant: a method that `ROLES` does not name is denied to everybody. Every call of `Operator`, and every call of any
service that was denied, is in the audit with its outcome before the caller learns of it.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc
import grpc.aio
import structlog

from controller.pki import Identity, identity_from_auth_context
from protos.error import BlackstartError, DeniedError, to_metadata

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from controller.audit import Audit

_OPERATOR: Final = "/blackstart.v1.Operator/"
_READ: Final = (
    "Plan",
    "Watch",
    "ListRuns",
    "ShowRun",
    "Report",
    "ListAgents",
    "ListFaults",
    "ListAudit",
    "ListSchedules",
    "ListApprovals",
)
_ACT: Final = ("Submit", "Approve", "Abort", "Stop", "AddSchedule", "RemoveSchedule", "OpenRun", "Invoke", "CloseRun")
_OWN: Final = ("OpenRun", "Invoke", "CloseRun", "Watch", "ShowRun")  # of a runner, for its own run only
_EVERYBODY: Final = frozenset({"viewer", "operator", "admin", "runner", "agent", "controller"})
ROLES: Final[dict[str, frozenset[str]]] = {
    **{_OPERATOR + name: frozenset({"viewer", "operator", "admin"}) for name in _READ},
    **{_OPERATOR + name: frozenset({"operator", "admin"}) for name in _ACT},
    **{_OPERATOR + name: frozenset({"admin"}) for name in ("IssueJoinToken",)},
    "/blackstart.v1.AgentLink/Connect": frozenset({"agent"}),
    "/blackstart.v1.AgentLink/Renew": frozenset({"agent"}),
    "/grpc.health.v1.Health/Check": _EVERYBODY,
    "/grpc.health.v1.Health/Watch": _EVERYBODY,
    "/grpc.health.v1.Health/List": _EVERYBODY,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _EVERYBODY - {"agent", "runner"},
}
ENROLMENT: Final = "/blackstart.v1.Enrolment/Enrol"

caller: ContextVar[Identity] = ContextVar("caller")


class Gate(grpc.aio.ServerInterceptor):
    """The interceptor of the main port; *enrolment* True for the port of its own, where nobody has a certificate.

    A controller that no longer *leads* answers nobody: it would write that into an audit that is another's by now.
    """

    def __init__(self, audit: Audit, leads: Callable[[], bool], *, enrolment: bool = False) -> None:
        self._audit, self._leads, self._enrolment = audit, leads, enrolment
        self._log = structlog.get_logger("controller.rpc")

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Wraps the method's handler."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = str(handler_call_details.method)
        make: Any
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            make = grpc.stream_stream_rpc_method_handler if handler.request_streaming else (
                grpc.unary_stream_rpc_method_handler
            )  # fmt: skip
            wrapped: Any = self._streaming(method, inner)
        else:
            inner, make = handler.unary_unary, grpc.unary_unary_rpc_method_handler
            wrapped = self._unary(method, inner)
        return make(wrapped, handler.request_deserializer, handler.response_serializer)

    def _unary(self, method: str, inner: Callable[[Any, Any], Awaitable[Any]]) -> Any:
        async def call(request: Any, context: Any) -> Any:
            identity = await self._admit(method, request, context)
            try:
                response = await inner(request, context)
            except BlackstartError as error:
                await self._fail(method, identity, request, context, error)
            await self._note(method, identity, request, "ok")
            return response

        return call

    def _streaming(self, method: str, inner: Callable[[Any, Any], AsyncIterator[Any]]) -> Any:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            identity = await self._admit(method, request, context)
            try:
                async for response in inner(request, context):
                    yield response
            except BlackstartError as error:
                await self._fail(method, identity, request, context, error)
            except asyncio.CancelledError:
                await self._note(method, identity, request, "cancelled")
                raise
            await self._note(method, identity, request, "ok")

        return call

    async def _admit(self, method: str, request: Any, context: Any) -> Identity:
        """The caller, allowed to call; aborts the call otherwise."""
        identity = Identity("unknown", "none", 0.0)
        if not self._leads():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this controller leads no more")
        try:
            if self._enrolment:
                if method != ENROLMENT:
                    raise DeniedError("this port answers nothing but enrolment")
                identity = Identity(str(getattr(request, "agent_id", "")), "joining", 0.0)
            else:
                identity = identity_from_auth_context(context.auth_context())
                check(identity, method, str(getattr(request, "run_id", "") or ""))
        except BlackstartError as error:
            await self._fail(method, identity, request, context, error)
        caller.set(identity)
        return identity

    async def _fail(
        self, method: str, identity: Identity, request: Any, context: Any, error: BlackstartError
    ) -> NoReturn:
        outcome = f"{type(error).__name__}: {error}"
        await self._note(method, identity, request, outcome, always=isinstance(error, DeniedError))
        self._log.info("call failed", method=method, actor=identity.name, role=identity.role, outcome=outcome)
        await context.abort(error.status, str(error), to_metadata(error))
        raise AssertionError("abort raises")

    async def _note(self, method: str, identity: Identity, request: Any, outcome: str, *, always: bool = False) -> None:
        if always or method.startswith(_OPERATOR) or method == ENROLMENT:
            await self._audit.add(identity, method.rpartition("/")[2], subject(request), outcome)


def check(identity: Identity, method: str, run_id: str) -> None:
    """DeniedError unless *identity* may call *method* for the run *run_id* (empty: for none)."""
    if identity.role == "runner" and method in {_OPERATOR + name for name in _OWN}:
        if run_id and run_id != identity.name:
            raise DeniedError(f"a runner's certificate is valid for its own run {identity.name} only, not for {run_id}")
        return
    allowed = ROLES.get(method, frozenset())
    if identity.role not in allowed:
        needed = " or ".join(sorted(allowed)) or "nobody"
        name = method.rpartition("/")[2]
        raise DeniedError(f"{identity.name} has the role {identity.role}; {name} is for {needed}")


def subject(request: Any) -> str:
    """What a call was about, for the audit."""
    parts = [
        str(value)
        for field in ("run_id", "name", "function", "agent_id", "source", "reason", "lift")
        if (value := getattr(request, field, "")) not in ("", False)
    ]
    if (run := getattr(request, "run", None)) is not None:
        parts.append(str(getattr(run, "source", "")))
    return " ".join(filter(None, [*parts, *map(str, getattr(request, "run_ids", ()))]))[:300]
