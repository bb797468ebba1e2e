"""Takes in what agents spooled: results, events, probe batches; each exactly once.

Invariant: a message is acknowledged only after the store has it, and has its effect once however often it is sent.
A store that is full raises; then nothing is acknowledged and the agent keeps what it has.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import structlog

from controller.store.base import ChunkRecord, GaugeRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from controller.dispatch import Dispatch
    from controller.fleet import Member
    from controller.store.base import Store
    from protos import blackstart_agent_pb2 as pb

Json = dict[str, Any]
_INT64: Final = 8


class Ingest:
    """See the module. *on_event* takes an agent's event: member, run id, kind, body. *runs_of*: runs that use it."""

    def __init__(
        self, store: Store, dispatch: Dispatch, on_event: Callable[[Member, str, str, Json], Awaitable[None]],
        runs_of: Callable[[str], Iterable[str]],
    ) -> None:  # fmt: skip
        self._store, self._dispatch, self._on_event, self._runs_of = store, dispatch, on_event, runs_of
        self._log = structlog.get_logger("controller.ingest")
        self.messages = self.duplicates = self.attempts = self.malformed = 0

    async def take(self, member: Member, message: pb.AgentMessage) -> int:
        """Stores *message* and returns the sequence up to which everything is stored."""
        chunks = self._chunks(member, message.telemetry) if message.HasField("telemetry") else []
        gauges = self._gauges(member, message.telemetry) if message.HasField("telemetry") else []
        if not await self._store.ingest(member.id, member.spool_id, message.sequence, chunks, gauges):
            self.duplicates += 1
            return message.sequence
        self.messages += 1
        self.attempts += sum(chunk.count for chunk in chunks)
        if message.HasField("result"):
            self._dispatch.resolve(member.id, message.result)
        elif message.HasField("event"):
            await self._on_event(member, message.event.run_id, message.event.kind, self._body(member, message.event))
        return message.sequence

    def _chunks(self, member: Member, telemetry: pb.Telemetry) -> list[ChunkRecord]:
        chunks = []
        for batch in telemetry.probes:
            times = (batch.due_ns, batch.start_ns, batch.done_ns)
            sound = all(len(column) == batch.count * _INT64 for column in times) and len(batch.outcome) == batch.count
            if not sound or not batch.count:
                self.malformed += 1
                self._log.error("malformed probe batch dropped", agent=member.id, run=batch.run_id, probe=batch.probe)
                continue
            columns = b"".join((*times, batch.outcome))
            chunks.append(ChunkRecord(batch.run_id, member.id, batch.probe, batch.first_index, batch.count, columns))
        return chunks

    def _gauges(self, member: Member, telemetry: pb.Telemetry) -> list[GaugeRecord]:
        """Gauges are kept for the runs that use the agent, and for none else: they would fill the store at rest."""
        runs = sorted(self._runs_of(member.id)) if telemetry.gauges else []
        records = []
        for batch in telemetry.gauges if runs else ():
            name, unit = member.series.get(batch.series, ("", ""))
            if not name or not batch.count or not len(batch.at_ns) == len(batch.value) == batch.count * _INT64:
                self.malformed += 1
                continue
            columns = batch.at_ns + batch.value
            records += [GaugeRecord(run_id, member.id, name, unit, batch.count, columns) for run_id in runs]
        return records

    def _body(self, member: Member, event: pb.Event) -> Json:
        try:
            body = json.loads(event.body_json or b"{}")
        except ValueError:
            self.malformed += 1
            self._log.error("an event's body is not JSON", agent=member.id, run=event.run_id, event_kind=event.kind)
            return {}
        return body if isinstance(body, dict) else {"value": body}
