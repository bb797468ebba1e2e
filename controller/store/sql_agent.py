"""Agents, how far their spools were taken in, and telemetry chunks."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.store import schema
from controller.store.base import AgentRecord, ChunkRecord, GaugeRecord
from controller.store.table import Tables, record_of, values_of

T = TypeVar("T")
_INLINE_BYTES = 65_536  # more than this is packed on a thread: about a millisecond of the event loop


class AgentTables(Tables):
    async def put_agent(self, agent: AgentRecord) -> None:
        values = values_of(agent)
        upsert = self._upsert(schema.agents).values(**values).on_conflict_do_update(index_elements=["id"], set_=values)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(upsert)

        await self._database.write(work)

    async def agents(self) -> list[AgentRecord]:
        async def work(connection: AsyncConnection) -> list[AgentRecord]:
            rows = await connection.execute(select(schema.agents).order_by(schema.agents.c.id))
            return [record_of(AgentRecord, row) for row in rows]

        return await self._database.read(work)

    async def acknowledged(self, agent_id: str, spool_id: str) -> int:
        spools = schema.spools
        query = select(spools.c.sequence).where(spools.c.agent_id == agent_id, spools.c.spool_id == spool_id)

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(query)).scalar_one_or_none() or 0

        return await self._database.read(work)

    async def ingest(
        self, agent_id: str, spool_id: str, sequence: int, chunks: Sequence[ChunkRecord],
        gauges: Sequence[GaugeRecord] = (),
    ) -> bool:  # fmt: skip
        rows = await _off_loop(_packed, chunks)
        spools = schema.spools
        statement = self._upsert(spools).values(agent_id=agent_id, spool_id=spool_id, sequence=sequence)
        # A spool is sent in order: what is not past the last sequence was taken in before.
        advance = statement.on_conflict_do_update(
            index_elements=["agent_id", "spool_id"],
            set_={"sequence": statement.excluded.sequence},
            where=spools.c.sequence < statement.excluded.sequence,
        ).returning(spools.c.sequence)

        async def work(connection: AsyncConnection) -> bool:
            if (await connection.execute(advance)).first() is None:
                return False
            if rows:
                await connection.execute(insert(schema.chunks), rows)
            if gauges:
                await connection.execute(insert(schema.gauges), [values_of(gauge) for gauge in gauges])
            return True

        return await self._database.write(work)

    async def chunks(self, run_id: str) -> list[ChunkRecord]:
        chunks = schema.chunks
        columns = chunks.c
        query = (
            select(chunks)
            .where(columns.run_id == run_id)
            .order_by(columns.agent_id, columns.probe, columns.first_index, columns.number)
        )

        async def work(connection: AsyncConnection) -> list[ChunkRecord]:
            return [record_of(ChunkRecord, row) for row in await connection.execute(query)]

        return await _off_loop(_unpacked, await self._database.read(work))

    async def gauges(self, run_id: str) -> list[GaugeRecord]:
        columns = schema.gauges.c
        query = (
            select(schema.gauges)
            .where(columns.run_id == run_id)
            .order_by(columns.agent_id, columns.series, columns.number)
        )

        async def work(connection: AsyncConnection) -> list[GaugeRecord]:
            return [record_of(GaugeRecord, row) for row in await connection.execute(query)]

        return await self._database.read(work)


async def _off_loop(work: Callable[[Sequence[ChunkRecord]], T], chunks: Sequence[ChunkRecord]) -> T:
    if sum(len(chunk.columns) for chunk in chunks) <= _INLINE_BYTES:
        return work(chunks)
    return await asyncio.to_thread(work, chunks)


def _packed(chunks: Sequence[ChunkRecord]) -> list[dict[str, Any]]:
    return [values_of(chunk) | {"columns": zlib.compress(chunk.columns, level=1)} for chunk in chunks]


def _unpacked(chunks: Sequence[ChunkRecord]) -> list[ChunkRecord]:
    return [replace(chunk, columns=zlib.decompress(chunk.columns)) for chunk in chunks]
