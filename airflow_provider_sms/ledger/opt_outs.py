"""Phones that want no marketing: put on the list, taken off it, asked about. Knows no wire and no Airflow.

Whoever asks and gets no answer gets an error, never an empty set: a text that can not be checked does not go out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select

from airflow_provider_sms.gateway.phones import storable
from airflow_provider_sms.ledger.database import Ledger, aware
from airflow_provider_sms.ledger.parts import in_parts
from airflow_provider_sms.ledger.schema import opt_out_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

CHUNK = 10_000
# Some 30 MB.
READ_AT_ONCE = 300_000
LONGEST_NOTE = 200
_LONGEST_ACCOUNT = 100


class Source(StrEnum):
    """How a phone came onto the list."""

    REPLY = "reply"
    PERSON = "person"
    IMPORT = "import"


@dataclass(frozen=True, slots=True)
class OptOut:
    """One phone that has opted out.

    :param phone: eleven digits.
    :param source: see `Source`.
    :param account: the account id of the address that its reply was pushed to, if there is one.
    :param reply_id: which reply in the ledger it was, if it was one.
    :param note: what the person who put it there has written.
    :param created_at: since when, aware.
    """

    phone: str = field(repr=False)
    source: str
    account: str | None
    reply_id: int | None
    note: str | None = field(repr=False)
    created_at: datetime


def add(
    connection: Connection,
    ledger: Ledger,
    phone: str,
    *,
    source: str,
    account: str | None = None,
    reply_id: int | None = None,
    note: str | None = None,
) -> bool:
    """Put a phone on the list; one that is there stays as it is.

    :param phone: eleven digits.
    :param source: see `Source`.
    :param note: kept up to 200 characters.
    :returns: whether it is new.
    """
    values = {
        "phone": phone,
        "source": str(source),
        "account": None if account is None else storable(account, _LONGEST_ACCOUNT),
        "reply_id": reply_id,
        "note": None if note is None else storable(note, LONGEST_NOTE),
        "created_at": ledger.now(connection),
    }
    added: int = connection.execute(ledger.insert_new(opt_out_table).values(values)).rowcount
    return added > 0


def add_all(
    connection: Connection, ledger: Ledger, phones: Collection[str], *, source: str, note: str | None = None
) -> int:
    """Put many phones on the list at once.

    :param phones: eleven digits each; each once.
    :returns: how many are new.
    """
    if not phones:
        return 0
    now = ledger.now(connection)
    note = None if note is None else storable(note, LONGEST_NOTE)
    # In one order everywhere, so that two who add the same phones do not wait for each other.
    ordered = sorted(phones)
    parameters: Any
    match ledger.kind:
        case "sqlite":
            parameters = (str(source), note, f"{now:%Y-%m-%d %H:%M:%S.%f}", json.dumps(ordered))
        case "postgresql":
            parameters = (str(source), note, now, "\n".join(ordered))
        case _:
            parameters = [(phone, str(source), note, now) for phone in ordered]
    return connection.exec_driver_sql(_ADD[ledger.kind], parameters).rowcount


_ADD = {
    "sqlite": "INSERT OR IGNORE INTO sms_opt_out (phone, source, note, created_at) "
    "SELECT value, ?, ?, ? FROM json_each(?)",
    "postgresql": "INSERT INTO sms_opt_out (phone, source, note, created_at) "
    "SELECT phone, %s, %s, %s FROM unnest(string_to_array(%s, E'\\n')) AS item (phone) ON CONFLICT DO NOTHING",
    "mysql": "INSERT IGNORE INTO sms_opt_out (phone, source, note, created_at) VALUES (%s, %s, %s, %s)",
}


def remove(connection: Connection, phone: str) -> bool:
    """Take a phone off the list: it has asked for marketing again.

    :returns: whether it was there.
    """
    return connection.execute(delete(opt_out_table).where(opt_out_table.c.phone == phone)).rowcount > 0


def among(connection: Connection, phones: Collection[str]) -> set[str]:
    """Find which of some phones have opted out.

    :param phones: none of them holds a line break.
    """
    found: set[str] = set()
    for some in in_parts(list(phones), CHUNK):
        parameters: Any
        match connection.dialect.name:
            case "sqlite":
                parameters = (json.dumps(some),)
                # In this order: from each phone to the list's index.
                statement = (
                    "SELECT listed.phone FROM json_each(?) AS asked CROSS JOIN sms_opt_out AS listed "
                    "ON listed.phone = asked.value"
                )
            case "postgresql":
                parameters = ("\n".join(some),)
                # The limit has each phone looked up in the index; a join, or an array, may have the whole list read.
                statement = (
                    "SELECT listed.phone FROM unnest(string_to_array(%s, E'\\n')) AS asked (phone), LATERAL "
                    "(SELECT phone FROM sms_opt_out WHERE sms_opt_out.phone = asked.phone LIMIT 1) AS listed"
                )
            case _:
                parameters = tuple(some)
                statement = f"SELECT phone FROM sms_opt_out WHERE phone IN ({', '.join(['%s'] * len(some))})"  # noqa: S608
        found.update(connection.exec_driver_sql(statement, parameters).scalars())
    return found


class Lookup:
    """The list as a plan of any length asks it: chunk by chunk.

    Who has many chunks has the list read once, unless it is too long for that. What comes onto the list meanwhile
    is found when a batch is claimed.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._chunks = 0
        self._all: frozenset[str] | None = None

    def among(self, phones: Collection[str]) -> Set[str]:
        """Find which of a chunk have opted out."""
        self._chunks += 1
        with self._ledger.reading() as connection:
            if self._chunks == 2:
                query = select(opt_out_table.c.phone).limit(READ_AT_ONCE + 1)
                found = frozenset(connection.execute(query).scalars())
                self._all = found if len(found) <= READ_AT_ONCE else None
            return among(connection, phones) if self._all is None else self._all.intersection(phones)


def listed(ledger: Ledger) -> Iterator[list[OptOut]]:
    """Read the list in the order of the phones, in chunks."""
    table, phone = opt_out_table, ""
    while True:
        query = select(table).where(table.c.phone > phone).order_by(table.c.phone).limit(CHUNK)
        with ledger.reading() as connection:
            rows = connection.execute(query).all()
        if not rows:
            return
        phone = rows[-1].phone
        yield [
            OptOut(row.phone, row.source, row.account, row.reply_id, row.note, aware(row.created_at)) for row in rows
        ]
