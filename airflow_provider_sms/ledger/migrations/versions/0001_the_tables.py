"""The tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
_TABLE: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}


def upgrade() -> None:
    op.create_table(
        "sms_batch",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("campaign_id", _ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("first_position", sa.Integer(), nullable=False),
        sa.Column("last_position", sa.Integer(), nullable=False),
        sa.Column("phones", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("split_from", sa.Integer(), nullable=True),
        sa.Column("account", sa.String(length=100), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("resends", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=250), nullable=True),
        sa.Column("claimed_at", _TIME, nullable=True),
        sa.Column("lease_until", _TIME, nullable=True),
        sa.Column("settled_at", _TIME, nullable=True),
        sa.Column("taskid", sa.String(length=100), nullable=True),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("remain_point", sa.BigInteger(), nullable=True),
        sa.Column("refusal", sa.String(length=50), nullable=True),
        sa.Column("message", sa.String(length=500), nullable=True),
        sa.Column("evidence", sa.String(length=20), nullable=True),
        sa.Column("other_taskids", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("campaign_id", "number", name="sms_batch_number"),
        sqlite_autoincrement=True,
        **_TABLE,
    )
    op.create_index("ix_sms_batch_taskid", "sms_batch", ["taskid"], unique=False)
    op.create_index("sms_batch_account", "sms_batch", ["account", "state"], unique=False)
    op.create_index("sms_batch_state", "sms_batch", ["campaign_id", "state", "number"], unique=False)
    op.create_table(
        "sms_campaign",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=True),
        sa.Column("planned_for", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=1200), nullable=False),
        sa.Column("namespace", sa.String(length=100), nullable=False),
        sa.Column("campaign_key", sa.String(length=250), nullable=True),
        sa.Column("dag_id", sa.String(length=250), nullable=True),
        sa.Column("run_id", sa.String(length=250), nullable=True),
        sa.Column("task_id", sa.String(length=250), nullable=True),
        sa.Column("map_index", sa.Integer(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("owner", sa.String(length=250), nullable=False),
        sa.Column("lease_until", _TIME, nullable=False),
        sa.Column("planned_at", _TIME, nullable=True),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("content_hash", sa.String(length=64), nullable=True),
        sa.Column("category", sa.String(length=20), nullable=True),
        sa.Column("segments", sa.Integer(), nullable=True),
        sa.Column("send_time", _TIME, nullable=True),
        sa.Column("valid_until", _TIME, nullable=True),
        sa.Column("phones", sa.Integer(), nullable=False),
        sa.Column("excluded", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("once_scope", sa.String(length=64), nullable=True),
        sa.Column("purged_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_hash"),
        sqlite_autoincrement=True,
        **_TABLE,
    )
    op.create_index("ix_sms_campaign_planned_at", "sms_campaign", ["planned_at"], unique=False)
    op.create_index("ix_sms_campaign_planned_for", "sms_campaign", ["planned_for"], unique=False)
    op.create_table(
        "sms_ledger",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **_TABLE,
    )
    op.create_table(
        "sms_once",
        sa.Column("scope", sa.String(length=64), nullable=False),
        sa.Column("phone", sa.String(length=64), nullable=False),
        sa.Column("campaign_id", _ID, nullable=False),
        sa.Column("batch_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("scope", "phone"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mysql_engine="InnoDB",
        sqlite_with_rowid=False,
    )
    op.create_index("ix_sms_once_batch_id", "sms_once", ["batch_id"], unique=False)
    op.create_table(
        "sms_receipt",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("account", sa.String(length=100), nullable=True),
        sa.Column("mobile", sa.String(length=64), nullable=False),
        sa.Column("taskid", sa.String(length=100), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=True),
        sa.Column("code", sa.String(length=100), nullable=True),
        sa.Column("receivetime", sa.String(length=64), nullable=True),
        sa.Column("received_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **_TABLE,
    )
    op.create_index("sms_receipt_taskid", "sms_receipt", ["taskid", "mobile"], unique=False)
    op.create_table(
        "sms_recipient",
        sa.Column("campaign_id", _ID, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("phone", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=20), nullable=True),
        sa.PrimaryKeyConstraint("campaign_id", "position"),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        mysql_engine="InnoDB",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sms_reply",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("account", sa.String(length=100), nullable=True),
        sa.Column("mobile", sa.String(length=64), nullable=False),
        sa.Column("taskid", sa.String(length=100), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("receivetime", sa.String(length=64), nullable=True),
        sa.Column("received_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        **_TABLE,
    )
    op.create_index("sms_reply_taskid", "sms_reply", ["taskid", "mobile"], unique=False)
