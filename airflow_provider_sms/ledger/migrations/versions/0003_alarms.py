"""Alarms: each once, so many a phone and window, the rest counted into the next text."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
_TABLE: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
_WITHOUT_ROWID: dict[str, Any] = {**_TABLE, "sqlite_with_rowid": False}


def upgrade() -> None:
    op.create_table(
        "sms_alarm",
        sa.Column("id", _ID, autoincrement=True, nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("content", sa.Text(), nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_hash"),
        **_TABLE,
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sms_alarm_created_at", "sms_alarm", ["created_at"])
    op.create_table(
        "sms_alarm_phone",
        sa.Column("alarm_id", _ID, autoincrement=False, nullable=False),
        sa.Column("phone", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("slot_at", _TIME, nullable=True),
        sa.Column("others", sa.Integer(), nullable=False),
        sa.Column("told_in", _ID, nullable=True),
        sa.PrimaryKeyConstraint("alarm_id", "phone"),
        **_WITHOUT_ROWID,
    )
    op.create_index("sms_alarm_phone_slot", "sms_alarm_phone", ["phone", "slot_at"])
    op.create_index("sms_alarm_phone_state", "sms_alarm_phone", ["state", "namespace", "phone"])
    op.create_index("sms_alarm_phone_told", "sms_alarm_phone", ["told_in"])
    op.create_table(
        "sms_alarm_gate",
        sa.Column("phone", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("phone"),
        **_WITHOUT_ROWID,
    )
