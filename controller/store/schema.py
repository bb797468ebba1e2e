"""The tables. The migrations yield exactly these, which a test holds.

Portable between SQLite and PostgreSQL: no type or clause here belongs to one of them alone.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)  # fmt: skip

metadata: Final = MetaData(
    naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s"}
)


class Line(TypeDecorator[str]):
    """Text from anywhere. What no database can keep, lone surrogates and NUL, is kept as its escape."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - its signature
        return None if value is None else value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _number() -> Column[int]:
    """Order of insertion. SQLite counts up by itself only where the type is INTEGER."""
    return Column("number", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, Line(), primary_key=key, nullable=False)


def _whole(name: str, *, key: bool = False) -> Column[int]:
    return Column(name, BigInteger(), primary_key=key, nullable=False, autoincrement=False)


def _document(name: str) -> Column[object]:
    return Column(name, JSON(), nullable=False)


runs: Final = Table(
    "runs", metadata, _number(),
    _text("id"), _text("title"), _text("actor"), _text("source"), _document("experiment"), _whole("submitted_wall_ns"),
    _text("state"), _text("verdict"), _text("outcome"), _text("reason"),
    _document("variables"), _document("profile"), _document("journal"),
    _whole("started_wall_ns"), _whole("ended_wall_ns"), Column("stranded", Boolean(), nullable=False),
    _whole("events"),  # number of the last event
    UniqueConstraint("id"), Index(None, "state"), sqlite_autoincrement=True,
)  # fmt: skip

events: Final = Table(
    "events", metadata, _text("run_id", key=True), _whole("number", key=True),
    _whole("wall_ns"), _text("kind"), _text("message"), _document("body"),
)  # fmt: skip

documents: Final = Table(
    "documents", metadata, _number(), _text("run_id"), _text("kind"), _text("key"), _document("body"),
    UniqueConstraint("run_id", "kind", "key"), sqlite_autoincrement=True,
)  # fmt: skip

agents: Final = Table(
    "agents", metadata, _text("id", key=True), _text("version"), _text("boot_id"),
    _document("labels"), _document("capabilities"), _whole("seen_wall_ns"),
)  # fmt: skip

spools: Final = Table(
    "spools", metadata, _text("agent_id", key=True), _text("spool_id", key=True), _whole("sequence"),
)  # fmt: skip

chunks: Final = Table(
    "chunks", metadata, _number(), _text("run_id"), _text("agent_id"), _text("probe"),
    _whole("first_index"), _whole("count"), Column("columns", LargeBinary(), nullable=False),  # zlib
    Index(None, "run_id"), sqlite_autoincrement=True,
)  # fmt: skip

gauges: Final = Table(
    "gauges", metadata, _number(), _text("run_id"), _text("agent_id"), _text("series"), _text("unit"),
    _whole("count"), Column("columns", LargeBinary(), nullable=False),
    Index(None, "run_id"), sqlite_autoincrement=True,
)  # fmt: skip

schedules: Final = Table(
    "schedules", metadata, _text("name", key=True), _text("cron"), _whole("at_wall_ns"), _text("source"),
    _document("experiment"), _document("variables"), _document("profile"), _text("actor"), _text("last_run_id"),
)  # fmt: skip

firings: Final = Table("firings", metadata, _text("name", key=True), _whole("fire_wall_ns", key=True))

audit: Final = Table(
    "audit", metadata, _number(), _whole("wall_ns"), _text("actor"), _text("role"), _text("method"), _text("subject"),
    _text("outcome"), sqlite_autoincrement=True,
)  # fmt: skip

tokens: Final = Table(
    "tokens", metadata, _text("digest", key=True), _text("agent_id"), _whole("expires_wall_ns"),
    _text("used_by"), _whole("used_wall_ns"),  # 0: not used yet
)  # fmt: skip

approvals: Final = Table(
    "approvals", metadata, _number(), _text("digest"), _text("title"), _text("source"), _text("approver"),
    _whole("approved_wall_ns"), _whole("expires_wall_ns"), _text("run_id"),  # empty: not used yet
    Index(None, "digest"), sqlite_autoincrement=True,
)  # fmt: skip

settings: Final = Table("settings", metadata, _text("name", key=True), _text("value"))

leadership: Final = Table("leadership", metadata, _text("name", key=True), _whole("epoch"))
