"""`postgres`: a query is answered, a row is written, written and read back, or entered into a ledger.

By asyncpg. A query that is cut off by its time limit ends with its connection: a request to cancel it would go to a
server that may be frozen. Source: docs of PostgreSQL, "Message flow" and "Error codes".
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import secrets
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import msgspec

from agent.probes.base import ProbeSpec, code_of
from agent.probes.ledger import Ledger
from agent.probes.limit import Limit
from protos.recovery import Code

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from asyncpg import Connection

IDLE_MAX: Final = 8
_TABLE: Final = "blackstart_probe"
_REFUSALS: Final = ("0A", "22", "23", "25", "28", "3D", "42", "53")  # classes of errors that roll back before a commit
_NAMES: Final = ("postgresql://", "postgres://")


class PostgresSpec(ProbeSpec):
    """*dsn* as libpq has it, several hosts too. *mode*: what an attempt does; *query* is for reads.

    verified_write reads its row back; ledger numbers its rows, so that losses can be counted (`probe.ledger`).
    *keepalive*: connections are used again, as a pool does; else a fresh one each. *members*: further servers that
    a ledger is read back from, each by its own dsn, to find what only one of them has.
    """

    dsn: str
    mode: Literal["read", "write", "verified_write", "ledger"] = "read"
    query: str = "SELECT 1"
    table: str = ""
    keepalive: bool = True
    members: dict[str, str] = msgspec.field(default_factory=dict)

    def problems(self) -> list[tuple[str, str]]:
        found = [("dsn", "is not postgresql://…")] if not self.dsn.startswith(_NAMES) else []
        strange = [name for name, dsn in self.members.items() if not dsn.startswith(_NAMES)]
        found += [(f"members.{name}", "is not postgresql://…") for name in strange]
        if self.table and not (
            self.table.replace("_", "a").isalnum() and self.table.isascii() and len(self.table) < 60
        ):
            found.append(("table", f"{self.table!r} is not a plain name"))
        return found


class PostgresProbe:
    """REFUSED: no connection, or it broke. BAD: an error of the server, such as a write on a replica."""

    kind: ClassVar[str] = "postgres"
    spec_type: ClassVar[type[ProbeSpec]] = PostgresSpec

    def __init__(self, spec: PostgresSpec) -> None:
        self._spec = spec
        self._idle: list[Connection[Any]] = []
        self._making = asyncio.Lock()
        self._rows = self._first = secrets.randbits(40) << 20  # of no other probe that writes to the table
        self._table = spec.table or _TABLE
        self.ledger: Ledger | None = None  # given by the engine where `keeps_ledger`
        self.keeps_ledger = spec.mode == "ledger"
        self._compared = False

    @staticmethod
    def missing() -> str:
        return "" if importlib.util.find_spec("asyncpg") else "asyncpg (pip install 'blackstart[postgres]')"

    async def open(self) -> None:
        if self.ledger is not None and not self._spec.table:
            self._table = f"blackstart_{self.ledger.name}"

    async def attempt(self, timeout_s: float) -> Code:
        import asyncpg

        try:
            async with Limit(timeout_s):
                return await self._ask()
        except asyncpg.PostgresConnectionError:
            return Code.REFUSED
        except (asyncpg.PostgresError, asyncpg.InternalClientError):
            return Code.BAD
        except asyncpg.InterfaceError:
            return Code.REFUSED  # the connection is gone
        except OSError as error:
            return code_of(error)

    async def close(self) -> None:
        if self.ledger is not None and self._compared and not self._spec.table:
            with contextlib.suppress(Exception):
                async with Limit(2.0):
                    connection = await self._connect(self._spec.dsn)
                    self._idle.append(connection)
                    await connection.execute(f"DROP TABLE IF EXISTS {self._table}")
        if self._rows > self._first:
            await self._sweep()
        while self._idle:
            self._idle.pop().terminate()
        if self.ledger is not None:
            self.ledger.close(keep=not self._compared)

    async def _sweep(self) -> None:
        """Rows of attempts that did not get so far as to delete their own."""
        with contextlib.suppress(Exception):
            async with Limit(2.0):
                connection = await self._connect(self._spec.dsn)
                self._idle.append(connection)
                span = f"number > {self._first} AND number <= {self._rows}"
                await connection.execute(f"DELETE FROM {self._table} WHERE {span}")  # noqa: S608 - numbers

    async def present(self, timeout_s: float) -> tuple[list[int], dict[str, list[int] | str]]:
        """Numbers of the ledger in the order of the server, and those of each of the *members*, or why not."""
        async with Limit(timeout_s):
            main = await self._numbers(self._spec.dsn)
        members: dict[str, list[int] | str] = {}
        for name, dsn in self._spec.members.items():
            try:
                async with Limit(timeout_s):
                    members[name] = await self._numbers(dsn)
            except Exception as error:  # noqa: BLE001 - a member may be away; the service is not
                members[name] = str(error) or type(error).__name__
        self._compared = True
        return main, members

    async def _numbers(self, dsn: str) -> list[int]:
        import asyncpg

        connection = await self._connect(dsn)
        try:
            async with connection.transaction(readonly=True):  # behind a pool, all of it on one server
                rows = await connection.fetch(f"SELECT number FROM {self._table} ORDER BY id")  # noqa: S608 - our own name
            return [row[0] for row in rows]
        except asyncpg.UndefinedTableError:
            return []
        finally:
            connection.terminate()

    async def _ask(self) -> Code:
        connection = await self._connection()
        kept = False
        try:
            code = await self._guarded(connection, self._do(connection))
            kept = self._spec.keepalive and len(self._idle) < IDLE_MAX and not connection.is_closed()
            return code
        finally:
            if kept:
                self._idle.append(connection)
            else:
                connection.terminate()

    async def _guarded(self, connection: Connection[Any], work: Coroutine[Any, Any, Code]) -> Code:
        """*work*; a time limit ends its connection first, so that nothing waits for a server that says nothing."""
        task = asyncio.ensure_future(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            connection.terminate()
            task.cancel()
            with contextlib.suppress(BaseException):
                await task
            raise

    async def _connection(self) -> Connection[Any]:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return await self._connect(self._spec.dsn)

    async def _connect(self, dsn: str) -> Connection[Any]:
        import asyncpg

        return await asyncpg.connect(
            dsn, timeout=60, statement_cache_size=0, server_settings={"application_name": "blackstart-probe"}
        )

    async def _do(self, connection: Connection[Any]) -> Code:
        mode = self._spec.mode
        if mode == "read":
            await connection.execute(self._spec.query)
            return Code.OK
        if mode == "ledger":
            return await self._enter(connection)
        self._rows += 1
        row = self._rows
        await self._insert(connection, row, 0)
        if mode == "verified_write":
            found = await connection.execute(f"SELECT 1 FROM {self._table} WHERE number = {row}")  # noqa: S608
            if found == "SELECT 0":
                return Code.BAD
        await connection.execute(f"DELETE FROM {self._table} WHERE number = {row}")  # noqa: S608
        return Code.OK

    async def _enter(self, connection: Connection[Any]) -> Code:
        import asyncpg

        assert self.ledger is not None
        if self.ledger.full:
            return Code.ERROR
        number = self.ledger.send()
        try:
            await self._insert(connection, number, 1)
        except asyncpg.PostgresError as error:
            if str(error.sqlstate).startswith(_REFUSALS):
                self.ledger.refused(number)
            raise  # of all others nobody knows whether the row was committed
        self.ledger.acknowledged(number)
        return Code.OK

    async def _insert(self, connection: Connection[Any], number: int, kind: int) -> None:
        """One row, committed; makes the table where there is none. Simple queries: they pass any pool."""
        import asyncpg

        statement = f"INSERT INTO {self._table} (number, kind) VALUES ({number}, {kind})"  # noqa: S608 - numbers
        try:
            await connection.execute(statement)
        except asyncpg.UndefinedTableError:
            async with self._making:
                await connection.execute(
                    f"CREATE TABLE IF NOT EXISTS {self._table} (id bigserial, number bigint NOT NULL, kind smallint)"
                )
            await connection.execute(statement)
