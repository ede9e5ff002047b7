"""Pushes change hands: a taskId gets an owner after they have come, or loses it again. Knows the tables; no wire.

Who matches, and who takes back what was matched, is alone at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, exists, func, literal_column, select, text, update

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.schema import (
    BatchState,
    Matching,
    batch_table,
    delivery_count_table,
    delivery_table,
    receipt_table,
    reply_table,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# As the partial indexes have it: a parameter would hide from the database that they hold what is asked for.
UNOWNED: Any = literal_column(f"'{Matching.UNOWNED.value}'")


@contextmanager
def alone(ledger: Ledger) -> Iterator[Connection | None]:
    """A transaction in which nobody else matches; None if somebody else does."""
    with ledger.writing() as connection:
        # SQLite has one writer at a time by itself.
        if ledger.kind == "sqlite" or connection.execute(text(f"{_HOLD} SKIP LOCKED")).first() is not None:
            yield connection
        else:
            yield None


def hold(ledger: Ledger, connection: Connection) -> None:
    """Wait until nobody matches, and let nobody until the end of the transaction; before any other lock of it."""
    if ledger.kind != "sqlite":
        connection.execute(text(_HOLD))


_HOLD = "SELECT id FROM sms_ledger WHERE id = 1 FOR UPDATE"


def bring_in(connection: Connection, taskid: str) -> int:
    """Let the pushes of a taskId that nobody owned be looked at again.

    :returns: how many.
    """
    count = 0
    for table in (receipt_table, reply_table):
        stray = and_(table.c.taskid == taskid, table.c.matching == UNOWNED)
        count += connection.execute(update(table).where(stray).values(matching=None)).rowcount
    return count


def let_go(connection: Connection, campaign_id: int, batch_id: int, taskid: str | None) -> None:
    """Take back what pushes have said of a batch that is not theirs after all; they are looked at again.

    :param taskid: what the batch was called by; None if nobody knew.
    """
    of_batch = and_(delivery_count_table.c.campaign_id == campaign_id, delivery_count_table.c.batch_id == batch_id)
    connection.execute(delete(delivery_count_table).where(of_batch))
    connection.execute(delete(delivery_table).where(delivery_table.c.batch_id == batch_id))
    if taskid is not None:
        connection.execute(update(receipt_table).where(receipt_table.c.taskid == taskid).values(matching=None))
        anew = {"matching": None, "campaign_id": None, "phone": None}
        connection.execute(update(reply_table).where(reply_table.c.taskid == taskid).values(**anew))


def strays(connection: Connection, which: Any) -> set[str]:
    """TaskIds of accepted batches that pushes have come for before they had an owner."""
    table = batch_table
    taskids: set[str] = set()
    for push in (receipt_table, reply_table):
        # Of replies there is one index on what they are marked with, and a better one on their taskId.
        mark: Any = push.c.matching if push is receipt_table else func.coalesce(push.c.matching, "")
        stray = exists().where(push.c.taskid == table.c.taskid, mark == UNOWNED)
        # Which state it is in is no condition: as one it would be taken for a better one than the time.
        query = select(table.c.taskid, table.c.state).where(which, table.c.taskid.is_not(None), stray)
        taskids |= {row.taskid for row in connection.execute(query) if row.state == BatchState.ACCEPTED}
    return taskids
