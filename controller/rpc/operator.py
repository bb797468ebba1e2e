"""What operators ask: runs, fleet, schedules, audit. Authorization and audit are `controller.rpc.auth`'s."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from controller import approval
from controller.pki import new_token
from controller.report.document import skipped
from controller.report.document_json import run_to_json
from controller.report.render import render
from controller.rpc.auth import caller
from controller.rpc.convert import (
    agent_message,
    approval_message,
    audit_message,
    event_message,
    run_message,
    schedule_message,
)
from controller.rpc.driver_calls import DriverCalls
from controller.run.assemble import assemble
from controller.run.plan import plan
from controller.store.base import ScheduleRecord
from protos import blackstart_operator_pb2 as pb
from protos.error import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from controller.pki import Authority
    from controller.run.intake import Intake
    from controller.run.machine import Machine
    from controller.run.reach import Reach
    from controller.schedule import Schedule
    from controller.stop import EmergencyStop

LIST_MAX: Final = 1000
TOKEN_S: Final = 3600.0
TOKEN_S_MAX: Final = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where this controller answers, as clients dial it."""

    main: str
    enrolment: str


class Operator(DriverCalls):
    """See the module."""

    def __init__(
        self, reach: Reach, machine: Machine, intake: Intake, schedule: Schedule, stop: EmergencyStop,
        authority: Authority, addresses: Addresses,
    ) -> None:  # fmt: skip
        self._reach, self._store, self._fleet = reach, reach.store, reach.fleet
        self._machine, self._intake, self._schedule, self._stop = machine, intake, schedule, stop
        self._authority, self._addresses = authority, addresses

    async def Submit(self, request: pb.SubmitRequest, context: Any) -> pb.Run:  # noqa: N802
        del context
        return run_message(await self._machine.submit(self._intake.read(request, caller.get().name)))

    async def Plan(self, request: pb.SubmitRequest, context: Any) -> pb.PlanReply:  # noqa: N802
        del context
        import json

        what = self._intake.read(request, caller.get().name)
        document = await plan(self._reach, what.experiment, what.variables, profile=what.profile)
        lacks = await approval.missing(self._store, what)
        document["approval"] = {"needed": approval.needed(what.experiment), "missing": lacks}
        document["problems"] += [lacks] if lacks else []
        return pb.PlanReply(plan_json=json.dumps(document).encode())

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.RunEvent]:  # noqa: N802
        del context
        actor = caller.get().name
        await self._record(request.run_id)
        self._machine.watched(request.run_id, actor, 1)
        try:
            async for event in self._reach.chronicle.follow(request.run_id, request.after):
                yield event_message(event)
        finally:
            self._machine.watched(request.run_id, actor, -1)

    async def Abort(self, request: pb.AbortRequest, context: Any) -> pb.Run:  # noqa: N802
        del context
        return run_message(await self._machine.abort(request.run_id, request.reason, caller.get().name))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Any) -> pb.ListRunsReply:  # noqa: N802
        del context
        runs = await self._store.runs(min(request.most or 50, LIST_MAX))
        return pb.ListRunsReply(runs=[run_message(run) for run in runs])

    async def ShowRun(self, request: pb.ShowRunRequest, context: Any) -> pb.RunDetail:  # noqa: N802
        del context
        record = await self._record(request.run_id)
        return pb.RunDetail(run=run_message(record), document_json=run_to_json(await assemble(self._store, record)))

    async def Report(self, request: pb.ReportRequest, context: Any) -> pb.ReportReply:  # noqa: N802
        del context
        if not request.run_ids and not request.not_tested:
            raise SpecError(Problem("run_ids", "are empty", "name one run or several"))
        records = [await self._record(run_id) for run_id in request.run_ids]
        documents = [await assemble(self._store, record) for record in records]
        documents += [skipped(row.title, row.source, row.missing) for row in request.not_tested]
        title = request.title or (records[0].title if len(records) == 1 else f"{len(records)} runs")
        media_type, content = render(documents, title, request.format or "json")
        return pb.ReportReply(media_type=media_type, content=content.encode() if isinstance(content, str) else content)

    async def ListAgents(self, request: pb.ListAgentsRequest, context: Any) -> pb.ListAgentsReply:  # noqa: N802
        del request, context
        agents = [agent_message(member, self._reach.leftovers) for member in self._fleet.members()]
        return pb.ListAgentsReply(agents=agents)

    async def ListFaults(self, request: pb.ListFaultsRequest, context: Any) -> pb.ListFaultsReply:  # noqa: N802
        del request, context
        available: Counter[str] = Counter()
        total: Counter[str] = Counter()
        undo: dict[str, str] = {}
        missing: dict[str, list[str]] = {}
        for member in self._fleet.connected():
            for row in member.capabilities:
                if row["family"] == "fault":
                    kind = row["kind"]
                    total[kind] += 1
                    available[kind] += bool(row["available"])
                    undo[kind] = row["undo"]
                    if not row["available"]:
                        missing.setdefault(kind, []).append(f"{member.id}: {row['missing']}")
        return pb.ListFaultsReply(
            faults=[
                pb.FaultKind(
                    kind=kind, undo=undo[kind], agents_available=available[kind], agents_total=total[kind],
                    missing=missing.get(kind, []),
                )
                for kind in sorted(total)
            ]
        )  # fmt: skip

    async def Stop(self, request: pb.StopRequest, context: Any) -> pb.StopReply:  # noqa: N802
        del context
        actor = caller.get().name
        done = await (self._stop.lift if request.lift else self._stop.stop)(actor, request.reason)
        return pb.StopReply(
            stopped=not request.lift, agents=done.agents, effects_reverted=done.reverted, stranded=done.stranded,
            unreachable=done.unreachable,
        )  # fmt: skip

    async def IssueJoinToken(self, request: pb.IssueJoinTokenRequest, context: Any) -> pb.JoinToken:  # noqa: N802
        del context
        valid_s = request.valid_s or TOKEN_S
        if not 0 < valid_s <= TOKEN_S_MAX:
            raise SpecError(Problem("valid_s", f"{valid_s:g} is out of range", f"more than 0, at most {TOKEN_S_MAX:g}"))
        token, digest = new_token()
        expires_wall_ns = time.time_ns() + int(valid_s * 1e9)
        await self._store.add_token(digest, request.agent_id, expires_wall_ns)
        return pb.JoinToken(
            token=token, expires_wall_ns=expires_wall_ns, enrol_address=self._addresses.enrolment,
            address=self._addresses.main, ca_pem=self._authority.ca_pem,
        )  # fmt: skip

    async def ListAudit(self, request: pb.ListAuditRequest, context: Any) -> pb.ListAuditReply:  # noqa: N802
        del context
        records = await self._store.audit(min(request.most or 100, LIST_MAX))
        return pb.ListAuditReply(records=[audit_message(record) for record in records])

    async def Approve(self, request: pb.ApproveRequest, context: Any) -> pb.Approval:  # noqa: N802
        del context
        what = self._intake.read(request.run, caller.get().name, external=True)  # it may be run from elsewhere, too
        return approval_message(await approval.approve(self._store, what, request.valid_s))

    async def ListApprovals(self, request: pb.ListApprovalsRequest, context: Any) -> pb.ListApprovalsReply:  # noqa: N802
        del context
        records = await self._store.approvals(min(request.most or 100, LIST_MAX))
        return pb.ListApprovalsReply(approvals=[approval_message(record) for record in records])

    async def AddSchedule(self, request: pb.AddScheduleRequest, context: Any) -> pb.Schedule:  # noqa: N802
        del context
        what = self._intake.read(request.run, caller.get().name)
        record = ScheduleRecord(
            name=request.name, cron=request.cron, at_wall_ns=request.at_wall_ns, source=what.source,
            experiment=what.experiment, variables=what.variables, profile=what.profile, actor=what.actor,
        )  # fmt: skip
        await self._schedule.add(record)
        due = {known.name: next_ns for known, next_ns in await self._schedule.list()}
        return schedule_message(record, due.get(record.name, 0))

    async def ListSchedules(self, request: pb.ListSchedulesRequest, context: Any) -> pb.ListSchedulesReply:  # noqa: N802
        del request, context
        rows = await self._schedule.list()
        return pb.ListSchedulesReply(schedules=[schedule_message(record, due) for record, due in rows])

    async def RemoveSchedule(self, request: pb.RemoveScheduleRequest, context: Any) -> pb.Schedule:  # noqa: N802
        del context
        return schedule_message(await self._schedule.remove(request.name), 0)
