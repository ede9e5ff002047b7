"""The tables. Times are UTC; phones, texts and ids are text as it came. Knows SQLAlchemy only.

A recipient is one item that was handed in, at its position; a batch is a run of positions. So a million
recipients are written once and never again: halving a batch moves a border.

A push is written as it was heard, once; what it means is written beside it, afterwards: a receipt's verdict on a
phone in `sms_delivery`, the counts of a batch in `sms_delivery_count`.
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


class Matching(StrEnum):
    """What became of a push when it was looked at; none yet: it is new."""

    MATCHED = "matched"
    # No batch has its taskId, so far.
    UNOWNED = "unowned"
    # A batch has, but its phone is none of the batch's, or more than one that its stars may stand for.
    NO_PHONE = "no_phone"
    # It says otherwise than the receipt that ended the matter.
    CONTRADICTION = "contradiction"


class Outcome(StrEnum):
    """What receipts say of a text; the first two are final."""

    DELIVERED = "delivered"
    FAILED = "failed"
    UNKNOWN = "unknown"


class AlarmState(StrEnum):
    """What became of an alarm for one of its phones."""

    # It has a place among the phone's texts, and its text is on its way.
    TAKEN = "taken"
    SENT = "sent"
    # The phone had its texts, or this one did not go out: the phone's next text counts it.
    HELD = "held"
    # It was counted into another text.
    TOLD = "told"
    # The platform does not take the phone for one.
    REFUSED = "refused"
    # Old, and nobody is known to have been told: how many (`others`) is kept, and no phone.
    UNTOLD = "untold"


class AlarmKind(StrEnum):
    """An alarm, or the text that tells how many were held back."""

    ALARM = "alarm"
    FLUSH = "flush"


CONTRADICTED = "contradicted"
"""Beside the outcomes in `sms_delivery_count`: phones whose final receipts disagree. The first one counts."""

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
    # One-time codes are made from it, so that a retry asks with the same one and nobody can guess it.
    Column("secret", String(64)),
    # When a receiver has last opened this ledger, and when the first push came: a sensor that waits for receipts
    # has to know whether any can come.
    Column("receiver_at", _Time),
    Column("first_push_at", _Time),
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
    # Of personal texts the most that any of them has.
    Column("segments", Integer),
    # What the whole plan costs.
    Column("points", BigInteger),
    Column("send_time", _Time),
    Column("valid_until", _Time),
    Column("phones", Integer, nullable=False, default=0),
    Column("excluded", Text),
    Column("fingerprint", String(64)),
    Column("once_scope", String(64)),
    Column("purged_at", _Time),
    # As JSON: what keeps it from going out as it is, see `guards.Guards.told`.
    Column("guards", Text),
    # When the sending hours begin that it waits for, and the latest time to send at that they were the reason for.
    Column("waits_until", _Time),
    Column("scheduled_for", _Time),
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
    # Of a campaign with personal texts: which one it carries, and how many segments that has.
    Column("text_number", Integer),
    Column("segments", Integer),
    UniqueConstraint("campaign_id", "number", name="sms_batch_number"),
    Index("sms_batch_state", "campaign_id", "state", "number"),
    Index("sms_batch_account", "account", "state"),
    # Those settled lately: pushes may have come before their taskId.
    Index("sms_batch_settled", "settled_at"),
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

# The texts of a campaign that has more than one; whose campaign has one finds it there.
text_table = Table(
    "sms_text",
    metadata,
    Column("campaign_id", _Id, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("content", Text, nullable=False),
    Column("content_hash", String(64), nullable=False),
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

# Which phones were texted when, for caps on how often: marketing, and campaigns that have a cap. The scope stands for
# namespace and category. All columns are in the key, so that to count takes a look into one index.
texted_table = Table(
    "sms_texted",
    metadata,
    Column("scope", String(16), primary_key=True),
    Column("phone", String(64), primary_key=True),
    Column("texted_at", _Time, primary_key=True),
    # Below zero: of an attempt whose answer came after a later one had begun; what becomes of that one frees nobody.
    Column("batch_id", _Id, primary_key=True, autoincrement=False, index=True),
    sqlite_with_rowid=False,
    **_TABLE,
)

# What the platform pushed, as it came: the same push twice is one row. The digest is of all documented fields.
# Receipts of one batch lie together in the index, so that it is as quick at ten million rows as at ten thousand.
receipt_table = Table(
    "sms_receipt",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    # The account id of the address that was pushed to; empty: `sms_default`.
    Column("account", String(100)),
    Column("mobile", String(64), nullable=False),
    Column("taskid", String(100), nullable=False),
    Column("status", String(20)),
    Column("code", String(100)),
    Column("receivetime", String(64)),
    Column("extra", Text),
    Column("digest", String(24), nullable=False),
    Column("received_at", _Time, nullable=False),
    Column("matching", String(16)),
    UniqueConstraint("taskid", "mobile", "digest", name="sms_receipt_push"),
    **_NEVER_AGAIN,
)

# On SQLite and PostgreSQL only what is to be looked at is in these; MySQL knows no partial index.
Index(
    "sms_receipt_new",
    receipt_table.c.matching,
    receipt_table.c.id,
    sqlite_where=receipt_table.c.matching.is_(None),
    postgresql_where=receipt_table.c.matching.is_(None),
)
Index(
    "sms_receipt_unowned",
    receipt_table.c.matching,
    receipt_table.c.received_at,
    sqlite_where=receipt_table.c.matching == Matching.UNOWNED.value,
    postgresql_where=receipt_table.c.matching == Matching.UNOWNED.value,
)
Index(
    "sms_receipt_stray",
    receipt_table.c.matching,
    receipt_table.c.taskid,
    sqlite_where=receipt_table.c.matching == Matching.UNOWNED.value,
    postgresql_where=receipt_table.c.matching == Matching.UNOWNED.value,
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
    Column("extra", Text),
    Column("digest", String(24), nullable=False),
    Column("received_at", _Time, nullable=False, index=True),
    Column("matching", String(16), index=True),
    # Once matched: to which campaign it answers, and the whole phone if `mobile` shows stars.
    Column("campaign_id", _Id, index=True),
    Column("phone", String(64)),
    UniqueConstraint("taskid", "mobile", "digest", name="sms_reply_push"),
    **_NEVER_AGAIN,
)

# What is known of the text to one phone, by its final receipt if there is one.
delivery_table = Table(
    "sms_delivery",
    metadata,
    Column("campaign_id", _Id, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("batch_id", _Id, nullable=False, index=True),
    Column("outcome", String(12), nullable=False),
    # A class of failures, see `gateway.receipts`; empty if there is none.
    Column("cause", String(20), nullable=False),
    Column("receipt_id", _Id, nullable=False),
    # A later final receipt says otherwise.
    Column("contradicted_by", _Id),
    sqlite_with_rowid=False,
    **_TABLE,
)

# The same in counts, so that nobody has to read a campaign's receipts to know how far it is.
delivery_count_table = Table(
    "sms_delivery_count",
    metadata,
    Column("campaign_id", _Id, primary_key=True, autoincrement=False),
    Column("batch_id", _Id, primary_key=True, autoincrement=False),
    Column("outcome", String(12), primary_key=True),
    Column("cause", String(20), primary_key=True),
    Column("phones", Integer, nullable=False),
    sqlite_with_rowid=False,
    **_TABLE,
)

# Who has taken a reply to act on it. Each consumer sees every reply; of its task instances one at a time has it.
reply_claim_table = Table(
    "sms_reply_claim",
    metadata,
    Column("consumer", String(250), primary_key=True),
    Column("reply_id", _Id, primary_key=True, autoincrement=False),
    Column("owner", String(250), nullable=False),
    Column("lease_until", _Time, nullable=False),
    Column("handled_at", _Time),
    sqlite_with_rowid=False,
    **_TABLE,
)

# Phones that want no marketing any more, whichever account or installation it was that they answered.
opt_out_table = Table(
    "sms_opt_out",
    metadata,
    Column("phone", String(64), primary_key=True),
    Column("source", String(10), nullable=False),
    Column("account", String(100)),
    Column("reply_id", _Id),
    Column("note", String(200)),
    Column("created_at", _Time, nullable=False),
    sqlite_with_rowid=False,
    **_TABLE,
)

# Pushes with a valid token that could not be read: the newest ones, for a look. Ids are never given out again, so
# the highest one counts them all.
quarantine_table = Table(
    "sms_quarantine",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("account", String(100)),
    Column("interface", String(10), nullable=False),
    Column("reason", String(200), nullable=False),
    Column("body", Text),
    Column("received_at", _Time, nullable=False),
    **_NEVER_AGAIN,
)

# One row an alarm: a callback that fires again finds it. The text is what it says without a count of others.
alarm_table = Table(
    "sms_alarm",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("key_hash", String(64), nullable=False, unique=True),
    Column("namespace", String(100), nullable=False),
    # What its campaigns' names begin with.
    Column("name", String(250), nullable=False),
    Column("kind", String(10), nullable=False),
    Column("content", Text),
    Column("created_at", _Time, nullable=False, index=True),
    **_NEVER_AGAIN,
)

alarm_phone_table = Table(
    "sms_alarm_phone",
    metadata,
    Column("alarm_id", _Id, primary_key=True, autoincrement=False),
    Column("phone", String(64), primary_key=True),
    Column("namespace", String(100), nullable=False),
    Column("state", String(12), nullable=False),
    # When it took its place among the phone's texts.
    Column("slot_at", _Time),
    # How many that were held back its text counts.
    Column("others", Integer, nullable=False),
    # The alarm whose text counts this one.
    Column("told_in", _Id),
    Index("sms_alarm_phone_slot", "phone", "slot_at"),
    Index("sms_alarm_phone_state", "state", "namespace", "phone"),
    Index("sms_alarm_phone_told", "told_in"),
    sqlite_with_rowid=False,
    **_TABLE,
)

# Whoever decides on a phone's next alarm holds its row meanwhile.
alarm_gate_table = Table(
    "sms_alarm_gate",
    metadata,
    Column("phone", String(64), primary_key=True),
    sqlite_with_rowid=False,
    **_TABLE,
)
