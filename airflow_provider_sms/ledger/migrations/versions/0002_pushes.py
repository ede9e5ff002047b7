"""What the platform pushes, what it means, and who acts on it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
_TABLE: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
_NEVER_AGAIN: dict[str, Any] = {**_TABLE, "sqlite_autoincrement": True}
_WITHOUT_ROWID: dict[str, Any] = {**_TABLE, "sqlite_with_rowid": False}


def upgrade() -> None:
    op.add_column("sms_ledger", sa.Column("secret", sa.String(length=64), nullable=True))
    op.add_column("sms_ledger", sa.Column("receiver_at", _TIME, nullable=True))
    op.add_column("sms_ledger", sa.Column("first_push_at", _TIME, nullable=True))
    op.create_index("sms_batch_settled", "sms_batch", ["settled_at"])
    # Nothing wrote to these two before this version.
    op.drop_table("sms_receipt")
    op.drop_table("sms_reply")
    op.create_table(
        "sms_receipt",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("account", sa.String(length=100), nullable=True),
        sa.Column("mobile", sa.String(length=64), nullable=False),
        sa.Column("taskid", sa.String(length=100), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=True),
        sa.Column("code", sa.String(length=100), nullable=True),
        sa.Column("receivetime", sa.String(length=64), nullable=True),
        sa.Column("extra", sa.Text(), nullable=True),
        sa.Column("digest", sa.String(length=24), nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("matching", sa.String(length=16), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("taskid", "mobile", "digest", name="sms_receipt_push"),
        **_NEVER_AGAIN,
    )
    is_new, is_unowned = sa.text("matching IS NULL"), sa.text("matching = 'unowned'")
    op.create_index("sms_receipt_new", "sms_receipt", ["matching", "id"], sqlite_where=is_new, postgresql_where=is_new)
    for name, column in (("sms_receipt_unowned", "received_at"), ("sms_receipt_stray", "taskid")):
        op.create_index(name, "sms_receipt", ["matching", column], sqlite_where=is_unowned, postgresql_where=is_unowned)
    op.create_table(
        "sms_reply",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("account", sa.String(length=100), nullable=True),
        sa.Column("mobile", sa.String(length=64), nullable=False),
        sa.Column("taskid", sa.String(length=100), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("receivetime", sa.String(length=64), nullable=True),
        sa.Column("extra", sa.Text(), nullable=True),
        sa.Column("digest", sa.String(length=24), nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("matching", sa.String(length=16), nullable=True),
        sa.Column("campaign_id", _ID, nullable=True),
        sa.Column("phone", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("taskid", "mobile", "digest", name="sms_reply_push"),
        **_NEVER_AGAIN,
    )
    for column in ("received_at", "matching", "campaign_id"):
        op.create_index(f"ix_sms_reply_{column}", "sms_reply", [column])
    op.create_table(
        "sms_delivery",
        sa.Column("campaign_id", _ID, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch_id", _ID, nullable=False),
        sa.Column("outcome", sa.String(length=12), nullable=False),
        sa.Column("cause", sa.String(length=20), nullable=False),
        sa.Column("receipt_id", _ID, nullable=False),
        sa.Column("contradicted_by", _ID, nullable=True),
        sa.PrimaryKeyConstraint("campaign_id", "position"),
        **_WITHOUT_ROWID,
    )
    op.create_index("ix_sms_delivery_batch_id", "sms_delivery", ["batch_id"])
    op.create_table(
        "sms_delivery_count",
        sa.Column("campaign_id", _ID, autoincrement=False, nullable=False),
        sa.Column("batch_id", _ID, autoincrement=False, nullable=False),
        sa.Column("outcome", sa.String(length=12), nullable=False),
        sa.Column("cause", sa.String(length=20), nullable=False),
        sa.Column("phones", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "batch_id", "outcome", "cause"),
        **_WITHOUT_ROWID,
    )
    op.create_table(
        "sms_reply_claim",
        sa.Column("consumer", sa.String(length=250), nullable=False),
        sa.Column("reply_id", _ID, autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(length=250), nullable=False),
        sa.Column("lease_until", _TIME, nullable=False),
        sa.Column("handled_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("consumer", "reply_id"),
        **_WITHOUT_ROWID,
    )
    op.create_table(
        "sms_opt_out",
        sa.Column("phone", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=10), nullable=False),
        sa.Column("account", sa.String(length=100), nullable=True),
        sa.Column("reply_id", _ID, nullable=True),
        sa.Column("note", sa.String(length=200), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("phone"),
        **_WITHOUT_ROWID,
    )
    op.create_table(
        "sms_quarantine",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("account", sa.String(length=100), nullable=True),
        sa.Column("interface", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("received_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **_NEVER_AGAIN,
    )
