"""What was pushed, stored as it came: many pushes in one transaction, the same one once. Knows no HTTP.

What a push means is found out afterwards, see `matching`; only an opt-out holds from the moment that it is heard.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, delete, func, insert, select, update

from airflow_provider_sms.gateway.phones import normalise, storable
from airflow_provider_sms.gateway.pushes import Heard, Receipt, Reply, Unreadable
from airflow_provider_sms.ledger.database import Ledger, aware
from airflow_provider_sms.ledger.schema import ledger_table, quarantine_table, receipt_table, reply_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

QUARANTINED = 1000
COUNTED = 1_000_000
"""How many receipts, and how many replies, are counted, the newest: who looks does not wait for millions more."""

LONGEST_CONTENT = 4000
LONGEST_EXTRA = 8000
LONGEST_BODY = 2000

_STATUS, _CODE, _TIME = 20, 100, 64
_ACCOUNT = 100
_UNSTORABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
# A line break belongs to a text; these do not, or no database takes them.
_UNSTORABLE_IN_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

Row = tuple[str | None, ...]


class Inbox:
    """Stores what is heard.

    :param opts_out: whether a reply's content says that its sender wants no marketing any more.
    """

    def __init__(self, ledger: Ledger, opts_out: Callable[[str], bool]) -> None:
        self._ledger = ledger
        self._opts_out = opts_out
        self._knows_first = False

    def store(self, heard: Sequence[Heard | Unreadable]) -> None:
        """Store all of it, in one transaction; what is there already is left as it is.

        :raises LedgerUnreachableError: nobody knows whether it is stored; the same step may be repeated.
        :raises LedgerError: it is not stored.
        """
        receipts: list[Row] = []
        replies: list[Row] = []
        opt_outs: list[Row] = []
        unreadable: list[Unreadable] = []
        for each in heard:
            if isinstance(each, Unreadable):
                unreadable.append(each)
            elif isinstance(each.push, Receipt):
                receipts.append(_receipt(each.account, each.push))
            else:
                row = _reply(each.account, each.push)
                whole = normalise(each.push.mobile) is not None
                (opt_outs if whole and self._opts_out(each.push.content) else replies).append(row)
        # Two receivers that store the same pushes in two orders would wait for each other.
        for rows in (receipts, replies, opt_outs):
            rows.sort(key=_order)
        if receipts and len(receipts) == len(heard) and self._knows_first:
            # The usual case. Each word with the database more is a moment in which nobody is answered.
            with self._ledger.at_once() as connection:
                _insert(self._ledger, connection, _RECEIPTS, receipts)
            return
        with self._ledger.writing() as connection:
            if receipts:
                _insert(self._ledger, connection, _RECEIPTS, receipts)
            if replies:
                _insert(self._ledger, connection, _REPLIES, replies)
            for row in opt_outs:
                self._store_opt_out(connection, row)
            if unreadable:
                _quarantine(self._ledger, connection, unreadable)
            if not self._knows_first and (receipts or replies or opt_outs):
                self._note_first(connection)
        self._knows_first = self._knows_first or bool(receipts or replies or opt_outs)

    def note_receiver(self) -> None:
        """Note that a receiver listens for this ledger: a sensor that waits for receipts wants to know."""
        with self._ledger.writing() as connection:
            connection.execute(update(ledger_table).values(receiver_at=self._ledger.clock))

    def _store_opt_out(self, connection: Connection, row: Row) -> None:
        """Store a reply and, if it is new, put its phone on the list: a repeated push opts nobody out again."""
        from airflow_provider_sms.ledger import opt_outs

        if not _insert(self._ledger, connection, _REPLIES, [row]):
            return
        account, mobile, taskid, *_, digest = row
        phone = normalise(mobile)
        table = reply_table
        found = select(table.c.id).where(table.c.taskid == taskid, table.c.mobile == mobile, table.c.digest == digest)
        reply_id = connection.execute(found).scalar_one()
        if phone is not None:
            opt_outs.add(connection, self._ledger, phone, source="reply", account=account, reply_id=reply_id)

    def _note_first(self, connection: Connection) -> None:
        table = ledger_table
        # Looked at first: an update would wait for whoever is matching, and is needed once in a ledger's life.
        if connection.execute(select(table.c.id).where(table.c.first_push_at.is_(None))).first() is not None:
            connection.execute(
                update(table).where(table.c.first_push_at.is_(None)).values(first_push_at=self._ledger.clock)
            )


def _receipt(account: str | None, push: Receipt) -> Row:
    status, code, time = push.status, push.code, push.receivetime
    digest = blake2b(
        f"{len(status)}:{status}{len(code)}:{code}{time}".encode("utf-8", "surrogatepass"), digest_size=12
    ).hexdigest()
    if (
        len(status) > _STATUS
        or len(code) > _CODE
        or len(time) > _TIME
        or _UNSTORABLE.search(f"{status}{code}{time}") is not None
    ):
        status, code, time = storable(status, _STATUS), storable(code, _CODE), storable(time, _TIME)
    return (account, push.mobile, push.taskid, status, code, time, _bounded_extra(push.extra), digest)


def _reply(account: str | None, push: Reply) -> Row:
    content, time = push.content, push.receivetime
    digest = blake2b(f"{len(content)}:{content}{time}".encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    content = _UNSTORABLE_IN_TEXT.sub(lambda each: f"\\u{ord(each[0]):04x}", content[:LONGEST_CONTENT])
    return (
        account,
        push.mobile,
        push.taskid,
        content[:LONGEST_CONTENT],
        storable(time, _TIME),
        _bounded_extra(push.extra),
        digest,
    )


def _bounded_extra(extra: str | None) -> str | None:
    return extra if extra is None or len(extra) <= LONGEST_EXTRA else json.dumps({"…": len(extra)}, ensure_ascii=False)


def _order(row: Row) -> tuple[Any, ...]:
    return row[2], row[1], row[-1]


def _quarantine(ledger: Ledger, connection: Connection, unreadable: Sequence[Unreadable]) -> None:
    table = quarantine_table
    rows = [
        {
            "account": each.account,
            "interface": each.interface,
            "reason": each.reason[:200],
            "body": storable(each.body.decode("utf-8", "backslashreplace"), LONGEST_BODY),
        }
        for each in unreadable
    ]
    connection.execute(insert(table).values(received_at=ledger.clock), rows)
    newest = connection.execute(select(func.max(table.c.id))).scalar() or 0
    connection.execute(delete(table).where(table.c.id <= newest - QUARANTINED))


def _insert(ledger: Ledger, connection: Connection, statements: dict[str, str], rows: Sequence[Row]) -> int:
    """Insert what is not there yet, in as few steps as the database allows.

    :returns: how many were new.
    """
    statement = statements[ledger.kind]
    if ledger.kind == "sqlite":
        # One step for all: in between, the thread would give Python away and wait to get it back.
        parameters: Any = (json.dumps(rows),)
    elif ledger.kind == "postgresql":
        parameters = tuple(_joined(column) for column in zip(*rows, strict=True))
    else:
        parameters = list(rows)
    return connection.exec_driver_sql(statement, parameters).rowcount


def _joined(values: Sequence[str | None]) -> str:
    # None of the values holds one of these two; a list would be taken apart by the driver, which takes far longer.
    return "\x1f".join(["\x1e" if each is None else each for each in values])


def _statements(table: str, names: Sequence[str]) -> dict[str, str]:
    into = f"INTO {table} ({', '.join(names)}, received_at)"
    extracts = ", ".join(f"json_extract(value, '$[{at}]')" for at in range(len(names)))
    arrays = ", ".join(r"string_to_array(%s, E'\x1f', E'\x1e')" for _ in names)
    # A lone empty text is an array of nothing.
    columns = ", ".join(name if name in _NULLABLE else f"coalesce({name}, '')" for name in names)
    marks = ", ".join("%s" for _ in names)
    now = "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'"
    return {
        "sqlite": f"INSERT OR IGNORE {into} SELECT {extracts}, {now} FROM json_each(?)",  # noqa: S608 - all of it stands in this module
        "postgresql": f"INSERT {into} SELECT {columns}, clock_timestamp() AT TIME ZONE 'UTC' "  # noqa: S608
        f"FROM unnest({arrays}) AS pushed ({', '.join(names)}) ON CONFLICT DO NOTHING",
        "mysql": f"INSERT IGNORE {into} VALUES ({marks}, UTC_TIMESTAMP(6))",  # noqa: S608
    }


_NULLABLE = ("account", "extra")
_RECEIPTS = _statements(
    "sms_receipt", ("account", "mobile", "taskid", "status", "code", "receivetime", "extra", "digest")
)
_REPLIES = _statements("sms_reply", ("account", "mobile", "taskid", "content", "receivetime", "extra", "digest"))


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A push that could not be read.

    :param received_at: aware.
    """

    id: int
    account: str | None
    interface: str
    reason: str
    body: str = field(repr=False)
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Count:
    """How many receipts, or replies, are kept.

    :param by_matching: by what became of them, see `Matching`; `new` are those not looked at.
    :param is_all: False: there may be older ones, which are not counted.
    :param newest_at: when the newest was heard, aware; None if there is none.
    """

    by_matching: dict[str, int]
    is_all: bool
    newest_at: datetime | None


