# ruff: noqa: N802 (the names are those of the service)
"""An `Operator` service that does what a test tells it to, over real TLS: for what a healthy controller never does.

It drops streams, answers with any error, and keeps what it was asked.
"""

from __future__ import annotations

import json
import tempfile
import threading
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc

from blackstart.settings import Settings
from controller.pki import Authority
from protos import blackstart_operator_pb2 as pb
from protos.blackstart_operator_pb2_grpc import OperatorServicer, add_OperatorServicer_to_server
from protos.credential import write_credential
from protos.error import BlackstartError, to_metadata


def certificate(authority: Authority, directory: Path, *, role: str = "admin", valid_s: float | None = None) -> Path:
    """A client's certificate in *directory*."""
    cert, key = authority.issue("tester", role, valid_s=valid_s)
    assert key is not None
    write_credential(directory, cert, key, authority.ca_pem)
    return directory


@dataclass
class Script(OperatorServicer):
    """What to answer, and what was asked."""

    run: pb.Run = field(default_factory=lambda: pb.Run(id="r1", title="t", state="running"))
    events: list[pb.RunEvent] = field(default_factory=list)
    breaks_after: set[int] = field(default_factory=set)  # the stream is dropped once after the event of that number
    errors: dict[str, BlackstartError] = field(default_factory=dict)  # by method or driver function
    results: dict[str, Any] = field(default_factory=dict)  # by driver function
    calls: list[tuple[str, Any]] = field(default_factory=list)
    agents: list[pb.Agent] = field(default_factory=list)
    plan: dict[str, Any] = field(default_factory=dict)
    document: dict[str, Any] = field(default_factory=dict)
    closes_as: dict[str, Any] = field(default_factory=lambda: {"verdict": "held", "outcome": "completed"})
    aborted: threading.Event = field(default_factory=threading.Event)
    hold_watch: bool = False  # the stream stays open until the run is aborted

    def _heard(self, name: str, request: Any, context: grpc.ServicerContext) -> None:
        self.calls.append((name, request))
        if error := self.errors.get(name):
            context.set_trailing_metadata(to_metadata(error))
            context.abort(error.status, str(error))

    def called(self, name: str) -> list[Any]:
        return [request for called, request in self.calls if called == name]

    def Submit(self, request, context):
        self._heard("Submit", request, context)
        return self.run

    def OpenRun(self, request, context):
        self._heard("OpenRun", request, context)
        return self.run

    def Plan(self, request, context):
        self._heard("Plan", request, context)
        return pb.PlanReply(plan_json=json.dumps(self.plan).encode())

    def Watch(self, request, context):
        self._heard("Watch", request, context)
        for event in self.events:
            if event.number <= request.after:
                continue
            yield event
            if event.number in self.breaks_after:
                self.breaks_after.discard(event.number)
                context.abort(grpc.StatusCode.UNAVAILABLE, "dropped by the script")
        if self.hold_watch:
            self.aborted.wait(20)
            yield pb.RunEvent(run_id="r1", number=len(self.events) + 1, kind="run.closing", message="aborted")
        elif self.run.outcome == "" and not self.called("OpenRun"):
            self.run.state = "ended"

    def Abort(self, request, context):
        self._heard("Abort", request, context)
        self.run.MergeFrom(pb.Run(state="ended", verdict="inconclusive", outcome="aborted", reason=request.reason))
        self.aborted.set()
        return self.run

    def ListRuns(self, request, context):
        self._heard("ListRuns", request, context)
        return pb.ListRunsReply(runs=[self.run])

    def ShowRun(self, request, context):
        self._heard("ShowRun", request, context)
        return pb.RunDetail(run=self.run, document_json=json.dumps(self.document).encode())

    def Report(self, request, context):
        self._heard("Report", request, context)
        return pb.ReportReply(media_type="application/json", content=b"{}")

    def ListAgents(self, request, context):
        self._heard("ListAgents", request, context)
        return pb.ListAgentsReply(agents=self.agents)

    def ListFaults(self, request, context):
        self._heard("ListFaults", request, context)
        return pb.ListFaultsReply(
            faults=[pb.FaultKind(kind="process.kill", undo="self_healing", agents_available=1, agents_total=1)]
        )

    def Stop(self, request, context):
        self._heard("Stop", request, context)
        return pb.StopReply(stopped=not request.lift, agents=2, effects_reverted=3)

    def IssueJoinToken(self, request, context):
        self._heard("IssueJoinToken", request, context)
        return pb.JoinToken(token="secret", address="h:1", enrol_address="h:2", ca_pem=b"CA")

    def ListAudit(self, request, context):
        self._heard("ListAudit", request, context)
        return pb.ListAuditReply(records=[pb.AuditRecord(actor="tester", method="Stop", outcome="ok")])

    def Approve(self, request, context):
        self._heard("Approve", request, context)
        return pb.Approval(digest="d" * 64, title="t", source=request.run.source, approver="tester", expires_wall_ns=1)

    def ListApprovals(self, request, context):
        self._heard("ListApprovals", request, context)
        return pb.ListApprovalsReply(approvals=[pb.Approval(digest="d" * 64, title="t", approver="tester")])

    def AddSchedule(self, request, context):
        self._heard("AddSchedule", request, context)
        return pb.Schedule(name=request.name, cron=request.cron, at_wall_ns=request.at_wall_ns)

    def ListSchedules(self, request, context):
        self._heard("ListSchedules", request, context)
        return pb.ListSchedulesReply()

    def RemoveSchedule(self, request, context):
        self._heard("RemoveSchedule", request, context)
        return pb.Schedule(name=request.name)

    def Invoke(self, request, context):
        self._heard("Invoke", request, context)
        self._heard(request.function, json.loads(request.arguments_json), context)
        yield pb.InvokeReply(progress=f"{request.function} begins")
        result = self.results.get(request.function, {})
        yield pb.InvokeReply(result_json=json.dumps(result).encode(), done=True)

    def CloseRun(self, request, context):
        self._heard("CloseRun", request, context)
        self.run.MergeFrom(pb.Run(state="ended", **self.closes_as))
        return self.run


class Served:
    """*script* behind a TLS port on loopback, and the settings that reach it."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._room = tempfile.TemporaryDirectory()
        self.directory = Path(self._room.name)
        self.authority = Authority.create(self.directory / "ca")
        self.certs = certificate(self.authority, self.directory / "certs")
        cert, key = self.authority.issue("controller", "controller", hosts=["127.0.0.1"])
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        add_OperatorServicer_to_server(script, self._server)
        credentials = grpc.ssl_server_credentials([(key, cert)], self.authority.ca_pem, True)
        port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.settings = Settings(f"127.0.0.1:{port}", self.certs)

    @property
    def environ(self) -> dict[str, str]:
        return {"BLACKSTART_CONTROLLER": self.settings.controller, "BLACKSTART_CERTS": str(self.certs)}

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.script.aborted.set()
        self._server.stop(0).wait()
        self._room.cleanup()
