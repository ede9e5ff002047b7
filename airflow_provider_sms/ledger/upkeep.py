"""The ledger looked after: how much it holds, and phones and texts that are kept no longer. Knows no Airflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, exists, func, or_, select, text, update

from airflow_provider_sms.ledger import alarm_upkeep, frequency
from airflow_provider_sms.ledger.database import Ledger, aware, naive
from airflow_provider_sms.ledger.owners import own_name
from airflow_provider_sms.ledger.ownership import UNOWNED, hold
from airflow_provider_sms.ledger.parts import in_parts
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.recipients import remove_recipients
from airflow_provider_sms.ledger.schema import (
    BatchState,
    batch_table,
    campaign_table,
    delivery_table,
    ledger_table,
    once_table,
    quarantine_table,
    receipt_table,
    recipient_table,
    reply_claim_table,
    reply_table,
)
from airflow_provider_sms.ledger.settling import OWNER_GONE
from airflow_provider_sms.ledger.texts import remove_texts

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.engine import Connection

PROGRESS_INTERVAL = 10.0
_IDS_AT_ONCE = 50_000
_BATCHES_AT_ONCE = 500
_DELIVERIES_AT_ONCE = 50_000
_COUNTED = 100_000
_FIELDS = {receipt_table.name: "receipts", reply_table.name: "replies"}


@dataclass(frozen=True, slots=True)
class Count:
    """A number of rows; of many it is an estimate, as to count them takes longer than anybody wants to wait."""

    rows: int
    is_about: bool = False

    def __add__(self, other: Count) -> Count:
        return Count(self.rows + other.rows, self.is_about or other.is_about)

    def __str__(self) -> str:
        return f"about {self.rows:,}" if self.is_about else str(self.rows)


@dataclass(frozen=True, slots=True)
class Stock:
    """How much a ledger holds.

    :param created_at: when it was made, aware.
    :param purged: of the campaigns, those whose phones and texts were removed.
    :param batches: how many, by state.
    :param not_looked_at: pushes whose meaning nobody has found out yet: receipts and replies.
    :param unowned: pushes whose taskId no batch has.
    """

    created_at: datetime
    campaigns: int
    purged: int
    batches: dict[str, int]
    receipts: Count
    replies: Count
    not_looked_at: Count
    unowned: Count


def take_stock(ledger: Ledger) -> Stock:
    """Count what a ledger holds."""
    table, batch = campaign_table, batch_table
    with ledger.reading() as connection:
        created_at = connection.execute(select(ledger_table.c.created_at)).scalar_one()
        query = select(func.count(), func.count(table.c.purged_at)).where(table.c.key_hash.is_not(None))
        campaigns, purged = connection.execute(query).one()
        states = select(batch.c.state, func.count()).group_by(batch.c.state).order_by(batch.c.state)
        batches = {row[0]: row[1] for row in connection.execute(states)}
        receipts, replies = (_count(ledger, connection, each) for each in (receipt_table, reply_table))
        pushes = (receipt_table, reply_table)
        new, unowned = (
            [_count_some(connection, select(each.c.id).where(each.c.matching.is_(None))) for each in pushes],
            [_count_some(connection, select(each.c.id).where(each.c.matching == UNOWNED)) for each in pushes],
        )
    return Stock(
        aware(created_at), campaigns, purged, batches, receipts, replies, new[0] + new[1], unowned[0] + unowned[1]
    )


def _count(ledger: Ledger, connection: Connection, table: Table) -> Count:
    """Count what was pushed: the few that a new ledger has exactly, millions by what the database believes."""
    few = _count_some(connection, select(table.c.id))
    if not few.is_about:
        return few
    match ledger.kind:
        case "postgresql":
            query = text("SELECT reltuples FROM pg_class WHERE oid = CAST(:name AS regclass)")
        case "mysql":
            query = text(
                "SELECT table_rows FROM information_schema.tables "
                "WHERE table_schema = DATABASE() AND table_name = :name"
            )
        case _:
            # No id is left out, and what is removed are the oldest.
            query = text(f"SELECT (SELECT max(id) FROM {table.name}) - (SELECT min(id) FROM {table.name}) + 1")  # noqa: S608
            return Count(int(connection.execute(query).scalar_one()), is_about=True)
    believed = connection.execute(query, {"name": table.name}).scalar()
    return Count(max(int(believed or 0), few.rows), is_about=True)


def _count_some(connection: Connection, query: Any) -> Count:
    """Count rows, up to so many."""
    rows = int(connection.execute(select(func.count()).select_from(query.limit(_COUNTED).subquery())).scalar_one())
    return Count(rows, is_about=rows >= _COUNTED)


def try_writing(ledger: Ledger) -> None:
    """See that the ledger can be written to, and change nothing.

    :raises LedgerError: it can not.
    """
    with ledger.writing() as connection:
        connection.execute(update(ledger_table).values(created_at=ledger_table.c.created_at))


@dataclass(slots=True)
class Removed:
    """What is removed, or would be.

    :param campaigns: those that lose their phones and their text; their batches and counts stay.
    :param phones: items that were handed in.
    :param receipts: those that came before the day.
    :param drafts: half plans that were given up.
    :param kept: campaigns that are as old, and still being sent.
    :param alarms: those that lose their text and their phones.
    :param untold: of them, those that nobody is known to have been told of; one counts for each of its phones.
    """

    campaigns: int = 0
    phones: int = 0
    receipts: int = 0
    replies: int = 0
    drafts: int = 0
    kept: int = 0
    alarms: int = 0
    untold: int = 0


def is_due(ledger: Ledger, before: datetime) -> bool:
    """Tell whether there is any campaign or alarm to purge.

    :param before: aware.
    """
    with ledger.reading() as connection:
        return bool(_ended(ledger, connection, before) or alarm_upkeep.count_old(connection, before).alarms)


def count_purgeable(ledger: Ledger, before: datetime) -> Removed:
    """Count what `purge` would remove, and remove nothing.

    :param before: aware.
    """
    found = Removed()
    with ledger.reading() as connection:
        ended = _ended(ledger, connection, before)
        found.campaigns = len(ended)
        found.kept = _count_kept(connection, before) - len(ended)
        for campaign_id in (*ended, *_half_purged(connection)):
            found.phones += _count_phones(connection, campaign_id)
        for table in (receipt_table, reply_table):
            query = select(func.count()).where(table.c.received_at < naive(before))
            setattr(found, _FIELDS[table.name], connection.execute(query).scalar_one())
        found.drafts = connection.execute(select(func.count()).where(_is_abandoned(ledger))).scalar_one()
        old = alarm_upkeep.count_old(connection, before)
        found.alarms, found.untold = old.alarms, old.untold
    return found


def purge(
    ledger: Ledger,
    before: datetime,
    tell: Callable[[Removed], None],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Removed:
    """Remove the phones and texts of campaigns that ended before a day, and what was heard before it.

    Batches and counts stay, and a tombstone: a later try of such a campaign is refused. When this is killed, the
    next one carries on.

    :param before: aware.
    :param tell: called at a bounded pace with what is removed so far.
    """
    removed = Removed()
    said = clock()

    def progress() -> None:
        nonlocal said
        if clock() - said >= PROGRESS_INTERVAL:
            said = clock()
            tell(removed)

    with ledger.holding():
        if ledger.kind == "sqlite":
            # What is deleted is overwritten, and does not stay behind in the file.
            with ledger.reading() as connection:
                connection.exec_driver_sql("PRAGMA secure_delete=ON")
        removed.drafts = Plans(ledger, own_name()).discard_drafts()
        with ledger.reading() as connection:
            ended = _ended(ledger, connection, before)
            removed.kept = _count_kept(connection, before) - len(ended)
        # All tombstones before any phone: one instance of a mapped task tells the others whom it has texted.
        for campaign_id in ended:
            removed.campaigns += _bury(ledger, campaign_id, before)
            progress()
        with ledger.reading() as connection:
            buried = _half_purged(connection)
        for campaign_id in buried:
            removed.phones += _remove_phones(ledger, campaign_id)
            progress()
        for table in (receipt_table, reply_table):
            for count in _removed_heard(ledger, table, before):
                setattr(removed, _FIELDS[table.name], getattr(removed, _FIELDS[table.name]) + count)
                progress()
        _remove_claims(ledger)
        old = alarm_upkeep.purge(ledger, before)
        removed.alarms, removed.untold = old.alarms, old.untold
        with ledger.writing() as connection:
            connection.execute(delete(quarantine_table).where(quarantine_table.c.received_at < naive(before)))
    return removed


def _count_kept(connection: Connection, before: datetime) -> int:
    query = select(func.count()).where(_is_old(before))
    return int(connection.execute(query).scalar_one())


def _is_old(before: datetime) -> Any:
    """Planned before that time, and not purged yet."""
    table = campaign_table
    return and_(table.c.key_hash.is_not(None), table.c.purged_at.is_(None), table.c.planned_at < naive(before))


def _has_ended(ledger: Ledger, before: datetime) -> Any:
    """Nothing of it is under way, may still go out, or has been settled since that time."""
    table, batch = campaign_table, batch_table
    of_it = batch.c.campaign_id == table.c.id
    is_sent = exists().where(of_it, batch.c.state == BatchState.SENDING, batch.c.lease_until > ledger.clock)
    is_planned = exists().where(of_it, batch.c.state == BatchState.PLANNED)
    is_fresh = exists().where(of_it, batch.c.settled_at >= naive(before))
    return and_(
        _is_old(before),
        or_(table.c.send_time.is_(None), table.c.send_time < naive(before)),
        or_(table.c.valid_until.is_(None), table.c.valid_until <= ledger.clock, ~is_planned),
        ~is_sent,
        ~is_fresh,
    )


def _is_abandoned(ledger: Ledger) -> Any:
    """A half plan that nobody stores any more."""
    table = campaign_table
    return and_(table.c.key_hash.is_(None), table.c.lease_until <= ledger.clock)


def _ended(ledger: Ledger, connection: Connection, before: datetime) -> list[int]:
    """Find campaigns that may be purged; of a mapped task all instances or none, as they share whom they texted."""
    table = campaign_table
    query = select(table.c.id, table.c.once_scope).where(_has_ended(ledger, before)).order_by(table.c.id)
    ended = connection.execute(query).all()
    if all(row.once_scope is None for row in ended):
        return [row.id for row in ended]
    going_on = select(table.c.once_scope).where(
        table.c.purged_at.is_(None),
        table.c.once_scope.is_not(None),
        table.c.id.not_in(select(query.subquery().c.id)),
        ~_is_abandoned(ledger),
    )
    scopes = set(connection.execute(going_on).scalars())
    return [row.id for row in ended if row.once_scope not in scopes]


def _half_purged(connection: Connection) -> list[int]:
    table, people = campaign_table, recipient_table
    has_phones = exists().where(people.c.campaign_id == table.c.id)
    query = select(table.c.id).where(table.c.purged_at.is_not(None), has_phones).order_by(table.c.id)
    return list(connection.execute(query).scalars())


def _count_phones(connection: Connection, campaign_id: int) -> int:
    query = select(func.count()).where(recipient_table.c.campaign_id == campaign_id)
    return int(connection.execute(query).scalar_one())


def _bury(ledger: Ledger, campaign_id: int, before: datetime) -> int:
    """Refuse every later try of a campaign, and let what was never settled end.

    :returns: 1, or 0 if somebody has begun to send it in the meantime.
    """
    table, batch = campaign_table, batch_table
    of_it = batch.c.campaign_id == campaign_id
    with ledger.writing() as connection:
        query = select(table.c.id).where(table.c.id == campaign_id, _has_ended(ledger, before))
        if connection.execute(query.with_for_update()).first() is None:
            return 0
        connection.execute(
            update(table)
            .where(table.c.id == campaign_id)
            # The fingerprint of a phone or two can be guessed back.
            .values(purged_at=ledger.clock, content=None, fingerprint=None)
        )
        connection.execute(
            update(batch)
            .where(of_it, batch.c.state == BatchState.PLANNED)
            .values(state=BatchState.EXPIRED, settled_at=ledger.clock, message="Its phones were removed (purge).")
        )
        connection.execute(
            update(batch)
            .where(of_it, batch.c.state == BatchState.SENDING, batch.c.lease_until <= ledger.clock)
            .values(
                state=BatchState.IN_DOUBT,
                settled_at=ledger.clock,
                refusal=OWNER_GONE,
                message="The process that was sending it ended without a word.",
            )
        )
    return 1


def _remove_phones(ledger: Ledger, campaign_id: int) -> int:
    """Remove a purged campaign's phones; the recipients last, as they tell the next purge that this one was killed."""
    with ledger.reading() as connection:
        count = _count_phones(connection, campaign_id)
        numbers = select(batch_table.c.id).where(batch_table.c.campaign_id == campaign_id)
        ids = list(connection.execute(numbers).scalars())
    for part in in_parts(ids, _BATCHES_AT_ONCE):
        with ledger.writing() as connection:
            connection.execute(delete(once_table).where(once_table.c.batch_id.in_(part)))
            frequency.forget_all(connection, part)
    _remove_deliveries(ledger, campaign_id)
    remove_texts(ledger, campaign_id)
    remove_recipients(ledger, campaign_id)
    return count


