"""What the controller has not acknowledged yet, kept on disk within a bound, and what orders were carried out.

Invariant: a message gets a sequence that is never used again, also after a crash; it is kept until acknowledged or
until the bound drops it, oldest first, counted. When the disk is full messages are kept in memory within the same
rule.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from pathlib import Path
from typing import Final

from protos.error import TransientError

_RESERVE: Final = 1000  # sequences reserved at once: after a crash the next start skips what may have been used
_MEMORY_BYTES: Final = 4_000_000
_ORDERS_KEPT: Final = 10_000
_SCHEMA: Final = """
create table if not exists message (sequence integer primary key, payload blob not null);
create table if not exists handled (id text primary key, result blob, at integer);
create table if not exists setting (name text primary key, value not null) without rowid;
"""


class Spool:
    """An open spool in *directory*. Use it from one thread."""

    def __init__(self, directory: Path, bytes_max: int = 64_000_000) -> None:
        self._path = directory / "spool.db"
        self._bytes_max = bytes_max
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=normal")
            self._db.execute("pragma cache_size=-512")
            self._db.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise TransientError(
                f"spool {self._path}: {error}: free space there, or name another state directory"
            ) from error
        self.id = str(self._setting("id", secrets.token_hex(8)))
        self.dropped = int(self._setting("dropped", 0))
        self._next = self._reserved = int(self._setting("reserved", 1))
        row = self._db.execute("select coalesce(sum(length(payload)), 0), count(*) from message").fetchone()
        self._bytes, self._count = int(row[0]), int(row[1])
        self._memory: dict[int, bytes] = {}

    def __len__(self) -> int:
        return self._count + len(self._memory)

    def put(self, payload: bytes) -> int:
        """Keeps one message; its sequence."""
        try:
            self._reserve()
            sequence = self._next
            self._db.execute("insert into message values (?, ?)", (sequence, payload))
            self._bytes, self._count = self._bytes + len(payload), self._count + 1
            if self._bytes > self._bytes_max:
                self._drop_oldest()
        except sqlite3.Error:
            sequence = self._next
            self._memory[sequence] = payload
            self._bound_memory()
        self._next += 1
        return sequence

    def after(self, sequence: int, most: int = 100) -> list[tuple[int, bytes]]:
        """Up to *most* messages past *sequence*, in order."""
        rows = self._db.execute(
            "select sequence, payload from message where sequence > ? order by sequence limit ?", (sequence, most)
        ).fetchall()
        rows += [(number, payload) for number, payload in self._memory.items() if number > sequence]
        return sorted(rows)[:most]

    def acknowledge(self, sequence: int) -> None:
        """Forgets all up to *sequence*."""
        for number in [number for number in self._memory if number <= sequence]:
            del self._memory[number]
        size, count = self._db.execute(
            "select coalesce(sum(length(payload)), 0), count(*) from message where sequence <= ?", (sequence,)
        ).fetchone()
        if count:
            with contextlib.suppress(sqlite3.Error):  # a full disk: the controller passes over what it has already
                self._db.execute("delete from message where sequence <= ?", (sequence,))
            self._bytes, self._count = self._bytes - size, self._count - count

    def skip_to(self, acknowledged: int) -> None:
        """Never reuses what a controller has acknowledged, even if this disk has lost it."""
        self._next = max(self._next, acknowledged + 1)

    # Orders: each is carried out once.

    def begin_order(self, order_id: str) -> bytes | None:
        """None if the order is new (it is now begun); else its result, empty while it is being carried out."""
        try:
            row = self._db.execute("select result from handled where id = ?", (order_id,)).fetchone()
            if row is not None:
                return bytes(row[0] or b"")
            self._db.execute("insert into handled values (?, null, strftime('%s'))", (order_id,))
        except sqlite3.Error as error:
            raise TransientError(f"spool {self._path}: {error}: free space there") from error
        return None

    def end_order(self, order_id: str, result: bytes) -> None:
        with contextlib.suppress(sqlite3.Error):  # a full disk: the next start answers the order once more
            self._db.execute("update handled set result = ? where id = ?", (result, order_id))
            self._db.execute(
                "delete from handled where rowid <= (select max(rowid) from handled) - ? and result is not null",
                (_ORDERS_KEPT,),
            )

    def unfinished_orders(self) -> list[str]:
        """Orders begun by an agent that did not live to end them."""
        return [row[0] for row in self._db.execute("select id from handled where result is null")]

    # The highest epoch seen, kept so that an old controller is refused after a restart too.

    @property
    def epoch(self) -> int:
        return int(self._setting("epoch", 0))

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._set("epoch", value)

    def close(self) -> None:
        self._db.close()

    def _reserve(self) -> None:
        if self._next >= self._reserved:
            self._set("reserved", self._next + _RESERVE)
            self._reserved = self._next + _RESERVE

    def _drop_oldest(self) -> None:
        """Makes room for a tenth of the bound, so that this is rare."""
        freed = count = last = 0
        for sequence, size in self._db.execute("select sequence, length(payload) from message order by sequence"):
            freed, count, last = freed + size, count + 1, sequence
            if freed >= self._bytes_max // 10:
                break
        self._db.execute("delete from message where sequence <= ?", (last,))
        self._bytes, self._count = self._bytes - freed, self._count - count
        self._count_dropped(count)

    def _bound_memory(self) -> None:
        while sum(map(len, self._memory.values())) > _MEMORY_BYTES:
            del self._memory[next(iter(self._memory))]
            self.dropped += 1

    def _count_dropped(self, count: int) -> None:
        self.dropped += count
        self._set("dropped", self.dropped)

    def _setting(self, name: str, default: str | int) -> str | int:
        self._db.execute("insert or ignore into setting values (?, ?)", (name, default))
        value: str | int = self._db.execute("select value from setting where name = ?", (name,)).fetchone()[0]
        return value

    def _set(self, name: str, value: str | int) -> None:
        self._db.execute("insert or replace into setting values (?, ?)", (name, value))