@dataclass(frozen=True, slots=True)
class Stock:
    """What has been pushed so far, as far as it is still kept.

    :param unreadable: how many could not be read, those that are not kept any more included.
    :param newest: of those, the newest.
    """

    receiver_at: datetime | None
    first_push_at: datetime | None
    receipts: Count
    replies: Count
    unreadable: int
    newest: list[Quarantined]


def take_stock(ledger: Ledger, most: int) -> Stock:
    """Count what has been pushed.

    :param most: how many of those that could not be read to show.
    """
    table = quarantine_table
    with ledger.reading() as connection:
        row = connection.execute(select(ledger_table.c.receiver_at, ledger_table.c.first_push_at)).one()
        newest = connection.execute(select(table).order_by(table.c.id.desc()).limit(most)).all()
        last = connection.execute(select(func.max(table.c.id))).scalar() or 0
        receipts, replies = _count(connection, receipt_table), _count(connection, reply_table)
    return Stock(
        receiver_at=aware(row.receiver_at),
        first_push_at=aware(row.first_push_at),
        receipts=receipts,
        replies=replies,
        unreadable=last,
        newest=[
            Quarantined(each.id, each.account, each.interface, each.reason, each.body or "", aware(each.received_at))
            for each in newest
        ],
    )


def _count(connection: Connection, table: Table) -> Count:
    newest_first = table.c.id.desc()
    newest = select(table.c.matching).order_by(newest_first).limit(COUNTED).subquery()
    rows = connection.execute(select(newest.c.matching, func.count()).group_by(newest.c.matching)).all()
    by_matching = {matching or "new": count for matching, count in rows}
    heard = connection.execute(select(table.c.received_at).order_by(newest_first).limit(1)).scalar()
    return Count(by_matching, sum(by_matching.values()) < COUNTED, aware(heard))
