"""What receipts and replies say about batches in doubt: a taskId that nobody owns may be theirs.

Silence proves nothing, and a wrong guess would hide that phones were never texted: everything has to fit before a
taskId is adopted; what does not is shown to a person.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select, update

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.matching import settle
from airflow_provider_sms.ledger.ownership import UNOWNED, bring_in
from airflow_provider_sms.ledger.parts import in_parts
from airflow_provider_sms.ledger.phonebook import Batch, Phonebook
from airflow_provider_sms.ledger.schema import (
    BatchState,
    batch_table,
    receipt_table,
    recipient_table,
    reply_table,
)
from airflow_provider_sms.observing import NO_OBSERVER, Observer

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row

ADOPTED = "adopted"
SETTLED_LATELY = timedelta(minutes=10)
MATCHING_SECONDS = 30.0
_BATCHES_AT_ONCE = 50
_PHONES_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Found:
    """A taskId that a push named, and the batch in doubt that it may belong to.

    :param pushes: how many pushes named it.
    :param objection: why it is not adopted; empty if nothing speaks against it.
    :param phones: how many the batch holds.
    """

    batch_id: int
    number: int
    taskid: str
    pushes: int
    objection: str = ""
    phones: int = 0


@dataclass(frozen=True, slots=True)
class _Doubtful:
    """A batch in doubt."""

    row: Row[Any]
    phones: Batch

    def is_about(self, push: Row[Any], default_account: str | None) -> bool:
        """Whether a push may be about it, as far as that one tells."""
        # An address without an account id is that of `sms_default`.
        account = push.account or default_account
        return (
            push.received_at >= self.row.claimed_at
            and account in (None, self.row.account)
            and self.phones.find(push.mobile) is not None
        )


def look(ledger: Ledger, campaign_id: int, default_account: str | None = None) -> list[Found]:
    """Look for taskIds that nobody owns among the pushes about phones of a campaign's batches in doubt.

    :param default_account: the App ID of `sms_default`, which addresses without an account id stand for; None if it
        is not known: a push to such an address is shown then, and proves nothing.
    """
    with ledger.reading() as connection:
        return _look(ledger, connection, campaign_id, default_account)


def adopt(
    ledger: Ledger, campaign_id: int, default_account: str | None = None, observer: Observer = NO_OBSERVER
) -> list[Found]:
    """Settle batches in doubt by what pushes say, where only one explanation is left.

    Only for an account that nothing but this ledger sends with: another sender's pushes would look the same.

    :param default_account: see `look`.
    :param observer: is told what was adopted, and what receipts say.
    :returns: what was adopted.
    """
    # That nobody owns it is known of a push once it was looked at. Replies wait for those who know what opts out.
    settle(ledger, None, MATCHING_SECONDS, observer)
    table = batch_table
    adopted = []
    with ledger.writing() as connection:
        for found in _look(ledger, connection, campaign_id, default_account):
            if found.objection:
                continue
            done = connection.execute(
                update(table)
                .where(table.c.id == found.batch_id, table.c.state == BatchState.IN_DOUBT)
                .values(
                    state=BatchState.ACCEPTED,
                    taskid=found.taskid,
                    accepted=table.c.phones,
                    settled_at=ledger.clock,
                    evidence=ADOPTED,
                )
            )
            if done.rowcount:
                bring_in(connection, found.taskid)
                adopted.append(found)
    if adopted:
        observer.accepted(sum(found.phones for found in adopted))
        settle(ledger, None, MATCHING_SECONDS, observer)
    return adopted


def _look(ledger: Ledger, connection: Connection, campaign_id: int, default_account: str | None) -> list[Found]:
    table = batch_table
    query = select(table).where(table.c.campaign_id == campaign_id, table.c.state == BatchState.IN_DOUBT)
    rows = connection.execute(query.order_by(table.c.number)).all()
    found = []
    for some in in_parts(rows, _BATCHES_AT_ONCE):
        doubtful = _with_phones(ledger, connection, some)
        for batch, taskid, pushes in _named(connection, doubtful, default_account):
            objection = _objection(ledger, connection, batch, taskid, default_account)
            found.append(Found(batch.row.id, batch.row.number, taskid, pushes, objection, batch.row.phones))
    # Two taskIds for one batch, or one for two: each alone may be right, together they are not.
    for each in (lambda one: one.batch_id, lambda one: one.taskid):
        seen: dict[Any, list[Found]] = defaultdict(list)
        for one in found:
            seen[each(one)].append(one)
        found = [
            one
            if len(seen[each(one)]) == 1 or one.objection
            else replace(one, objection="more than one explanation fits")
            for one in found
        ]
    return found


def _with_phones(ledger: Ledger, connection: Connection, rows: Sequence[Row[Any]]) -> list[_Doubtful]:
    phonebook = Phonebook(sum(row.phones for row in rows) + 1)
    phonebook.read(ledger.kind, connection, [(row.id, row.attempt) for row in rows])
    phones = {row.id: phonebook.get((row.id, row.attempt)) for row in rows}
    return [_Doubtful(row, found) for row in rows if (found := phones[row.id]) is not None]


def _named(
    connection: Connection, doubtful: Sequence[_Doubtful], default_account: str | None
) -> Iterator[tuple[_Doubtful, str, int]]:
    """Which taskIds that belong to no batch are named by pushes that came after a batch's claim, with its phones.

    :returns: batch, taskId and how many pushes.
    """
    pushes: dict[tuple[int, str], int] = defaultdict(int)
    if not doubtful:
        return
    for push in _about(connection, doubtful):
        for batch in doubtful:
            if batch.is_about(push, default_account):
                pushes[batch.row.id, push.taskid] += 1
    taken = _taken(connection, {taskid for _, taskid in pushes})
    batches = {batch.row.id: batch for batch in doubtful}
    for (batch_id, taskid), count in pushes.items():
        if taskid and taskid not in taken:
            yield batches[batch_id], taskid, count


def _about(connection: Connection, doubtful: Sequence[_Doubtful]) -> Iterator[Any]:
    """The pushes that nobody owns since the first of the claims, with a phone of the batches, or with stars."""
    people = recipient_table
    since = min(batch.row.claimed_at for batch in doubtful)
    spans = [people.c.position.between(batch.row.first_position, batch.row.last_position) for batch in doubtful]
    phones = select(people.c.phone).where(
        people.c.campaign_id == doubtful[0].row.campaign_id, or_(*spans), people.c.reason.is_(None)
    )
    for push in (receipt_table, reply_table):
        is_unowned = push.c.matching == UNOWNED
        if push is reply_table:
            is_unowned = or_(is_unowned, push.c.matching.is_(None))
        query = select(push.c.taskid, push.c.mobile, push.c.account, push.c.received_at)
        query = query.where(is_unowned, push.c.received_at >= since)
        # One question each: together they would be asked of every push, one by one.
        for has_its_phone in (push.c.mobile.in_(phones), push.c.mobile.like("%*%")):
            yield from connection.execute(query.where(has_its_phone))


def _taken(connection: Connection, taskids: set[str]) -> set[str]:
    """Which of these taskIds are a batch's, or were noted beside one: a person has taken them back, for example."""
    table = batch_table
    taken: set[str] = set()
    if not taskids:
        return taken
    for some in in_parts(sorted(taskids), _PHONES_AT_ONCE):
        taken.update(connection.execute(select(table.c.taskid).where(table.c.taskid.in_(some))).scalars())
    noted = select(table.c.other_taskids).where(table.c.other_taskids.is_not(None))
    for others in connection.execute(noted).scalars():
        taken.update(others.split())
    return taken


