"""How often a phone was texted, for caps on it across campaigns. Knows no wire and no Airflow.

Noted when a batch is claimed, in the same transaction, and taken back if nothing of it has left: so texts that are
accepted, on their way or in doubt count, and one that was in doubt also while it waits to be sent again; and one that
was taken for not sent, once its answer comes late. Whoever asks and gets no answer gets an error, never an empty set.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select

from airflow_provider_sms.gateway.categories import Category
from airflow_provider_sms.ledger.database import Ledger, naive
from airflow_provider_sms.ledger.parts import in_parts
from airflow_provider_sms.ledger.schema import texted_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

# From so many chunks on it pays to count everybody at once, up to so many notes: some seconds, and some 30 MB.
MANY_CHUNKS = 5
COUNTED_AT_ONCE = 5_000_000
READ_AT_ONCE = 300_000
_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Cap:
    """How many texts a phone may get.

    :param texts: so many, in any period `per`.
    """

    texts: int
    per: timedelta


def scope(namespace: str, category: str | None) -> str:
    """Tell what a cap counts: campaigns of one namespace and category."""
    return hashlib.sha256(json.dumps((namespace, category)).encode()).hexdigest()[:16]


def is_noted(category: str | None, cap: Cap | None) -> bool:
    """Whether a campaign's texts are noted: marketing always, others if they have a cap themselves."""
    return cap is not None or category == Category.MARKETING


def reached(
    connection: Connection, scope: str, phones: Collection[str], cap: Cap, when: datetime, batch_id: int = 0
) -> set[str]:
    """Find which of some phones have got so many texts that another one is one too many.

    :param scope: see `scope`.
    :param phones: none of them holds a line break.
    :param when: the text's time, UTC without saying so; what is scheduled for later counts, too.
    :param batch_id: a batch whose own note does not count.
    """
    found: set[str] = set()
    for some in in_parts(list(phones), _AT_ONCE):
        early, late = when - cap.per, when + cap.per
        parameters: Any
        match connection.dialect.name:
            case "sqlite":
                times = (f"{early:%Y-%m-%d %H:%M:%S.%f}", f"{late:%Y-%m-%d %H:%M:%S.%f}")
                parameters = (json.dumps(some), scope, *times, batch_id, cap.texts)
            case "postgresql":
                parameters = ("\n".join(some), scope, early, late, batch_id, cap.texts)
            case _:
                parameters = (scope, *some, early, late, batch_id, cap.texts)
        statement = _REACHED.get(connection.dialect.name) or _REACHED_IN.format(", ".join(["%s"] * len(some)))
        found.update(connection.exec_driver_sql(statement, parameters).scalars())
    return found


# Phone by phone, each a look into the key.
_REACHED = {
    "sqlite": "SELECT asked.value FROM json_each(?) AS asked WHERE (SELECT count(*) FROM sms_texted AS noted "
    "WHERE noted.scope = ? AND noted.phone = asked.value AND noted.texted_at > ? AND noted.texted_at < ? "
    "AND noted.batch_id <> ?) >= ?",
    "postgresql": "SELECT asked.phone FROM unnest(string_to_array(%s, E'\\n')) AS asked (phone) "
    "WHERE (SELECT count(*) FROM sms_texted AS noted WHERE noted.scope = %s AND noted.phone = asked.phone "
    "AND noted.texted_at > %s AND noted.texted_at < %s AND noted.batch_id <> %s) >= %s",
}
_REACHED_IN = (
    "SELECT phone FROM sms_texted WHERE scope = %s AND phone IN ({}) AND texted_at > %s AND texted_at < %s "
    "AND batch_id <> %s GROUP BY phone HAVING count(*) >= %s"
)


def hold(connection: Connection, scope: str) -> None:
    """Let nobody else with a cap look before this transaction has noted what it sends; before any other lock of it.

    SQLite has one writer at a time anyway.
    """
    match connection.dialect.name:
        case "postgresql":
            connection.exec_driver_sql(
                "SELECT pg_advisory_xact_lock(hashtext('airflow-provider-sms frequency'), hashtext(%s))", (scope,)
            )
        case "mysql":
            # A row of nobody's, which stays.
            connection.exec_driver_sql(_NOBODY, (scope,))


_NOBODY = (
    "INSERT INTO sms_texted (scope, phone, texted_at, batch_id) VALUES (%s, '', '2000-01-01', 0) "
    "ON DUPLICATE KEY UPDATE batch_id = 0"
)


