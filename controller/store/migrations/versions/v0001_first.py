"""The first schema."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _runs()
    _agents()
    _schedules()
    _security()


def _number() -> sa.Column[Any]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("number", kind, primary_key=True, autoincrement=True)


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text(), nullable=False) for name in names]


def _wholes(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False, autoincrement=False) for name in names]


def _documents(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.JSON(), nullable=False) for name in names]


def _runs() -> None:
    op.create_table(
        "runs", _number(),
        *_texts("id", "title", "actor", "source"), *_documents("experiment"), *_wholes("submitted_wall_ns"),
        *_texts("state", "verdict", "outcome", "reason"), *_documents("variables", "profile", "journal"),
        *_wholes("started_wall_ns", "ended_wall_ns"), sa.Column("stranded", sa.Boolean(), nullable=False),
        *_wholes("events"), sa.UniqueConstraint("id", name="uq_runs_id"), sqlite_autoincrement=True,
    )  # fmt: skip
    op.create_index("ix_runs_state", "runs", ["state"])
    op.create_table(
        "events", *_texts("run_id"), *_wholes("number", "wall_ns"), *_texts("kind", "message"), *_documents("body"),
        sa.PrimaryKeyConstraint("run_id", "number"),
    )  # fmt: skip
    op.create_table(
        "documents", _number(), *_texts("run_id", "kind", "key"), *_documents("body"),
        sa.UniqueConstraint("run_id", "kind", "key", name="uq_documents_run_id_kind_key"), sqlite_autoincrement=True,
    )  # fmt: skip


def _agents() -> None:
    op.create_table(
        "agents", *_texts("id", "version", "boot_id"), *_documents("labels", "capabilities"), *_wholes("seen_wall_ns"),
        sa.PrimaryKeyConstraint("id"),
    )  # fmt: skip
    op.create_table(
        "spools", *_texts("agent_id", "spool_id"), *_wholes("sequence"), sa.PrimaryKeyConstraint("agent_id", "spool_id")
    )
    op.create_table(
        "chunks", _number(), *_texts("run_id", "agent_id", "probe"), *_wholes("first_index", "count"),
        sa.Column("columns", sa.LargeBinary(), nullable=False), sqlite_autoincrement=True,
    )  # fmt: skip
    op.create_index("ix_chunks_run_id", "chunks", ["run_id"])


def _schedules() -> None:
    op.create_table(
        "schedules", *_texts("name", "cron"), *_wholes("at_wall_ns"), *_texts("source"),
        *_documents("experiment", "variables", "profile"), *_texts("actor", "last_run_id"),
        sa.PrimaryKeyConstraint("name"),
    )  # fmt: skip
    op.create_table(
        "firings", *_texts("name"), *_wholes("fire_wall_ns"), sa.PrimaryKeyConstraint("name", "fire_wall_ns")
    )


def _security() -> None:
    op.create_table(
        "audit", _number(), *_wholes("wall_ns"), *_texts("actor", "role", "method", "subject", "outcome"),
        sqlite_autoincrement=True,
    )  # fmt: skip
    op.create_table(
        "tokens", *_texts("digest", "agent_id"), *_wholes("expires_wall_ns"), *_texts("used_by"),
        *_wholes("used_wall_ns"), sa.PrimaryKeyConstraint("digest"),
    )  # fmt: skip
    op.create_table("settings", *_texts("name", "value"), sa.PrimaryKeyConstraint("name"))
    op.create_table("leadership", *_texts("name"), *_wholes("epoch"), sa.PrimaryKeyConstraint("name"))
