"""The items of a campaign, stored as quickly as each database can, and removed. Knows nothing of what they get."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.schema import recipient_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

CHUNK = 10_000
"""How many of them are read at once."""

REMOVED_AT_ONCE = 50_000


def store_recipients(
    ledger: Ledger,
    connection: Connection,
    campaign_id: int,
    first: int,
    phones: Sequence[str],
    reasons: Mapping[int, str],
) -> None:
    """Store items at successive positions, as quickly as each database can.

    :param first: the first one's position.
    :param reasons: which of them are left out, by place in `phones`, and why.
    """
    if not phones:
        return
    table = recipient_table
    last = first + len(phones) - 1
    # A commit that was not heard of may have stored them.
    connection.execute(delete(table).where(table.c.campaign_id == campaign_id, table.c.position.between(first, last)))
    if ledger.kind == "postgresql":
        # No phone and no reason holds a line break. The last one keeps a lone empty item from being no item.
        values = {
            "campaign": campaign_id,
            "before": first - 1,
            "phones": "\n".join(phones) + "\n",
            "reasons": "\n".join(reasons.get(place, "") for place in range(len(phones))) + "\n" if reasons else None,
            "count": len(phones),
        }
        connection.exec_driver_sql(_UNNEST, values)
    elif ledger.kind == "sqlite":
        connection.exec_driver_sql(_JSON_EACH, (campaign_id, first, json.dumps(list(phones), ensure_ascii=False)))
        if reasons:
            left_out = [(reason, campaign_id, first + place) for place, reason in reasons.items()]
            connection.exec_driver_sql(_REASON, left_out)
    else:
        rows = [(campaign_id, at, phone, reasons.get(at - first)) for at, phone in enumerate(phones, first)]
        connection.exec_driver_sql(_VALUES, rows)


_VALUES = "INSERT INTO sms_recipient (campaign_id, position, phone, reason) VALUES (%s, %s, %s, %s)"
# All in one value: row by row takes four times as long.
_JSON_EACH = "INSERT INTO sms_recipient (campaign_id, position, phone) SELECT ?, ? + key, value FROM json_each(?)"
_REASON = "UPDATE sms_recipient SET reason = ? WHERE campaign_id = ? AND position = ?"
_UNNEST = """
INSERT INTO sms_recipient (campaign_id, position, phone, reason)
SELECT %(campaign)s, %(before)s + item.place, item.phone, nullif(item.reason, '')
FROM unnest(string_to_array(%(phones)s, E'\\n'), string_to_array(%(reasons)s, E'\\n'))
     WITH ORDINALITY AS item (phone, reason, place)
WHERE item.place <= %(count)s
"""


def remove_recipients(ledger: Ledger, campaign_id: int) -> None:
    """Remove a campaign's recipients, in transactions that keep nobody waiting."""
    table = recipient_table
    with ledger.reading() as connection:
        query = select(func.max(table.c.position)).where(table.c.campaign_id == campaign_id)
        last = connection.execute(query).scalar() or 0
    for first in range(1, last + 1, REMOVED_AT_ONCE):
        span = table.c.position.between(first, first + REMOVED_AT_ONCE - 1)
        with ledger.writing() as connection:
            connection.execute(delete(table).where(table.c.campaign_id == campaign_id, span))
