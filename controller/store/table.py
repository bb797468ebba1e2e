"""What the tables' classes share: the database, upserts, and records to and from rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Row, Table
from sqlalchemy.dialects import postgresql, sqlite

from controller.store.database import Database

R = TypeVar("R")


class Tables:
    """Base of the parts of `SqlStore`."""

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def _upsert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that knows ON CONFLICT, which both databases spell alike."""
        return sqlite.insert(table) if self._database.sqlite else postgresql.insert(table)


def values_of(record: Any) -> dict[str, Any]:
    """The record's fields as a row; mappings and sequences as JSON has them."""
    return {field.name: plain(getattr(record, field.name)) for field in fields(record)}


def record_of(kind: type[R], row: Row[Any]) -> R:
    """The record of a row that has at least its columns."""
    found = row._mapping  # noqa: SLF001 - public, in spite of its name
    return kind(**{field.name: found[field.name] for field in fields(kind)})  # type: ignore[arg-type]


def plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value
