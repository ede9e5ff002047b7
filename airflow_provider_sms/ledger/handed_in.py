"""What became of every item that was handed in, one by one: its batch, and what receipts say. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.recipients import CHUNK
from airflow_provider_sms.ledger.schema import batch_table, delivery_table, receipt_table, recipient_table
from airflow_provider_sms.ledger.views import Batch, read_batch


@dataclass(frozen=True, slots=True)
class Heard:
    """What receipts say of the text to one phone.

    :param outcome: see `schema.Outcome`.
    :param cause: of a failure, see `gateway.receipts.CAUSES`.
    :param code: the receipt's, as it came; None if it is kept no longer.
    :param receivetime: likewise.
    :param is_contradicted: a later one says otherwise.
    """

    outcome: str
    cause: str
    code: str | None
    receivetime: str | None
    is_contradicted: bool


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one item that was handed in.

    :param phone: eleven digits, or a malformed item as it came.
    :param reason: why it is left out; None if it is not.
    :param batch: where it is sent; None if it is left out.
    :param heard: None if no receipt has come.
    """

    position: int
    phone: str = field(repr=False)
    reason: str | None
    batch: Batch | None
    heard: Heard | None = None


def items(ledger: Ledger, campaign_id: int) -> Iterator[list[Item]]:
    """Read what became of every item that was handed in, in order, in chunks: each item once."""
    people, table, known, push = recipient_table, batch_table, delivery_table, receipt_table
    with ledger.reading() as connection:
        highest = select(func.max(people.c.position)).where(people.c.campaign_id == campaign_id)
        last = connection.execute(highest).scalar() or 0
    for first in range(1, last + 1, CHUNK):
        end = first + CHUNK - 1
        overlapping = select(table).where(
            table.c.campaign_id == campaign_id, table.c.first_position <= end, table.c.last_position >= first
        )
        positions = select(people.c.position, people.c.phone, people.c.reason).where(
            people.c.campaign_id == campaign_id, people.c.position.between(first, end)
        )
        receipts = (
            select(known.c.position, known.c.outcome, known.c.cause, push.c.code, push.c.receivetime)
            .add_columns(known.c.contradicted_by.is_not(None))
            .select_from(known.outerjoin(push, push.c.id == known.c.receipt_id))
            .where(known.c.campaign_id == campaign_id, known.c.position.between(first, end))
        )
        with ledger.reading() as connection:
            # Batches first: in between a phone may be left out and its batch go, but never the other way round.
            found = [read_batch(row) for row in connection.execute(overlapping.order_by(table.c.first_position))]
            rows = connection.execute(positions.order_by(people.c.position)).all()
            heard = {
                position: Heard(outcome, cause, code, receivetime, bool(is_contradicted))
                for position, outcome, cause, code, receivetime, is_contradicted in connection.execute(receipts)
            }
        yield list(_placed(rows, found, heard))


def _placed(rows: Sequence[Any], found: Sequence[Batch], heard: Mapping[int, Heard]) -> Iterator[Item]:
    """Give each item its batch; both are in the order of positions."""
    following = iter(found)
    batch = next(following, None)
    for position, phone, reason in rows:
        while batch is not None and batch.last_position < position:
            batch = next(following, None)
        is_inside = batch is not None and reason is None and batch.first_position <= position
        yield Item(position, phone, reason, batch if is_inside else None, heard.get(position))
