"""What keeps a campaign from going out as it is, and how often a phone was texted."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
_TABLE: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}


def upgrade() -> None:
    op.add_column("sms_campaign", sa.Column("guards", sa.Text(), nullable=True))
    op.add_column("sms_campaign", sa.Column("waits_until", _TIME, nullable=True))
    op.add_column("sms_campaign", sa.Column("scheduled_for", _TIME, nullable=True))
    op.create_table(
        "sms_texted",
        sa.Column("scope", sa.String(length=16), nullable=False),
        sa.Column("phone", sa.String(length=64), nullable=False),
        sa.Column("texted_at", _TIME, nullable=False),
        sa.Column("batch_id", _ID, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("scope", "phone", "texted_at", "batch_id"),
        sqlite_with_rowid=False,
        **_TABLE,
    )
    op.create_index("ix_sms_texted_batch_id", "sms_texted", ["batch_id"])
