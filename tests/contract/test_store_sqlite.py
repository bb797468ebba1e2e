"""The SQLite store's own: one file, one process, and its schema."""

from __future__ import annotations

import os
import sqlite3
import zlib
from importlib import resources
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from controller.store import migrate, schema
from controller.store.base import ChunkRecord
from controller.store.sql import SqlStore, sqlite_url
from protos.error import RefusedError, SpecError, TransientError

FILE = Path("state", "a%20b?c#d.db")  # what a URL would read otherwise


@pytest.fixture
def make(tmp_path):
    return lambda: SqlStore(sqlite_url(tmp_path / FILE))


@pytest.fixture
async def store(make):
    store = make()
    await store.open()
    yield store
    await store.close()


async def test_a_second_controller_is_refused(make, store):
    with pytest.raises(RefusedError, match=rf"another controller uses this store \(pid {os.getpid()}\).*\.lock"):
        await make().open()
    await store.set_setting("still", "fine")


async def test_a_commit_is_flushed_to_the_disk(store):
    """What a power cut does cannot be tried here: that SQLite waits for the disk at each commit can be read off."""

    async def pragmas(connection):
        return [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")
        ]

    assert await store._database.read(pragmas) == ["wal", 2]


async def test_the_files_are_private(store, tmp_path):
    await store.lead()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "state").iterdir()}
    assert set(modes) == {FILE.name + end for end in ("", "-wal", "-shm", ".lock")}
    assert set(modes.values()) == {0o600}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


async def test_a_store_that_is_removed_under_us_is_noticed(store, tmp_path):
    (tmp_path / FILE).unlink()
    with pytest.raises(TransientError, match="removed or replaced"):
        await store.set_setting("a", "b")


async def test_a_store_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("no database, but long enough to be read as one: " + "x" * 100)
    with pytest.raises(SpecError, match=r"file: .*not a database.*restore"):
        await SqlStore(sqlite_url(tmp_path / "file")).open()
    with pytest.raises(TransientError, match=r"file/s\.db is away: File exists"):
        await SqlStore(sqlite_url(tmp_path / "file" / "s.db")).open()
    for url in ("sqlite://", "sqlite+aiosqlite:///:memory:", "nonsense"):
        with pytest.raises(SpecError, match="store: "):
            SqlStore(url)


async def test_a_schema_from_the_future_is_refused(make, tmp_path):
    store = make()
    await store.open()
    await store.close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(SpecError, match="upgrade Blackstart"):
        await store.open()


async def test_migrations_yield_the_schema(store, tmp_path):
    engine = create_engine(sqlite_url(tmp_path / FILE).replace("+aiosqlite", ""))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []
        found = {row[0] for row in connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE type = 'table'")}
    engine.dispose()
    assert sum("AUTOINCREMENT" in sql for sql in found) == 6  # numbers are never used twice


async def test_a_store_of_the_first_version_is_brought_up_to_date(make, tmp_path):
    (tmp_path / FILE).parent.mkdir(exist_ok=True)
    engine = create_engine(sqlite_url(tmp_path / FILE).replace("+aiosqlite", ""))
    with engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(migrate.SCRIPTS))
        command.upgrade(config, "0001")
        connection.exec_driver_sql("INSERT INTO settings VALUES ('emergency_stop', 'by ann')")
    engine.dispose()
    store = make()
    await store.open()
    assert await store.setting("emergency_stop") == "by ann"
    assert await store.approvals(5) == []
    await store.close()


def test_migrations_are_packaged():
    scripts = resources.files("controller.store.migrations")
    assert all(scripts.joinpath(name).is_file() for name in ("env.py", "script.py.mako", "versions/v0001_first.py"))


async def test_chunks_are_compressed(store, tmp_path):
    await store.ingest("node-1", "spool", 1, [ChunkRecord("run-1", "node-1", "http", 0, 4000, b"\x00" * 100_000)])
    with sqlite3.connect(tmp_path / FILE) as connection:
        [(packed,)] = connection.execute("SELECT columns FROM chunks").fetchall()
    connection.close()
    assert len(packed) < 1000
    assert zlib.decompress(packed) == b"\x00" * 100_000
