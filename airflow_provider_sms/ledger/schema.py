"""The tables. Times are UTC; phones, texts and ids are text as it came. Knows SQLAlchemy only.

A recipient is one item that was handed in, at its position; a batch is a run of positions. So a million
recipients are written once and never again: halving a batch moves a border.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql


class BatchState(StrEnum):
    """What is known of a batch."""

    PLANNED = "planned"
    SENDING = "sending"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    IN_DOUBT = "in_doubt"
    EXPIRED = "expired"


SETTLED = frozenset({BatchState.ACCEPTED, BatchState.REFUSED, BatchState.EXPIRED})

VERSION_TABLE = "sms_ledger_version"

_Id = BigInteger().with_variant(Integer, "sqlite")
_Time = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
# A taskId is case-sensitive.
_TABLE: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
# An id is never given out again: a process that wakes up late must not find another campaign under the id of its own.
_NEVER_AGAIN: dict[str, Any] = {**_TABLE, "sqlite_autoincrement": True}

metadata = MetaData()

ledger_table = Table(
    "sms_ledger",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("created_at", _Time, nullable=False),
    **_TABLE,
)

campaign_table = Table(
    "sms_campaign",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    # Empty while the plan is being stored: nobody sees a half plan.
    Column("key_hash", String(64), unique=True),
    Column("planned_for", String(64), nullable=False, index=True),
    Column("name", String(1200), nullable=False),
    Column("namespace", String(100), nullable=False),
    Column("campaign_key", String(250)),
    Column("dag_id", String(250)),
    Column("run_id", String(250)),
    Column("task_id", String(250)),
    Column("map_index", Integer),
    Column("created_at", _Time, nullable=False),
    Column("owner", String(250), nullable=False),
    Column("lease_until", _Time, nullable=False),
    Column("planned_at", _Time, index=True),
    Column("content", Text),
    Column("content_hash", String(64)),
    Column("category", String(20)),
    Column("segments", Integer),
    Column("send_time", _Time),
    Column("valid_until", _Time),
    Column("phones", Integer, nullable=False, default=0),
    Column("excluded", Text),
    Column("fingerprint", String(64)),
    Column("once_scope", String(64)),
    Column("purged_at", _Time),
    **_NEVER_AGAIN,
)

batch_table = Table(
    "sms_batch",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("campaign_id", _Id, nullable=False),
    Column("number", Integer, nullable=False),
    Column("first_position", Integer, nullable=False),
    Column("last_position", Integer, nullable=False),
    Column("phones", Integer, nullable=False),
    Column("state", String(12), nullable=False),
    Column("split_from", Integer),
    Column("account", String(100)),
    Column("attempt", Integer, nullable=False, default=0),
    # How often it was sent again while in doubt.
    Column("resends", Integer, nullable=False, default=0),
    Column("owner", String(250)),
    Column("claimed_at", _Time),
    Column("lease_until", _Time),
    Column("settled_at", _Time),
    Column("taskid", String(100), index=True),
    Column("accepted", Integer, nullable=False, default=0),
    Column("remain_point", BigInteger),
    Column("refusal", String(50)),
    Column("message", String(500)),
    # How a taskId or a verdict came about, if not by the platform's own answer.
    Column("evidence", String(20)),
    Column("other_taskids", Text),
    UniqueConstraint("campaign_id", "number", name="sms_batch_number"),
    Index("sms_batch_state", "campaign_id", "state", "number"),
    Index("sms_batch_account", "account", "state"),
    **_NEVER_AGAIN,
)

recipient_table = Table(
    "sms_recipient",
    metadata,
    Column("campaign_id", _Id, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("phone", String(64), nullable=False),
    # Empty: to be sent to, or sent to; what became of it is its batch's state.
    Column("reason", String(20)),
    sqlite_with_rowid=False,
    **_TABLE,
)

# Which campaign of a mapped task took a phone: no other instance of that task and run texts it.
once_table = Table(
    "sms_once",
    metadata,
    Column("scope", String(64), primary_key=True),
    Column("phone", String(64), primary_key=True),
    Column("campaign_id", _Id, nullable=False),
    Column("batch_id", _Id, nullable=False, index=True),
    sqlite_with_rowid=False,
    **_TABLE,
)

receipt_table = Table(
    "sms_receipt",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("account", String(100)),
    Column("mobile", String(64), nullable=False),
    Column("taskid", String(100), nullable=False),
    Column("status", String(20)),
    Column("code", String(100)),
    Column("receivetime", String(64)),
    Column("received_at", _Time, nullable=False),
    Index("sms_receipt_taskid", "taskid", "mobile"),
    **_TABLE,
)

reply_table = Table(
    "sms_reply",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("account", String(100)),
    Column("mobile", String(64), nullable=False),
    Column("taskid", String(100), nullable=False),
    Column("content", Text),
    Column("receivetime", String(64)),
    Column("received_at", _Time, nullable=False),
    Index("sms_reply_taskid", "taskid", "mobile"),
    **_TABLE,
)
