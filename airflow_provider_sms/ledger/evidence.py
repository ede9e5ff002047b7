"""What receipts and replies say about batches in doubt: a taskId that nobody owns may be theirs.

Silence proves nothing, and a wrong guess would hide that phones were never texted: everything has to fit before a
taskId is adopted; what does not is shown to a person.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select, update

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.schema import (
    BatchState,
    batch_table,
    receipt_table,
    recipient_table,
    reply_table,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row

ADOPTED = "adopted"
SETTLED_LATELY = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Found:
    """A taskId that a push named, and the batch in doubt that it may belong to.

    :param pushes: how many pushes named it.
    :param objection: why it is not adopted; empty if nothing speaks against it.
    """

    batch_id: int
    number: int
    taskid: str
    pushes: int
    objection: str = ""


def look(ledger: Ledger, campaign_id: int) -> list[Found]:
    """Look for taskIds that nobody owns among the pushes about phones of a campaign's batches in doubt."""
    with ledger.reading() as connection:
        return _look(ledger, connection, campaign_id)


def adopt(ledger: Ledger, campaign_id: int) -> list[Found]:
    """Settle batches in doubt by what pushes say, where only one explanation is left.

    Only for an account that nothing but this ledger sends with: another sender's pushes would look the same.

    :returns: what was adopted.
    """
    table = batch_table
    adopted = []
    with ledger.writing() as connection:
        for found in _look(ledger, connection, campaign_id):
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
                adopted.append(found)
    return adopted


def _look(ledger: Ledger, connection: Connection, campaign_id: int) -> list[Found]:
    table = batch_table
    doubtful = connection.execute(
        select(table).where(table.c.campaign_id == campaign_id, table.c.state == BatchState.IN_DOUBT)
    ).all()
    found = []
    for batch in doubtful:
        phones = _phones(connection, batch)
        for taskid, mobiles in _unowned(connection, batch, phones).items():
            objection = _objection(ledger, connection, batch, phones, taskid)
            found.append(Found(batch.id, batch.number, taskid, len(mobiles), objection))
    # Two taskIds for one batch, or one for two: each alone may be right, together they are not.
    for each in (lambda one: one.batch_id, lambda one: one.taskid):
        seen: dict[Any, list[Found]] = defaultdict(list)
        for one in found:
            seen[each(one)].append(one)
        found = [
            one
            if len(seen[each(one)]) == 1 or one.objection
            else Found(one.batch_id, one.number, one.taskid, one.pushes, "more than one explanation fits")
            for one in found
        ]
    return found


def _phones(connection: Connection, batch: Row[Any]) -> set[str]:
    people = recipient_table
    query = select(people.c.phone).where(_of(batch), people.c.reason.is_(None))
    return set(connection.execute(query).scalars())


def _of(batch: Row[Any]) -> Any:
    people = recipient_table
    return and_(
        people.c.campaign_id == batch.campaign_id,
        people.c.position.between(batch.first_position, batch.last_position),
    )


def _unowned(connection: Connection, batch: Row[Any], phones: set[str]) -> dict[str, list[str]]:
    """TaskIds of pushes that came after the claim, name one of the phones, and belong to no batch."""
    mobiles: dict[str, list[str]] = defaultdict(list)
    for push in (receipt_table, reply_table):
        query = select(push.c.taskid, push.c.mobile).where(
            push.c.received_at >= batch.claimed_at,
            or_(push.c.account == batch.account, push.c.account.is_(None)),
            ~select(batch_table.c.id).where(batch_table.c.taskid == push.c.taskid).exists(),
        )
        for taskid, mobile in connection.execute(query):
            if fits(mobile, phones):
                mobiles[taskid].append(mobile)
    noted = {each for others in connection.execute(_NOTED).scalars() for each in others.split()}
    return {taskid: named for taskid, named in mobiles.items() if taskid and taskid not in noted}


_NOTED = select(batch_table.c.other_taskids).where(batch_table.c.other_taskids.is_not(None))


def fits(mobile: str, phones: set[str]) -> str | None:
    """Find the phone that a push means, which may show some of its digits as `*`.

    :returns: None if none fits, or more than one does.
    """
    if mobile in phones:
        return mobile
    if "*" not in mobile:
        return None
    visible = [(at, digit) for at, digit in enumerate(mobile) if digit != "*"]
    candidates = [
        phone for phone in phones if len(phone) == len(mobile) and all(phone[at] == digit for at, digit in visible)
    ]
    return candidates[0] if len(candidates) == 1 else None


def _objection(ledger: Ledger, connection: Connection, batch: Row[Any], phones: set[str], taskid: str) -> str:
    """Why a taskId that nobody owns is not taken for this batch's; empty if nothing speaks against it."""
    named: set[str] = set()
    for push in (receipt_table, reply_table):
        query = select(push.c.mobile, push.c.received_at).where(push.c.taskid == taskid)
        for mobile, received_at in connection.execute(query):
            phone = fits(mobile, phones)
            if phone is None:
                return "a push of it names a phone outside the batch"
            if received_at < batch.claimed_at:
                return "a push of it came before the batch was sent"
            named.add(phone)
    return _rival(ledger, connection, batch, named)


def _rival(ledger: Ledger, connection: Connection, batch: Row[Any], named: set[str]) -> str:
    """Another batch of the account that holds one of the phones and may be what the push is about."""
    table, people = batch_table, recipient_table
    lately: datetime = ledger.now(connection) - SETTLED_LATELY
    others = connection.execute(
        select(table).where(
            table.c.account == batch.account,
            table.c.id != batch.id,
            or_(
                table.c.state.in_((BatchState.IN_DOUBT, BatchState.SENDING)),
                and_(table.c.state != BatchState.PLANNED, table.c.settled_at >= lately),
            ),
        )
    ).all()
    for other in others:
        query = select(people.c.phone).where(_of(other), people.c.phone.in_(list(named)), people.c.reason.is_(None))
        if connection.execute(query).first() is not None:
            return f"another batch that is {other.state.replace('_', ' ')} holds one of the phones"
    return ""
