"""Approvals, and the runs that use them up."""

from __future__ import annotations

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.store import schema
from controller.store.base import ApprovalRecord, RunRecord
from controller.store.table import Tables, record_of, values_of


class ApprovalTables(Tables):
    async def add_approval(self, approval: ApprovalRecord) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert(schema.approvals).values(**values_of(approval)))

        await self._database.write(work)

    async def approvals(self, most: int, digest: str = "") -> list[ApprovalRecord]:
        approvals = schema.approvals
        query = select(approvals).order_by(approvals.c.number.desc()).limit(most)
        if digest:
            query = query.where(approvals.c.digest == digest)

        async def work(connection: AsyncConnection) -> list[ApprovalRecord]:
            return [record_of(ApprovalRecord, row) for row in await connection.execute(query)]

        return await self._database.read(work)

    async def add_approved_run(
        self, run: RunRecord, digest: str, submitter: str, now_wall_ns: int
    ) -> ApprovalRecord | None:
        columns = schema.approvals.c
        usable = (
            select(columns.number)
            .where(columns.digest == digest, columns.run_id == "")
            .where(columns.approver != submitter, columns.expires_wall_ns > now_wall_ns)
            .order_by(columns.number)
            .limit(1)
            .scalar_subquery()
        )
        # Asked once more in the statement that takes it: of two at once, the later finds it taken.
        taking = (
            update(schema.approvals)
            .where(columns.number == usable, columns.run_id == "")
            .values(run_id=run.id)
            .returning(*schema.approvals.c)
        )

        async def work(connection: AsyncConnection) -> ApprovalRecord | None:
            row = (await connection.execute(taking)).one_or_none()
            if row is None:
                return None
            await connection.execute(insert(schema.runs).values(**values_of(run), events=0))
            return record_of(ApprovalRecord, row)

        return await self._database.write(work)
