"""The texts of a campaign in which phones have their own: stored once each, beside the batches that carry them.

Knows no wire and no Airflow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select

from airflow_provider_sms.ledger.keys import text_hash
from airflow_provider_sms.ledger.schema import BatchState, batch_table, recipient_table, text_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_provider_sms.ledger.database import Ledger

PERSONAL = "personal"
"""What a campaign with personal texts has for its text's hash: no text has that."""

_READ_AT_ONCE = 10_000
_REMOVED_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True)
class OwnText:
    """A text that some phones of a campaign get, and others do not.

    :param number: of the campaign's texts.
    :param content: the text as it goes out.
    :param segments: texts that one phone is charged for.
    """

    number: int
    content: str = field(repr=False)
    segments: int


def store_texts(ledger: Ledger, connection: Connection, campaign_id: int, texts: Sequence[OwnText]) -> None:
    """Store texts of a draft, in the order of their numbers."""
    if not texts:
        return
    table = text_table
    # The first may have been stored with the phones before; and a commit that was not heard of may have stored all.
    between = table.c.number.between(texts[0].number, texts[-1].number)
    connection.execute(delete(table).where(table.c.campaign_id == campaign_id, between))
    rows = [(each.number, each.content, text_hash(each.content)) for each in texts]
    match ledger.kind:
        case "sqlite":
            connection.exec_driver_sql(_JSON_EACH, (campaign_id, json.dumps(rows, ensure_ascii=False)))
        case "postgresql":
            numbers, contents, hashes = zip(*rows, strict=True)
            # No text holds U+001F, so it parts them.
            values = {"campaign": campaign_id, "contents": "\x1f".join(contents), "hashes": "\n".join(hashes)}
            connection.exec_driver_sql(_UNNEST, {**values, "numbers": "\n".join(map(str, numbers))})
        case _:
            names = ("number", "content", "content_hash")
            connection.execute(
                insert(table), [{"campaign_id": campaign_id, **dict(zip(names, row, strict=True))} for row in rows]
            )


# All in one value, as with the recipients.
_JSON_EACH = """
INSERT INTO sms_text (campaign_id, number, content, content_hash)
SELECT ?, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]') FROM json_each(?)
"""
_UNNEST = """
INSERT INTO sms_text (campaign_id, number, content, content_hash)
SELECT %(campaign)s, CAST(item.number AS integer), item.content, item.hash
FROM unnest(string_to_array(%(numbers)s, E'\\n'), string_to_array(%(contents)s, E'\\x1f'),
            string_to_array(%(hashes)s, E'\\n')) AS item (number, content, hash)
"""


def planned_texts(ledger: Ledger, campaign_id: int) -> Iterator[list[tuple[str, str]]]:
    """Read which phone of a campaign gets which text, in chunks of phone and text's hash."""
    people, batch, table = recipient_table, batch_table, text_table
    with ledger.reading() as connection:
        highest = select(func.max(people.c.position)).where(people.c.campaign_id == campaign_id)
        last = connection.execute(highest).scalar() or 0
    for first in range(1, last + 1, _READ_AT_ONCE):
        end = first + _READ_AT_ONCE - 1
        phones = select(people.c.position, people.c.phone).where(
            people.c.campaign_id == campaign_id, people.c.position.between(first, end), people.c.reason.is_(None)
        )
        carried = (
            select(batch.c.last_position, table.c.content_hash)
            .select_from(
                batch.join(
                    table, (table.c.campaign_id == batch.c.campaign_id) & (table.c.number == batch.c.text_number)
                )
            )
            .where(batch.c.campaign_id == campaign_id, batch.c.first_position <= end, batch.c.last_position >= first)
        )
        with ledger.reading() as connection:
            batches = connection.execute(carried.order_by(batch.c.first_position)).all()
            rows = connection.execute(phones.order_by(people.c.position)).all()
        if batches:
            yield list(_paired(rows, batches))


def _paired(phones: Sequence[Any], batches: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Give each phone its batch's text; both are in the order of positions."""
    following = iter(batches)
    batch = next(following)
    for position, phone in phones:
        while batch.last_position < position:
            batch = next(following)
        yield phone, batch.content_hash


def carried_texts(ledger: Ledger, campaign_id: int, states: Set[BatchState]) -> tuple[str | None, int]:
    """Read the first text that batches in some states carry, and count how many different ones do."""
    batch, table = batch_table, text_table
    carried = (batch.c.campaign_id == campaign_id, batch.c.state.in_(sorted(states)), batch.c.text_number.is_not(None))
    first = select(table.c.content).select_from(
        batch.join(table, (table.c.campaign_id == batch.c.campaign_id) & (table.c.number == batch.c.text_number))
    )
    with ledger.reading() as connection:
        content = connection.execute(first.where(*carried).order_by(batch.c.number).limit(1)).scalar()
        count = connection.execute(select(func.count(batch.c.text_number.distinct())).where(*carried)).scalar_one()
    return content, count


def remove_texts(ledger: Ledger, campaign_id: int) -> None:
    """Remove a campaign's texts, in transactions that keep nobody waiting."""
    table = text_table
    with ledger.reading() as connection:
        query = select(func.max(table.c.number)).where(table.c.campaign_id == campaign_id)
        last = connection.execute(query).scalar() or 0
    for first in range(1, last + 1, _REMOVED_AT_ONCE):
        some = table.c.number.between(first, first + _REMOVED_AT_ONCE - 1)
        with ledger.writing() as connection:
            connection.execute(delete(table).where(table.c.campaign_id == campaign_id, some))
