"""Personal texts: a campaign's many texts, which batch carries which, and what they cost."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_WITHOUT_ROWID: dict[str, Any] = {
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "mysql_engine": "InnoDB",
    "sqlite_with_rowid": False,
}


def upgrade() -> None:
    op.create_table(
        "sms_text",
        sa.Column("campaign_id", _ID, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "number"),
        **_WITHOUT_ROWID,
    )
    op.add_column("sms_campaign", sa.Column("points", sa.BigInteger(), nullable=True))
    op.add_column("sms_batch", sa.Column("text_number", sa.Integer(), nullable=True))
    op.add_column("sms_batch", sa.Column("segments", sa.Integer(), nullable=True))