def _remove_deliveries(ledger: Ledger, campaign_id: int) -> None:
    """Remove what receipts say of each phone; their counts stay."""
    table = delivery_table
    with ledger.reading() as connection:
        query = select(func.max(table.c.position)).where(table.c.campaign_id == campaign_id)
        last = connection.execute(query).scalar() or 0
    for first in range(1, last + 1, _DELIVERIES_AT_ONCE):
        some = table.c.position.between(first, first + _DELIVERIES_AT_ONCE - 1)
        with ledger.writing() as connection:
            # A look that is under way may just write some.
            hold(ledger, connection)
            connection.execute(delete(table).where(table.c.campaign_id == campaign_id, some))


def _remove_claims(ledger: Ledger) -> None:
    """Remove claims of replies that are kept no longer; others say who has handled a reply that is still there."""
    table = reply_claim_table
    is_there = exists().where(reply_table.c.id == table.c.reply_id)
    with ledger.writing() as connection:
        connection.execute(delete(table).where(~is_there))


def _removed_heard(ledger: Ledger, table: Table, before: datetime) -> Iterator[int]:
    """Remove old pushes, in transactions that keep nobody waiting."""
    with ledger.reading() as connection:
        query = select(func.min(table.c.id), func.max(table.c.id)).where(table.c.received_at < naive(before))
        lowest, highest = connection.execute(query).one()
    for first in range(lowest or 1, (highest or 0) + 1, _IDS_AT_ONCE):
        old = and_(table.c.id.between(first, first + _IDS_AT_ONCE - 1), table.c.received_at < naive(before))
        with ledger.writing() as connection:
            count = connection.execute(delete(table).where(old)).rowcount
        yield count
