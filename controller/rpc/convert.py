"""Records of the store as messages of the operator's protocol."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from protos import blackstart_operator_pb2 as pb

if TYPE_CHECKING:
    from controller.fleet import Member
    from controller.leftover import Leftovers
    from controller.store.base import ApprovalRecord, AuditRecord, EventRecord, RunRecord, ScheduleRecord


def run_message(run: RunRecord) -> pb.Run:
    return pb.Run(
        id=run.id, title=run.title, state=run.state, verdict=run.verdict, outcome=run.outcome, reason=run.reason,
        actor=run.actor, source=run.source, submitted_wall_ns=run.submitted_wall_ns,
        started_wall_ns=run.started_wall_ns, ended_wall_ns=run.ended_wall_ns, stranded=run.stranded,
    )  # fmt: skip


def event_message(event: EventRecord) -> pb.RunEvent:
    return pb.RunEvent(
        run_id=event.run_id, number=event.number, wall_ns=event.wall_ns, kind=event.kind, message=event.message,
        body_json=json.dumps(event.body).encode(),
    )  # fmt: skip


def agent_message(member: Member, leftovers: Leftovers) -> pb.Agent:
    offset = member.offset()
    return pb.Agent(
        id=member.id, connected=member.connected, version=member.version, boot_id=member.boot_id, labels=member.labels,
        seen_wall_ns=member.seen_wall_ns, offset_s=offset.offset_ns / 1e9 if offset else 0.0,
        offset_error_s=offset.error_ns / 1e9 if offset else 0.0, effects=member.effects, spooled=member.spooled,
        dropped=member.dropped, capabilities_json=json.dumps(list(member.capabilities)).encode(),
        stranded_json=json.dumps(leftovers.stranded(member.id)).encode(), residue=leftovers.found(member.id),
    )  # fmt: skip


def audit_message(record: AuditRecord) -> pb.AuditRecord:
    return pb.AuditRecord(
        wall_ns=record.wall_ns, actor=record.actor, role=record.role, method=record.method, subject=record.subject,
        outcome=record.outcome,
    )  # fmt: skip


def approval_message(record: ApprovalRecord) -> pb.Approval:
    return pb.Approval(
        digest=record.digest, title=record.title, source=record.source, approver=record.approver,
        approved_wall_ns=record.approved_wall_ns, expires_wall_ns=record.expires_wall_ns, run_id=record.run_id,
    )  # fmt: skip


def schedule_message(record: ScheduleRecord, next_wall_ns: int) -> pb.Schedule:
    return pb.Schedule(
        name=record.name, cron=record.cron, at_wall_ns=record.at_wall_ns, source=record.source,
        next_wall_ns=next_wall_ns, last_run_id=record.last_run_id,
    )  # fmt: skip