def note(
    connection: Connection, ledger: Ledger, scope: str, phones: Collection[str], when: datetime, batch_id: int
) -> None:
    """Note that a batch is about to leave.

    :param phones: each once.
    :param when: UTC without saying so.
    """
    # In one order everywhere, and the index's.
    ordered = sorted(phones)
    parameters: Any
    match ledger.kind:
        case "sqlite":
            parameters = (scope, f"{when:%Y-%m-%d %H:%M:%S.%f}", batch_id, json.dumps(ordered))
        case "postgresql":
            parameters = (scope, when, batch_id, "\n".join(ordered))
        case _:
            parameters = [(scope, phone, when, batch_id) for phone in ordered]
    connection.exec_driver_sql(_NOTE[ledger.kind], parameters)


_NOTE = {
    "sqlite": "INSERT INTO sms_texted (scope, phone, texted_at, batch_id) SELECT ?1, value, ?2, ?3 FROM json_each(?4)",
    "postgresql": "INSERT INTO sms_texted (phone, scope, texted_at, batch_id) "
    "SELECT phone, CAST(%s AS varchar), CAST(%s AS timestamp), CAST(%s AS bigint) "
    "FROM unnest(string_to_array(%s, E'\\n')) AS item (phone)",
    "mysql": "INSERT INTO sms_texted (scope, phone, texted_at, batch_id) VALUES (%s, %s, %s, %s)",
}


def note_beside(
    connection: Connection, ledger: Ledger, scope: str, phones: Collection[str], when: datetime, batch_id: int
) -> None:
    """Note what was accepted of an attempt that the ledger has gone on without: `forget` leaves it alone.

    :param phones: each once.
    :param when: UTC without saying so.
    """
    table, beside = texted_table, -batch_id
    # The same step may be repeated.
    connection.execute(delete(table).where(table.c.batch_id == beside, table.c.texted_at == when))
    note(connection, ledger, scope, phones, when, beside)


def forget_all(connection: Connection, batch_ids: Sequence[int]) -> None:
    """Remove whatever was noted of batches: their phones are kept no longer."""
    forget(connection, [*batch_ids, *(-each for each in batch_ids)])


def forget(connection: Connection, batch_ids: Iterable[int]) -> None:
    """Take back what was noted of batches: nothing of them has left."""
    for some in in_parts(list(batch_ids)):
        connection.execute(delete(texted_table).where(texted_table.c.batch_id.in_(some)))


class Lookup:
    """A cap as a plan of any length asks about it: chunk by chunk.

    Who has many chunks has all that was noted counted once, unless that is too much. What is sent meanwhile is found
    when a batch is claimed.

    :param when: the texts' time, aware.
    """

    def __init__(self, ledger: Ledger, scope: str, cap: Cap, when: datetime) -> None:
        self._ledger = ledger
        self._scope = scope
        self._cap = cap
        self._when = naive(when)
        self._chunks = 0
        self._all: frozenset[str] | None = None

    def among(self, phones: Collection[str]) -> Set[str]:
        """Find which of a chunk have got enough."""
        self._chunks += 1
        if self._all is not None:
            return self._all.intersection(phones)
        with self._ledger.reading() as connection:
            if self._chunks == MANY_CHUNKS:
                self._all = self._count_all(connection)
            if self._all is not None:
                return self._all.intersection(phones)
            return reached(connection, self._scope, phones, self._cap, self._when)

    def _count_all(self, connection: Connection) -> frozenset[str] | None:
        """All who have got enough, in one walk along the key; None if it is too long, or there are too many."""
        table, cap = texted_table, self._cap
        in_scope = table.c.scope == self._scope
        walk = select(table.c.phone).where(in_scope).limit(COUNTED_AT_ONCE + 1).subquery()
        if connection.execute(select(func.count()).select_from(walk)).scalar_one() > COUNTED_AT_ONCE:
            return None
        is_near = (table.c.texted_at > self._when - cap.per) & (table.c.texted_at < self._when + cap.per)
        query = select(table.c.phone).where(in_scope, is_near).group_by(table.c.phone)
        query = query.having(func.count() >= cap.texts).limit(READ_AT_ONCE + 1)
        found = frozenset(connection.execute(query).scalars())
        return found if len(found) <= READ_AT_ONCE else None
