"""The store: the one interface, and the records that cross it.

Invariant: what a method has returned from is on disk; a method either takes effect whole or not at all. A store
that is full or away raises `TransientError` with the remedy in its message, and nothing was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run. *state*: queued, running, closing, ended. *verdict* and *outcome* are empty until it has ended."""

    id: str
    title: str
    actor: str
    source: str
    experiment: Json
    submitted_wall_ns: int
    state: str = "queued"
    verdict: str = ""
    outcome: str = ""
    reason: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    profile: Json = field(default_factory=dict)
    journal: Json = field(default_factory=dict)
    started_wall_ns: int = 0
    ended_wall_ns: int = 0
    stranded: bool = False


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One line of a run's history. *number* counts from 1 without gaps within the run."""

    run_id: str
    number: int
    wall_ns: int
    kind: str
    message: str
    body: Json


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """Attempts of one probe on one agent: columns packed as in `protos.ProbeBatch`, compressed by the store."""

    run_id: str
    agent_id: str
    probe: str
    first_index: int
    count: int
    columns: bytes  # due_ns, start_ns, done_ns (int64) and outcome (uint8), one after the other, little-endian


@dataclass(frozen=True, slots=True)
class GaugeRecord:
    """Samples of one gauge of a node while a run used it."""

    run_id: str
    agent_id: str
    series: str
    unit: str
    count: int
    columns: bytes  # at_ns (int64), then value (float64), little-endian


@dataclass(frozen=True, slots=True)
class AgentRecord:
    id: str
    version: str
    boot_id: str
    labels: Mapping[str, str]
    capabilities: Sequence[Json]
    seen_wall_ns: int


@dataclass(frozen=True, slots=True)
class AuditRecord:
    wall_ns: int
    actor: str
    role: str
    method: str
    subject: str
    outcome: str


@dataclass(frozen=True, slots=True)
class ScheduleRecord:
    """Exactly one of *cron* (five fields, UTC) and *at_wall_ns* is set."""

    name: str
    cron: str
    at_wall_ns: int
    source: str
    experiment: Json
    variables: Mapping[str, str]
    profile: Json
    actor: str
    last_run_id: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """*digest*: of the experiment and its variables. *run_id*: the run that used it up; empty: none yet."""

    digest: str
    title: str
    source: str
    approver: str
    approved_wall_ns: int
    expires_wall_ns: int
    run_id: str = ""


class Store(Protocol):
    """See the module. Methods may be called from one event loop only."""

    async def open(self) -> None:
        """Connects and brings the schema up to date."""

    async def close(self) -> None: ...

    async def lead(self) -> int:
        """A new epoch, higher than every one before; who led until now writes nothing more."""

    # Runs.
    async def add_run(self, run: RunRecord) -> None: ...
    async def update_run(self, run_id: str, **changes: object) -> RunRecord:
        """Sets the named fields; KeyError if there is no such run."""

    async def run(self, run_id: str) -> RunRecord | None: ...
    async def runs(self, most: int) -> list[RunRecord]:
        """Newest first."""

    async def open_runs(self) -> list[RunRecord]:
        """Those whose state is not ended, oldest first."""

    async def add_event(self, run_id: str, kind: str, message: str, body: Json, wall_ns: int) -> EventRecord: ...
    async def events(self, run_id: str, after: int = 0) -> list[EventRecord]: ...

    async def put(self, run_id: str, kind: str, key: str, body: Json) -> None:
        """Sets the run's document (kind, key): injections, recoveries, residue, figures."""

    async def documents(self, run_id: str, kind: str) -> dict[str, Json]:
        """By key, in the order in which the keys were first put."""

    # Agents and what they send.
    async def put_agent(self, agent: AgentRecord) -> None: ...
    async def agents(self) -> list[AgentRecord]: ...
    async def acknowledged(self, agent_id: str, spool_id: str) -> int:
        """Last sequence of this spool that was ingested; 0 if none."""

    async def ingest(
        self, agent_id: str, spool_id: str, sequence: int, chunks: Sequence[ChunkRecord],
        gauges: Sequence[GaugeRecord] = (),
    ) -> bool:  # fmt: skip
        """Stores telemetry and sequence in one transaction; False, and nothing stored, if it was ingested before."""

    async def chunks(self, run_id: str) -> list[ChunkRecord]:
        """By agent, probe and first index."""

    async def gauges(self, run_id: str) -> list[GaugeRecord]:
        """By agent and series, in the order in which they came."""

    # Schedules.
    async def put_schedule(self, schedule: ScheduleRecord) -> None: ...
    async def schedules(self) -> list[ScheduleRecord]: ...
    async def remove_schedule(self, name: str) -> ScheduleRecord | None: ...
    async def claim_firing(self, name: str, fire_wall_ns: int) -> bool:
        """True for the first caller that claims this firing, ever: a unique key decides."""

    # Security.
    async def add_audit(self, record: AuditRecord) -> None: ...
    async def audit(self, most: int) -> list[AuditRecord]:
        """Newest first."""

    async def add_approval(self, approval: ApprovalRecord) -> None: ...
    async def approvals(self, most: int, digest: str = "") -> list[ApprovalRecord]:
        """Newest first; of one digest where that is given."""

    async def add_approved_run(
        self, run: RunRecord, digest: str, submitter: str, now_wall_ns: int
    ) -> ApprovalRecord | None:
        """Adds the run and uses up an approval of *digest* by another than *submitter*; None, and neither, if none."""

    async def add_token(self, digest: str, agent_id: str, expires_wall_ns: int) -> None: ...
    async def use_token(self, digest: str, agent_id: str, now_wall_ns: int) -> bool:
        """Takes a join token, once: False if unknown, used, expired, or meant for another agent."""

    # Small settings, such as the emergency stop.
    async def setting(self, name: str) -> str | None: ...
    async def set_setting(self, name: str, value: str) -> None: ...
