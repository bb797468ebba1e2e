"""Gauges of nodes during runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "gauges",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("run_id", "agent_id", "series", "unit")),
        sa.Column("count", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("columns", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_gauges_run_id", "gauges", ["run_id"])
