"""What the platform pushed, put into a ledger as the inbox would, and what the ledger makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex
from typing import Any

from sqlalchemy import insert, select

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.deliveries import Deliveries, of_campaigns
from airflow_provider_sms.ledger.matching import Matcher
from airflow_provider_sms.ledger.schema import (
    delivery_count_table,
    delivery_table,
    receipt_table,
    recipient_table,
    reply_table,
)


def receipt(ledger: Ledger, mobile: str, taskid: str = "T1", status: str = "1", code: str = "", **fields: Any) -> int:
    """Store a receipt; its id."""
    return _store(ledger, receipt_table, mobile=mobile, taskid=taskid, status=status, code=code, **fields)


def reply(ledger: Ledger, mobile: str, taskid: str = "T1", content: str = "收到", **fields: Any) -> int:
    """Store a reply; its id."""
    return _store(ledger, reply_table, mobile=mobile, taskid=taskid, content=content, **fields)


def _store(ledger: Ledger, table: Any, **fields: Any) -> int:
    with ledger.writing() as connection:
        values = {
            "account": "FAKE-APP-ID",
            "received_at": ledger.now(connection),
            "digest": token_hex(8),
            "receivetime": "2030-01-31 12:00:00",
            **fields,
        }
        done: Any = connection.execute(insert(table).values(**values))
        return int(done.inserted_primary_key[0])


def look(ledger: Ledger, opts_out: Any = lambda content: False) -> int:
    """Let a process that knows nothing yet look at all that is new."""
    matcher, looked = Matcher(ledger, opts_out), 0
    while some := matcher.look():
        looked += some
    return looked


def marks(ledger: Ledger, table: Any = receipt_table) -> list[str | None]:
    """What became of each push, in their order."""
    with ledger.reading() as connection:
        return list(connection.execute(select(table.c.matching).order_by(table.c.id)).scalars())


def deliveries(ledger: Ledger, campaign_id: int) -> Deliveries:
    """The counts of one campaign."""
    return of_campaigns(ledger, [campaign_id])[campaign_id]


def verdicts(ledger: Ledger) -> dict[str, tuple[str, str]]:
    """What is known of each phone: outcome and cause."""
    people, known = recipient_table, delivery_table
    query = select(people.c.phone, known.c.outcome, known.c.cause).where(
        people.c.campaign_id == known.c.campaign_id, people.c.position == known.c.position
    )
    with ledger.reading() as connection:
        return {row[0]: (row[1], row[2]) for row in connection.execute(query)}


def counts_agree(ledger: Ledger) -> bool:
    """Whether the counts are those of the phones."""
    known, counted = delivery_table, delivery_count_table
    expected: dict[Any, int] = {}
    with ledger.reading() as connection:
        for row in connection.execute(select(known)):
            whole: Sequence[Any] = (row.campaign_id, row.batch_id, row.outcome, row.cause)
            for which in [
                whole,
                *([(row.campaign_id, row.batch_id, "contradicted", "")] if row.contradicted_by else []),
            ]:
                expected[tuple(which)] = expected.get(tuple(which), 0) + 1
        found = {tuple(row[:4]): row[4] for row in connection.execute(select(counted)) if row[4]}
    return found == expected
