"""The Python API: one synchronous client of a controller.

Invariant: every failure is a `protos.error`; a controller that cannot be reached is said within five seconds, with its
address and what to do.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import grpc

from blackstart.apart import apart, stream_apart
from blackstart.credential import channel_credentials
from blackstart.settings import Settings, resolve
from protos import blackstart_operator_pb2 as pb
from protos.blackstart_operator_pb2_grpc import OperatorStub
from protos.channel import CHANNEL_OPTIONS
from protos.error import BlackstartError, TransientError, UnreachableError, from_rpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

REACH_S: Final = 5.0  # a controller that has not answered by then is called unreachable
CALL_S: Final = 15.0
SLOW_CALL_S: Final = 120.0  # calls that revert effects, resolve targets on agents or render reports
RETRY_MAX_S: Final = 2.0
PATIENCE_S: Final = 60.0  # a watch outlives a restart of the controller
HEALTH: Final = "/grpc.health.v1.Health/Check"
_AWAY: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

Json = dict[str, Any]
T = TypeVar("T")


class Client:
    """A context manager over one TLS channel; safe for use by several threads, and after an interrupted call."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or resolve()
        self._channel = grpc.secure_channel(
            self.settings.controller, channel_credentials(self.settings.certs), options=CHANNEL_OPTIONS
        )
        self._stub = OperatorStub(self._channel)
        self._reached = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def reach(self) -> None:
        """Returns once the controller has answered; UnreachableError otherwise, within five seconds."""
        check = self._channel.unary_unary(HEALTH, request_serializer=bytes, response_deserializer=bytes)
        try:
            apart(lambda: check(b"", timeout=REACH_S))
        except grpc.RpcError as error:
            if error.code() in _AWAY:
                raise self._unreachable(error) from error
        self._reached = True

    # Runs.
    def submit(
        self,
        experiment: Json,
        *,
        source: str = "",
        variables: Mapping[str, str] | None = None,
        profile: Json | None = None,
    ) -> pb.Run:
        return self._call(pb.Run, "Submit", _submission(experiment, source, variables, profile), SLOW_CALL_S)

    def plan(
        self,
        experiment: Json,
        *,
        source: str = "",
        variables: Mapping[str, str] | None = None,
        profile: Json | None = None,
    ) -> Json:
        """What a run would do, resolved by the controller and the agents; nothing is touched."""
        reply = self._call(pb.PlanReply, "Plan", _submission(experiment, source, variables, profile), SLOW_CALL_S)
        return _json(reply.plan_json)

    def watch(self, run_id: str, after: int = 0) -> Iterator[pb.RunEvent]:
        """The run's events past number *after*, as they happen, until the run has ended.

        A lost connection is taken up again where it broke, each event comes once; a controller that stays away for a
        minute is unreachable.
        """
        away_since: float | None = None
        pause_s = 0.1
        while True:
            try:
                self._reach_once()
                request = pb.WatchRequest(run_id=run_id, after=after)
                for event in stream_apart(partial(self._stub.Watch, request)):
                    away_since, pause_s = None, 0.1
                    if event.number > after:
                        after = event.number
                        yield event
                if self.show(run_id)[0].state == "ended":
                    return
            except grpc.RpcError as error:
                if error.code() not in _AWAY:
                    raise from_rpc(error) from error
                failure: BlackstartError = self._unreachable(error)
            except (UnreachableError, TransientError) as error:
                failure = error
            else:
                failure = TransientError(f"{self.settings.controller} ended the stream of run {run_id} early")
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > PATIENCE_S:
                raise failure
            time.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 (jitter)
            pause_s = min(pause_s * 2, RETRY_MAX_S)

    def abort(self, run_id: str, reason: str = "") -> pb.Run:
        return self._call(pb.Run, "Abort", pb.AbortRequest(run_id=run_id, reason=reason), SLOW_CALL_S)

    def runs(self, most: int = 50) -> list[pb.Run]:
        return list(self._call(pb.ListRunsReply, "ListRuns", pb.ListRunsRequest(most=most)).runs)

    def show(self, run_id: str) -> tuple[pb.Run, Json]:
        """The run and its document (`controller.report.document.RunDocument`)."""
        reply = self._call(pb.RunDetail, "ShowRun", pb.ShowRunRequest(run_id=run_id))
        return reply.run, _json(reply.document_json)

    def report(
        self, run_ids: list[str], form: str = "json", title: str = "", *, not_tested: Sequence[pb.NotTested] = ()
    ) -> tuple[str, bytes]:
        """Media type and content; *form* is json, html or junit. *not_tested* is shown with what is missing."""
        request = pb.ReportRequest(run_ids=run_ids, title=title, format=form, not_tested=not_tested)
        reply = self._call(pb.ReportReply, "Report", request, SLOW_CALL_S)
        return reply.media_type, reply.content

    def approve(
        self,
        experiment: Json,
        *,
        source: str = "",
        variables: Mapping[str, str] | None = None,
        profile: Json | None = None,
        valid_s: float = 0.0,
    ) -> pb.Approval:
        """As a second person: somebody else may run exactly this experiment, with these values, once."""
        run = _submission(experiment, source, variables, profile)
        return self._call(pb.Approval, "Approve", pb.ApproveRequest(run=run, valid_s=valid_s))

    def approvals(self, most: int = 100) -> list[pb.Approval]:
        return list(self._call(pb.ListApprovalsReply, "ListApprovals", pb.ListApprovalsRequest(most=most)).approvals)

    # Fleet.
    def agents(self) -> list[pb.Agent]:
        return list(self._call(pb.ListAgentsReply, "ListAgents", pb.ListAgentsRequest()).agents)

    def faults(self) -> list[pb.FaultKind]:
        return list(self._call(pb.ListFaultsReply, "ListFaults", pb.ListFaultsRequest()).faults)

    def stop(self, reason: str = "") -> pb.StopReply:
        """The emergency stop: reverts every effect on every agent and refuses new ones until `lift`."""
        return self._call(pb.StopReply, "Stop", pb.StopRequest(reason=reason), SLOW_CALL_S)

    def lift(self, reason: str = "") -> pb.StopReply:
        return self._call(pb.StopReply, "Stop", pb.StopRequest(lift=True, reason=reason), SLOW_CALL_S)

    def join_token(self, *, valid_s: float = 3600.0, agent_id: str = "") -> pb.JoinToken:
        return self._call(pb.JoinToken, "IssueJoinToken", pb.IssueJoinTokenRequest(valid_s=valid_s, agent_id=agent_id))

    def audit(self, most: int = 100) -> list[pb.AuditRecord]:
        return list(self._call(pb.ListAuditReply, "ListAudit", pb.ListAuditRequest(most=most)).records)

    # Schedule.
    def add_schedule(
        self,
        name: str,
        experiment: Json,
        *,
        cron: str = "",
        at_wall_ns: int = 0,
        source: str = "",
        variables: Mapping[str, str] | None = None,
        profile: Json | None = None,
    ) -> pb.Schedule:
        """Exactly one of *cron* (five fields, UTC) and *at_wall_ns*."""
        run = _submission(experiment, source, variables, profile)
        request = pb.AddScheduleRequest(name=name, cron=cron, at_wall_ns=at_wall_ns, run=run)
        return self._call(pb.Schedule, "AddSchedule", request)

    def schedules(self) -> list[pb.Schedule]:
        return list(self._call(pb.ListSchedulesReply, "ListSchedules", pb.ListSchedulesRequest()).schedules)

    def remove_schedule(self, name: str) -> pb.Schedule:
        return self._call(pb.Schedule, "RemoveSchedule", pb.RemoveScheduleRequest(name=name))

    # Drivers.
    def open_run(self, experiment: Json, *, source: str = "", variables: Mapping[str, str] | None = None) -> pb.Run:
        return self._call(pb.Run, "OpenRun", _submission(experiment, source, variables, None), SLOW_CALL_S)

    def invoke(
        self, run_id: str, function: str, arguments: Json, progress: Callable[[str], None] = lambda _line: None
    ) -> Any:
        """Result of a driver function; it takes as long as it takes, *progress* hears its lines."""
        self._reach_once()
        request = pb.InvokeRequest(run_id=run_id, function=function, arguments_json=json.dumps(arguments).encode())
        with self._translated():
            for reply in stream_apart(lambda: self._stub.Invoke(request)):
                if reply.progress:
                    progress(reply.progress)
                if reply.done:
                    return json.loads(reply.result_json) if reply.result_json else None
        raise TransientError(f"{self.settings.controller} ended {function} of run {run_id} without a result")

    def close_run(self, run_id: str, journal: Json) -> pb.Run:
        content = json.dumps(journal, default=str).encode()
        return self._call(pb.Run, "CloseRun", pb.CloseRunRequest(run_id=run_id, journal_json=content), SLOW_CALL_S)

    def _call(self, kind: type[T], method: str, request: Any, timeout_s: float = CALL_S) -> T:
        self._reach_once()
        with self._translated():
            reply = apart(lambda: getattr(self._stub, method)(request, timeout=timeout_s))
        assert isinstance(reply, kind)
        return reply

    def _reach_once(self) -> None:
        if not self._reached:
            self.reach()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            translated = from_rpc(error)
            raise (self._unreachable(error) if isinstance(translated, UnreachableError) else translated) from error

    def _unreachable(self, error: grpc.RpcError) -> UnreachableError:
        """What to do about it depends on how it failed."""
        self._reached = False
        where, certs = self.settings.controller, self.settings.certs
        details = str(error.details() or error.code())
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            what, remedy = "no answer in time", "see whether its host is up and the path to it open"
        elif "refused" in details:
            what, remedy = "connection refused", "start it, or `blackstart up` for one on this machine"
        elif any(word in details.lower() for word in ("ssl", "tls", "certificate", "handshake")):
            what, remedy = "no TLS connection", f"see whether {Path(certs) / 'ca.pem'} is the CA of this controller"
        else:
            what = details.rsplit("last error: ", 1)[-1]
            remedy = "see whether it runs; `blackstart doctor` looks further"
        return UnreachableError(f"the controller at {where} cannot be reached: {what}. To do: {remedy}")


def _submission(
    experiment: Json, source: str, variables: Mapping[str, str] | None, profile: Json | None
) -> pb.SubmitRequest:
    return pb.SubmitRequest(
        experiment_json=json.dumps(experiment, default=str).encode(),
        source=source,
        variables=dict(variables or {}),
        profile_json=json.dumps(profile) if profile is not None else "",
    )


def _json(content: bytes) -> Json:
    document = json.loads(content) if content else {}
    assert isinstance(document, dict)
    return document
