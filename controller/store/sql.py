"""The store on a SQL database: SQLite in a file by default, PostgreSQL by its URL.

What the methods promise stands in `controller.store.base`; which database it is, only `database` and `table` know.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.store import schema
from controller.store.sql_agent import AgentTables
from controller.store.sql_approval import ApprovalTables
from controller.store.sql_control import ControlTables
from controller.store.sql_run import RunTables


def sqlite_url(path: Path) -> str:
    """The URL of the SQLite file *path*."""
    return URL.create("sqlite+aiosqlite", database=str(path.absolute())).render_as_string()


class SqlStore(RunTables, AgentTables, ControlTables, ApprovalTables):
    """`controller.store.base.Store` at a URL of SQLAlchemy.

    With SQLite, `open` refuses (HeldError) a file that another controller has open. With PostgreSQL, who has called
    `lead` writes until another does, and not once more.
    """

    @property
    def superseded(self) -> asyncio.Event:
        """Set when a write was refused because another controller leads."""
        return self._database.superseded

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    async def lead(self) -> int:
        statement = self._upsert(schema.leadership).values(name="controller", epoch=1)
        advance = statement.on_conflict_do_update(
            index_elements=["name"], set_={"epoch": schema.leadership.c.epoch + 1}
        ).returning(schema.leadership.c.epoch)

        async def work(connection: AsyncConnection) -> int:
            return int((await connection.execute(advance)).scalar_one())

        epoch = await self._database.write(work)
        self._database.fence(epoch)
        return epoch
