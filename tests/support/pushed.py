"""What the platform pushes, put into a ledger as a receiver would, with no HTTP in between."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import count

from sqlalchemy import insert, select, update

from airflow_provider_sms.gateway.pushes import Receipt, Reply
from airflow_provider_sms.ledger import matching
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.inbox import Heard, Inbox
from airflow_provider_sms.ledger.schema import Matching, ledger_table, reply_table

_numbers = count(1)


def receive(ledger: Ledger, *pushes: Receipt | Reply) -> None:
    """Store pushes; nobody has looked at them yet."""
    Inbox(ledger, lambda content: False).store([Heard(None, push) for push in pushes])


def receipts(taskid: str, phones: Iterable[str], status: str = "1", code: str = "DELIVRD") -> list[Receipt]:
    """One for each phone."""
    return [Receipt(phone, taskid, status, code, f"2030-01-31 12:00:{next(_numbers)}", None) for phone in phones]


def reply(taskid: str, phone: str, content: str = "好的") -> Reply:
    return Reply(phone, taskid, content, f"2030-01-31 12:00:{next(_numbers)}", None)


def match(ledger: Ledger) -> None:
    """Look at all that has come."""
    matching.settle(ledger, lambda content: False)


def put_replies(
    ledger: Ledger, contents: Iterable[str], *, ago: timedelta = timedelta(0), **fields: object
) -> list[int]:
    """Write replies as they stand once they were looked at; their ids."""
    table = reply_table
    with ledger.writing() as connection:
        at = ledger.now(connection) - ago
        before = connection.execute(select(table.c.id).order_by(table.c.id.desc()).limit(1)).scalar() or 0
        rows = [reply_row(content, at, **fields) for content in contents]
        connection.execute(insert(table), rows)
        ids = select(table.c.id).where(table.c.id > before).order_by(table.c.id)
        return list(connection.execute(ids).scalars())


def reply_row(content: str, at: datetime, **fields: object) -> dict[str, object]:
    """One reply as it stands once it was looked at."""
    return {
        "mobile": "13800130001",
        "taskid": "T1",
        "content": content,
        "digest": f"{next(_numbers):024}",
        "received_at": at,
        "matching": Matching.MATCHED.value,
        **fields,
    }


def listen(ledger: Ledger) -> None:
    """Note that a receiver runs on this ledger."""
    Inbox(ledger, lambda content: False).note_receiver()


def note_first_push(ledger: Ledger) -> None:
    """Note that a push has come once."""
    with ledger.writing() as connection:
        connection.execute(update(ledger_table).values(receiver_at=ledger.clock, first_push_at=ledger.clock))
