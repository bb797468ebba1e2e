"""Runs, their events and their documents."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import Select, Table, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.store import schema
from controller.store.base import EventRecord, Json, RunRecord
from controller.store.table import Tables, plain, record_of, values_of

_FIELDS = {field.name for field in fields(RunRecord)}


class RunTables(Tables):
    async def add_run(self, run: RunRecord) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert(schema.runs).values(**values_of(run), events=0))

        await self._database.write(work)

    async def update_run(self, run_id: str, **changes: object) -> RunRecord:
        if unknown := changes.keys() - (_FIELDS - {"id"}):
            raise TypeError(f"a run has no field to change named {', '.join(sorted(unknown))}")
        runs = schema.runs

        async def work(connection: AsyncConnection) -> RunRecord:
            if changes:
                await connection.execute(update(runs).where(runs.c.id == run_id).values(plain(changes)))
            row = (await connection.execute(select(runs).where(runs.c.id == run_id))).one_or_none()
            if row is None:
                raise KeyError(run_id)
            return record_of(RunRecord, row)

        return await self._database.write(work)

    async def run(self, run_id: str) -> RunRecord | None:
        rows = await self._runs(schema.runs.select().where(schema.runs.c.id == run_id))
        return rows[0] if rows else None

    async def runs(self, most: int) -> list[RunRecord]:
        runs = schema.runs
        return await self._runs(select(runs).order_by(runs.c.number.desc()).limit(most))

    async def open_runs(self) -> list[RunRecord]:
        runs = schema.runs
        return await self._runs(select(runs).where(runs.c.state != "ended").order_by(runs.c.number))

    async def _runs(self, query: Select[Any]) -> list[RunRecord]:
        async def work(connection: AsyncConnection) -> list[RunRecord]:
            return [record_of(RunRecord, row) for row in await connection.execute(query)]

        return await self._database.read(work)

    async def add_event(self, run_id: str, kind: str, message: str, body: Json, wall_ns: int) -> EventRecord:
        runs: Table = schema.runs

        async def work(connection: AsyncConnection) -> EventRecord:
            # The run's own row counts, and is locked by counting: no two events share a number, and a transaction
            # that is rolled back gives its number back.
            counted = update(runs).where(runs.c.id == run_id).values(events=runs.c.events + 1).returning(runs.c.events)
            number = (await connection.execute(counted)).scalar_one_or_none()
            if number is None:
                raise KeyError(run_id)
            event = EventRecord(run_id, number, wall_ns, kind, message, body)
            await connection.execute(insert(schema.events).values(**values_of(event)))
            return event

        return await self._database.write(work)

    async def events(self, run_id: str, after: int = 0) -> list[EventRecord]:
        events = schema.events
        query = select(events).where(events.c.run_id == run_id, events.c.number > after).order_by(events.c.number)

        async def work(connection: AsyncConnection) -> list[EventRecord]:
            return [record_of(EventRecord, row) for row in await connection.execute(query)]

        return await self._database.read(work)

    async def put(self, run_id: str, kind: str, key: str, body: Json) -> None:
        statement = self._upsert(schema.documents).values(run_id=run_id, kind=kind, key=key, body=plain(body))
        upsert = statement.on_conflict_do_update(
            index_elements=["run_id", "kind", "key"], set_={"body": statement.excluded.body}
        )

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(upsert)

        await self._database.write(work)

    async def documents(self, run_id: str, kind: str) -> dict[str, Json]:
        documents = schema.documents
        query = (
            select(documents.c.key, documents.c.body)
            .where(documents.c.run_id == run_id, documents.c.kind == kind)
            .order_by(documents.c.number)
        )

        async def work(connection: AsyncConnection) -> dict[str, Json]:
            return {row.key: row.body for row in await connection.execute(query)}

        return await self._database.read(work)