def _objection(
    ledger: Ledger, connection: Connection, batch: _Doubtful, taskid: str, default_account: str | None
) -> str:
    """Why a taskId that nobody owns is not taken for this batch's; empty if nothing speaks against it."""
    named: set[str] = set()
    tells_no_account = False
    for push in (receipt_table, reply_table):
        query = select(push.c.mobile, push.c.received_at, push.c.account).where(push.c.taskid == taskid)
        for row in connection.execute(query):
            phone = batch.phones.phone(row.mobile)
            if phone is None:
                return "a push of it names a phone outside the batch"
            if row.received_at < batch.row.claimed_at:
                return "a push of it came before the batch was sent"
            tells_no_account = tells_no_account or row.account is None
            named.add(phone)
    if tells_no_account and default_account is None:
        return (
            "its pushes came to the address without an account id, which is that of sms_default, and who that is is "
            "not known here; `airflow-sms push-url --conn-id …` prints the address that tells the account"
        )
    return _rival(ledger, connection, batch.row, named)


def _rival(ledger: Ledger, connection: Connection, batch: Row[Any], named: set[str]) -> str:
    """Another batch of the account that holds one of the phones and may be what the push is about."""
    table, people = batch_table, recipient_table
    lately: datetime = ledger.now(connection) - SETTLED_LATELY
    others = select(table).where(table.c.account == batch.account, table.c.id != batch.id)
    # Each by its own index.
    open_ones = connection.execute(others.where(table.c.state.in_((BatchState.IN_DOUBT, BatchState.SENDING)))).all()
    settled = connection.execute(others.where(table.c.settled_at >= lately, table.c.state != BatchState.PLANNED)).all()
    campaigns: dict[int, list[Row[Any]]] = defaultdict(list)
    for other in {each.id: each for each in (*open_ones, *settled)}.values():
        campaigns[other.campaign_id].append(other)
    for campaign_id, of_it in campaigns.items():
        of_it.sort(key=lambda other: other.first_position)
        firsts = [other.first_position for other in of_it]
        for first, last in _spans(of_it):
            for some in in_parts(sorted(named), _PHONES_AT_ONCE):
                in_span = and_(people.c.campaign_id == campaign_id, people.c.position.between(first, last))
                query = select(people.c.position).where(in_span, people.c.phone.in_(some), people.c.reason.is_(None))
                for position in connection.execute(query).scalars():
                    other = of_it[bisect_right(firsts, position) - 1]
                    if position <= other.last_position:
                        return f"another batch that is {other.state.replace('_', ' ')} holds one of the phones"
    return ""


def _spans(batches: Sequence[Row[Any]]) -> Iterator[tuple[int, int]]:
    """The positions of a campaign's batches, those of neighbours in one go."""
    first, last = batches[0].first_position, batches[0].last_position
    for batch in batches[1:]:
        # Between neighbours stands at most what was left out.
        if batch.first_position - last > _PHONES_AT_ONCE:
            yield first, last
            first = batch.first_position
        last = batch.last_position
    yield first, last
