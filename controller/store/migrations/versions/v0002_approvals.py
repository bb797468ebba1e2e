"""Approvals of dangerous experiments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("digest", "title", "source", "approver")),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False, autoincrement=False)
            for name in ("approved_wall_ns", "expires_wall_ns")
        ),
        sa.Column("run_id", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_approvals_digest", "approvals", ["digest"])
