"""Who did what, when, to what effect: one line a call, in the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from controller.store.base import AuditRecord
from protos.error import BlackstartError

if TYPE_CHECKING:
    from controller.pki import Identity
    from controller.store.base import Store


class Audit:
    """A store that is full does not stop the emergency stop: the line is logged instead, and counted in `lost`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._log = structlog.get_logger("controller.audit")
        self.lost = 0

    async def add(self, identity: Identity, method: str, subject: str, outcome: str) -> None:
        record = AuditRecord(time.time_ns(), identity.name, identity.role, method, subject, outcome[:500])
        try:
            await self._store.add_audit(record)
        except BlackstartError as error:
            self.lost += 1
            self._log.error(
                "audit line not stored", actor=record.actor, role=record.role, method=method, subject=subject,
                outcome=outcome, why=str(error),
            )  # fmt: skip
