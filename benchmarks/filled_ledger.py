"""A ledger as it is after a while: campaigns that were sent, with a receipt for each phone. Made by SQL, in bulk.

Half of the taskIds are running numbers, half are 32 letters and digits: the platform is known for both, and the
second kind lands anywhere in an index.
"""

# ruff: noqa: S608 - nothing in these statements comes from outside this file
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import md5

from sqlalchemy import func, insert, select, text
from sqlalchemy.engine import Connection

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.schema import batch_table, campaign_table, recipient_table

BATCH_SIZE = 500
ACCOUNT = "FAKE-APP-ID"
FIRST_PHONE = 138_0000_0000
# Phones of one campaign that was sent before.
_LARGEST = 1_000_000
_CHUNK = 50_000

# Numbers from :first up to below :last.
_SERIES = {
    "postgresql": "generate_series(CAST(:first AS bigint), CAST(:last AS bigint) - 1) AS s(n)",
    "sqlite": "(WITH RECURSIVE s(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM s WHERE n + 1 < :last) "
    "SELECT n FROM s)",
}
# Scattered: SQLite has no hash, so the first digits are a product that wraps around.
_HEX = {
    "postgresql": "md5(CAST({0} AS text))",
    "sqlite": "printf('%08x%024x', ({0}) * 2654435761 % 4294967296, {0})",
}
_TIDY = {"postgresql": ("VACUUM ANALYZE", "CHECKPOINT"), "sqlite": ("ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)")}


@dataclass(frozen=True)
class Batch:
    """A batch that was accepted, whose receipts are to come."""

    taskid: str
    phones: Sequence[int]


def fill(ledger: Ledger, rows: int) -> None:
    """Store campaigns whose receipts have all come and are matched.

    :param rows: how many receipts.
    """
    for first in range(0, rows, _LARGEST):
        with ledger.writing() as connection:
            _fill(connection, ledger.kind, first, min(first + _LARGEST, rows))


def tidy(ledger: Ledger) -> None:
    """Do what the database would otherwise begin to do while it is measured."""
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if ledger.kind == "sqlite":
            raw = connection.connection.dbapi_connection
            for statement in _TIDY[ledger.kind]:
                raw.execute(statement)  # type: ignore[union-attr]
            return
        for statement in _TIDY[ledger.kind]:
            connection.exec_driver_sql(statement)


def add_campaign(ledger: Ledger, name: str, phones: int) -> list[Batch]:
    """Store a campaign that was sent just now: its batches are accepted, nothing is known of its phones.

    :param name: unlike all others.
    """
    with ledger.writing() as connection:
        now = ledger.now(connection)
        connection.execute(
            insert(campaign_table).values(
                key_hash=md5(name.encode(), usedforsecurity=False).hexdigest(),
                planned_for="",
                name=name,
                namespace="",
                created_at=now,
                planned_at=now,
                owner="benchmark",
                lease_until=now,
                content="【云通信】Your report is ready.",
                segments=1,
                phones=phones,
                excluded="{}",
            )
        )
        campaign = connection.execute(select(func.max(campaign_table.c.id))).scalar_one()
        batches = []
        rows = []
        for number, first in enumerate(range(0, phones, BATCH_SIZE)):
            size = min(BATCH_SIZE, phones - first)
            unique = md5(f"{name} {number}".encode(), usedforsecurity=False)
            taskid = unique.hexdigest() if number % 2 else f"{campaign + 900:04d}{number:06d}"
            batches.append(Batch(taskid, range(FIRST_PHONE + first, FIRST_PHONE + first + size)))
            rows.append(
                {
                    "campaign_id": campaign,
                    "number": number,
                    "first_position": first,
                    "last_position": first + size - 1,
                    "phones": size,
                    "state": "accepted",
                    "account": ACCOUNT,
                    "attempt": 1,
                    "claimed_at": now,
                    "settled_at": now,
                    "taskid": taskid,
                    "accepted": size,
                }
            )
        connection.execute(insert(batch_table), rows)
        for first in range(0, phones, _CHUNK):
            connection.execute(
                insert(recipient_table),
                [
                    {"campaign_id": campaign, "position": at, "phone": str(FIRST_PHONE + at)}
                    for at in range(first, min(first + _CHUNK, phones))
                ],
            )
    return batches


def _fill(connection: Connection, kind: str, first: int, last: int) -> None:
    series, batch = _SERIES[kind], f"(n / {BATCH_SIZE})"
    taskid = f"CASE {batch} % 2 WHEN 0 THEN CAST(331000000 + {batch} AS text) ELSE {_HEX[kind].format(batch)} END"
    phone = f"CAST({FIRST_PHONE} + n - :first AS text)"
    time = "CURRENT_TIMESTAMP"
    connection.execute(
        insert(campaign_table).values(
            key_hash=f"filled {first}",
            planned_for="",
            name=f"filled {first}",
            namespace="",
            created_at=text("CURRENT_TIMESTAMP"),
            planned_at=text("CURRENT_TIMESTAMP"),
            owner="benchmark",
            lease_until=text("CURRENT_TIMESTAMP"),
            segments=1,
            phones=last - first,
            excluded="{}",
        )
    )
    campaign = connection.execute(select(func.max(campaign_table.c.id))).scalar_one()
    known = {"first": first, "last": last, "campaign": campaign}
    ids = "SELECT coalesce(max(id), 0) FROM sms_receipt"
    before = connection.execute(text(ids)).scalar_one()
    batches = {"first": first // BATCH_SIZE, "last": (last + BATCH_SIZE - 1) // BATCH_SIZE}
    of_batch = taskid.replace(batch, "n")
    for statement, values in (
        (
            "INSERT INTO sms_batch (campaign_id, number, first_position, last_position, phones, state, account, "
            "attempt, resends, claimed_at, settled_at, taskid, accepted) "
            f"SELECT :campaign, n - :first, (n - :first) * {BATCH_SIZE}, (n - :first + 1) * {BATCH_SIZE} - 1, "
            f"{BATCH_SIZE}, 'accepted', '{ACCOUNT}', 1, 0, {time}, {time}, {of_batch}, {BATCH_SIZE} FROM {series}",
            {**batches, "campaign": campaign},
        ),
        (
            "INSERT INTO sms_recipient (campaign_id, position, phone) "
            f"SELECT :campaign, n - :first, {phone} FROM {series}",
            known,
        ),
        (
            "INSERT INTO sms_receipt (mobile, taskid, status, code, receivetime, digest, received_at, matching) "
            f"SELECT {phone}, {taskid}, '1', 'DELIVRD', '2026-07-23 17:00:00', "
            f"substr({_HEX[kind].format('n')}, 9), {time}, 'matched' FROM {series}",
            {"first": first, "last": last},
        ),
        (
            "INSERT INTO sms_delivery (campaign_id, position, batch_id, outcome, cause, receipt_id) SELECT :campaign, "
            f"n - :first, (SELECT min(id) FROM sms_batch WHERE campaign_id = :campaign) + (n - :first) / {BATCH_SIZE}, "
            f"'delivered', '', :before + 1 + n - :first FROM {series}",
            {**known, "before": before},
        ),
        (
            "INSERT INTO sms_delivery_count (campaign_id, batch_id, outcome, cause, phones) "
            "SELECT campaign_id, id, 'delivered', '', phones FROM sms_batch WHERE campaign_id = :campaign",
            {"campaign": campaign},
        ),
    ):
        connection.execute(text(statement), values)
