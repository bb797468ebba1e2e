"""The connection: transactions, durability, and what goes wrong beneath.

Invariants: a transaction that has begun is finished or rolled back also when its caller is cancelled; writes of one
process follow each other; no exception of SQLAlchemy or a driver leaves this module untranslated.
Group commit: writes that wait while another is being written go into one transaction, in their order, and each caller
learns of its own once all are on disk. If one of them fails, none of the group was written, and each is made alone.
SQLite runs in WAL with synchronous=FULL: every commit is an fsync, since what was acknowledged must be there after a
power cut. It is opened as one process's own (`FileLock`).
PostgreSQL has many clients, so there the epoch is the fence: once `fence` was called, every write first locks the row
of the leadership against a change and finds its own epoch there, or is refused. A new leader so waits for a write under
way, and the server ends one whose client stands still.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from controller.store import migrate
from controller.store.lock import FileLock
from protos.error import BlackstartError, Problem, RefusedError, SpecError, TransientError

T = TypeVar("T")
_WRITES: Final = "blackstart_writes"
_BUSY_MS: Final = 10_000  # readers from outside, such as a backup, may hold the file for a moment
_GROUP_MAX: Final = 500  # writes in one transaction: the first of them waits for the last
STANDSTILL_MS: Final = 10_000  # a client that holds the fence and says nothing for so long is cut off by PostgreSQL
_FENCE: Final = (
    "SELECT set_config('idle_in_transaction_session_timeout', :limit, true), epoch"
    " FROM leadership WHERE name = 'controller' FOR SHARE"
)
_SQLITE_LEAST: Final = (3, 35)  # RETURNING
_REMEDIES: Final = {
    "SQLITE_FULL": "is full: free space on its disk",
    "SQLITE_IOERR": "cannot be read or written: free space on its disk, or look after the disk",
    "SQLITE_CANTOPEN": "cannot be opened: correct its path or permissions",
    "SQLITE_READONLY": "is read-only: correct its permissions or remount its disk",
    "SQLITE_PERM": "cannot be opened: correct its permissions",
    "SQLITE_BUSY": "is held by another program: end what reads or copies it",
    "SQLITE_LOCKED": "is held by another program: end what reads or copies it",
}
_BROKEN: Final = ("SQLITE_NOTADB", "SQLITE_CORRUPT")


@dataclass(frozen=True, slots=True, eq=False)
class _Write:
    """What waits to be written, and whom it is promised to."""

    work: Callable[[AsyncConnection], Awaitable[Any]]
    done: asyncio.Future[Any]


class Database:
    """Read and write transactions on the database at a URL of SQLAlchemy."""

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        self.sqlite = self._url.get_backend_name() == "sqlite"
        self._path = Path(self._url.database or "").absolute() if self.sqlite else None
        self.where = str(self._path or self._url.render_as_string(hide_password=True))
        self._lock = FileLock(self._path) if self._path else None
        self._inode = (0, 0)
        self._epoch = 0
        self.superseded = asyncio.Event()
        self._waiting: list[_Write] = []
        self._writing = False
        self._work: set[asyncio.Task[Any]] = set()
        self._engine: AsyncEngine | None = None

    async def open(self) -> None:
        """Connects, takes the lock and brings the schema up to date; whatever fails, nothing stays open."""
        try:
            with self._translated():
                self._prepare_file()
                self._engine = _engine(self._url, sqlite=self.sqlite)
                async with self._begin(writes=True) as connection:
                    await connection.run_sync(migrate.upgrade, self.where)
                self._inode = self._seen_inode()
        except BaseException:  # a cancellation, too: the lock is given back
            await self.close()
            raise

    async def close(self) -> None:
        """After the transactions under way. Closing twice is fine."""
        while self._work:
            await asyncio.wait(set(self._work))
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None
        if self._lock is not None:
            self._lock.release()

    def fence(self, epoch: int) -> None:
        """From now on writes are refused (RefusedError, and *superseded* is set) once another has a later *epoch*."""
        self._epoch = epoch

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """*work*'s result, from one transaction that sees one state."""
        return await self._finished(self._transaction(work, writes=False))

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """*work*'s result once its transaction is on disk; *work* may be called again, after a rollback."""
        mine = _Write(work, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        if not self._writing:
            self._writing = True
            self._keep(asyncio.ensure_future(self._write_all()))
        result: T = await asyncio.shield(mine.done)
        return result

    async def _write_all(self) -> None:
        """Writes what waits, and what has come meanwhile, until nothing does."""
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:_GROUP_MAX], self._waiting[_GROUP_MAX:]
                if len(group) == 1 or not await self._together(group):
                    for one in group:
                        await self._alone(one)
        finally:
            self._writing = False

    async def _together(self, group: list[_Write]) -> bool:
        """One transaction for all; False, and nothing written, where any of them fails."""

        async def work(connection: AsyncConnection) -> list[Any]:
            return [await one.work(connection) for one in group]

        try:
            results = await self._transaction(work, writes=True)
        except Exception:  # noqa: BLE001 - whose failure it is shows when each is written alone
            return False
        for one, result in zip(group, results, strict=True):
            one.done.set_result(result)
        return True

    async def _alone(self, one: _Write) -> None:
        try:
            one.done.set_result(await self._transaction(one.work, writes=True))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            one.done.set_exception(error)
            one.done.exception()  # a caller that was cancelled will not ask for it

    async def _finished(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs to its end also if the caller is cancelled: half a transaction would poison its connection."""
        task = asyncio.ensure_future(work)
        self._keep(task)
        return await asyncio.shield(task)

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._work.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._work.discard(task)
        if not task.cancelled():
            task.exception()  # a cancelled caller will not ask for it

    async def _transaction(self, work: Callable[[AsyncConnection], Awaitable[T]], *, writes: bool) -> T:
        with self._translated():
            if self._path is not None and self._seen_inode() != self._inode:
                raise TransientError(f"store {self.where} was removed or replaced while in use: restart the controller")
            async with self._begin(writes=writes) as connection:
                return await work(connection)

    @asynccontextmanager
    async def _begin(self, *, writes: bool) -> AsyncIterator[AsyncConnection]:
        if self._engine is None:
            raise TransientError(f"store {self.where} is not open")
        async with self._engine.connect() as connection:
            await connection.execution_options(**{_WRITES: writes})
            async with connection.begin():
                if writes and self._epoch and not self.sqlite:
                    await self._hold_fence(connection)
                yield connection

    async def _hold_fence(self, connection: AsyncConnection) -> None:
        """In the transaction of a write: the epoch stays what it is until that has ended."""
        row = (await connection.execute(text(_FENCE), {"limit": str(STANDSTILL_MS)})).one_or_none()
        if row is None or row.epoch != self._epoch:
            self.superseded.set()
            now = "an unknown epoch" if row is None else f"epoch {row.epoch}"
            raise RefusedError(
                f"another controller leads this store since {now}, not this one ({self._epoch}): nothing was written"
            )

    def _prepare_file(self) -> None:
        if self._path is None or self._lock is None:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.acquire()
        # It holds experiments and token digests: for its owner alone.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def _seen_inode(self) -> tuple[int, int]:
        if self._path is None:
            return (0, 0)
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return (-1, -1)
        return found.st_dev, found.st_ino

    def _translated(self) -> _Translation:
        return _Translation(self.where)


class _Translation:
    """Turns what drivers and the system raise into the errors of Blackstart."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, IntegrityError):
            raise RefusedError(f"store {self._where}: there is one of that name already: {error.orig}") from error
        if isinstance(error, (DBAPIError, sqlite3.Error, OSError)):
            raise self._by_cause(error) from error

    def _by_cause(self, error: DBAPIError | sqlite3.Error | OSError) -> BlackstartError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        name = str(getattr(cause, "sqlite_errorname", ""))
        if name.startswith(_BROKEN):
            return SpecError(
                Problem(f"store {self._where}", str(cause), "restore it from a backup, or name another file")
            )
        for prefix, remedy in _REMEDIES.items():
            if name.startswith(prefix):
                return TransientError(f"store {self._where} {remedy} ({cause}); nothing was written", 5.0)
        reason = error.strerror if isinstance(error, OSError) else str(cause)
        message = f"store {self._where} is away: {reason}; nothing was written: free space, or correct address or path"
        return TransientError(message, 5.0)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        remedy = "sqlite+aiosqlite:////path/to/file or postgresql+asyncpg://user@host/name"
        raise SpecError(Problem("store", f"{url!r} is not a database URL", remedy)) from error
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise SpecError(Problem("store", f"{url!r} names no file", "sqlite+aiosqlite:////path/to/file"))
        if sqlite3.sqlite_version_info < _SQLITE_LEAST:
            raise SpecError(Problem("store", f"SQLite {sqlite3.sqlite_version} is too old", "3.35 or newer"))
        return parsed.set(drivername="sqlite+aiosqlite")
    return parsed


def _engine(url: URL, *, sqlite: bool) -> AsyncEngine:
    try:
        engine = create_async_engine(url, pool_size=4, max_overflow=0, pool_pre_ping=not sqlite)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise SpecError(Problem("store", f"no driver for {url.drivername}: {error}", "pip install it")) from error
    if sqlite:
        event.listen(engine.sync_engine, "connect", _on_connect)
        event.listen(engine.sync_engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, entry: ConnectionPoolEntry) -> None:  # noqa: ARG001 - SQLAlchemy's signature
    connection.isolation_level = None  # the driver opens no transactions: `_on_begin` does
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_MS}", "journal_size_limit=67108864"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _on_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
