"""Schedules and their firings, the audit, join tokens, settings."""

from __future__ import annotations

from sqlalchemy import Executable, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.store import schema
from controller.store.base import AuditRecord, ScheduleRecord
from controller.store.table import Tables, record_of, values_of


class ControlTables(Tables):
    async def put_schedule(self, schedule: ScheduleRecord) -> None:
        values = values_of(schedule)
        statement = self._upsert(schema.schedules).values(**values)
        await self._changed(statement.on_conflict_do_update(index_elements=["name"], set_=values))

    async def schedules(self) -> list[ScheduleRecord]:
        async def work(connection: AsyncConnection) -> list[ScheduleRecord]:
            rows = await connection.execute(select(schema.schedules).order_by(schema.schedules.c.name))
            return [record_of(ScheduleRecord, row) for row in rows]

        return await self._database.read(work)

    async def remove_schedule(self, name: str) -> ScheduleRecord | None:
        schedules = schema.schedules
        statement = delete(schedules).where(schedules.c.name == name).returning(schedules)

        async def work(connection: AsyncConnection) -> ScheduleRecord | None:
            row = (await connection.execute(statement)).one_or_none()
            return None if row is None else record_of(ScheduleRecord, row)

        return await self._database.write(work)

    async def claim_firing(self, name: str, fire_wall_ns: int) -> bool:
        statement = self._upsert(schema.firings).values(name=name, fire_wall_ns=fire_wall_ns)
        return await self._changed(statement.on_conflict_do_nothing()) == 1

    async def add_audit(self, record: AuditRecord) -> None:
        await self._changed(insert(schema.audit).values(**values_of(record)))

    async def audit(self, most: int) -> list[AuditRecord]:
        query = select(schema.audit).order_by(schema.audit.c.number.desc()).limit(most)

        async def work(connection: AsyncConnection) -> list[AuditRecord]:
            return [record_of(AuditRecord, row) for row in await connection.execute(query)]

        return await self._database.read(work)

    async def add_token(self, digest: str, agent_id: str, expires_wall_ns: int) -> None:
        values = {"digest": digest, "agent_id": agent_id, "expires_wall_ns": expires_wall_ns}
        await self._changed(insert(schema.tokens).values(**values, used_by="", used_wall_ns=0))

    async def use_token(self, digest: str, agent_id: str, now_wall_ns: int) -> bool:
        tokens = schema.tokens
        # One statement decides: of many at once, only the first still finds the token unused.
        taken = (
            update(tokens)
            .where(tokens.c.digest == digest, tokens.c.used_by == "", tokens.c.expires_wall_ns > now_wall_ns)
            .where(or_(tokens.c.agent_id == "", tokens.c.agent_id == agent_id))
            .values(used_by=agent_id, used_wall_ns=now_wall_ns)
        )
        return await self._changed(taken) == 1

    async def setting(self, name: str) -> str | None:
        query = select(schema.settings.c.value).where(schema.settings.c.name == name)

        async def work(connection: AsyncConnection) -> str | None:
            return (await connection.execute(query)).scalar_one_or_none()

        return await self._database.read(work)

    async def set_setting(self, name: str, value: str) -> None:
        statement = self._upsert(schema.settings).values(name=name, value=value)
        await self._changed(statement.on_conflict_do_update(index_elements=["name"], set_={"value": value}))

    async def _changed(self, statement: Executable) -> int:
        """Rows that *statement* wrote, once that is on disk."""

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        return await self._database.write(work)
