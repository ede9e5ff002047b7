"""What people find out about batches in doubt: settled by hand, and taken back. Knows no wire and no Airflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, func, select, update

from airflow_provider_sms.ledger import frequency, owners, ownership
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerUsageError
from airflow_provider_sms.ledger.evidence import ADOPTED
from airflow_provider_sms.ledger.owners import is_provably_dead
from airflow_provider_sms.ledger.schema import BatchState, batch_table, campaign_table, once_table
from airflow_provider_sms.ledger.settling import OWNER_GONE
from airflow_provider_sms.observing import NO_OBSERVER, Observer

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row

RESOLVED = "resolved"
_LONGEST_TASK_ID = 100


def resolve_as_sent(
    ledger: Ledger, campaign_id: int, number: int, taskid: str | None, observer: Observer = NO_OBSERVER
) -> None:
    """Settle a batch in doubt: the platform has taken it.

    :param number: the batch's.
    :param taskid: the platform's id for it; None if nobody knows.
    :param observer: is told that it was accepted.
    :raises LedgerUsageError: the batch is not in doubt, or the taskId can not be its own.
    """
    if taskid is not None and (not taskid or len(taskid) > _LONGEST_TASK_ID or len(taskid.split()) != 1):
        raise LedgerUsageError(f"taskId: write it as the platform shows it: up to {_LONGEST_TASK_ID} signs, no blanks.")
    table = batch_table
    with ledger.writing() as connection:
        row = _in_doubt(ledger, connection, campaign_id, number)
        others = row.other_taskids
        if taskid is not None:
            _check_nobody_else_has(connection, row, taskid)
            others = " ".join(each for each in (others or "").split() if each != taskid) or None
        _change(
            connection,
            row,
            state=BatchState.ACCEPTED,
            taskid=taskid,
            other_taskids=others,
            accepted=table.c.phones,
            settled_at=ledger.clock,
            evidence=RESOLVED,
            message="Settled by hand: sent.",
        )
        if taskid is not None:
            ownership.bring_in(connection, taskid)
    observer.accepted(row.phones)


def resolve_as_not_sent(ledger: Ledger, campaign_id: int, number: int) -> str:
    """Settle a batch in doubt: the platform has not taken it. The next try sends it.

    :returns: what to see to before that, if the process that was sending it may not have ended; or empty.
    :raises LedgerUsageError: the batch is not in doubt, its phones were removed, or its process only stands still.
    """
    with ledger.writing() as connection:
        row = _in_doubt(ledger, connection, campaign_id, number)
        caution = _caution(row)
        purged = select(campaign_table.c.purged_at).where(campaign_table.c.id == campaign_id)
        if connection.execute(purged).scalar() is not None:
            raise LedgerUsageError(f"Batch {number}: its phones were removed, so it can not be sent any more.")
        _change(
            connection,
            row,
            state=BatchState.PLANNED,
            taskid=None,
            accepted=0,
            settled_at=None,
            refusal=None,
            evidence=RESOLVED,
            message="Settled by hand: not sent.",
        )
        # Another instance of a mapped task may text these phones now.
        connection.execute(delete(once_table).where(once_table.c.batch_id == row.id))
        frequency.forget(connection, [row.id])
    return caution


def _caution(row: Row[Any]) -> str:
    """What there is to say about the process that was sending a batch, if that has not settled it by itself.

    :raises LedgerUsageError: it stands still. What it has begun to send may go out when it goes on.
    """
    if row.state == BatchState.IN_DOUBT and row.refusal != OWNER_GONE:
        return ""
    who = owners.shown(row.owner)
    match owners.look_at(row.owner):
        case owners.Life.DEAD:
            return ""
        case owners.Life.STANDING_STILL:
            pid = row.owner.split(" ")[-2]
            raise LedgerUsageError(
                f"Batch {row.number}: the process that was sending it ({who}) has not ended, it stands still: what it "
                f"has begun may go out when it goes on. Let it go on (kill -CONT {pid}) or end it (kill -KILL {pid}), "
                "then look again what the platform has taken, and repeat this."
            )
        case owners.Life.RUNNING:
            return f"The process that was sending it ({who}) is still there: if it has an answer yet, that will count."
    return (
        f"The process that was sending it ({who}) is not known to have ended: see that it is gone before the next "
        "try, and does not only stand still."
    )


def take_back(ledger: Ledger, campaign_id: int, number: int, observer: Observer = NO_OBSERVER) -> None:
    """Put a batch back in doubt that a person or a receipt has settled as sent; its taskId is not adopted again.

    :param observer: is told that it is in doubt.
    :raises LedgerUsageError: the platform itself accepted it, or it is not accepted at all.
    """
    with ledger.writing() as connection:
        # Nobody shall count its receipts meanwhile.
        ownership.hold(ledger, connection)
        row = _find(connection, campaign_id, number)
        if row.state != BatchState.ACCEPTED or row.evidence not in (ADOPTED, RESOLVED):
            raise LedgerUsageError(f"{_said(row)} There is nothing to take back.")
        others = dict.fromkeys([*(row.other_taskids or "").split(), *filter(None, [row.taskid])])
        _change(
            connection,
            row,
            state=BatchState.IN_DOUBT,
            taskid=None,
            other_taskids=" ".join(others) or None,
            accepted=0,
            settled_at=ledger.clock,
            evidence=None,
            message="Taken back by hand: in doubt again.",
        )
        ownership.let_go(connection, row.campaign_id, row.id, row.taskid)
    observer.put_in_doubt(row.phones)


def _find(connection: Connection, campaign_id: int, number: int) -> Row[Any]:
    table = batch_table
    of_campaign = table.c.campaign_id == campaign_id
    query = select(table).where(of_campaign, table.c.number == number).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        last = connection.execute(select(func.max(table.c.number)).where(of_campaign)).scalar()
        known = f"it has 1 to {last}" if last else "it has none"
        raise LedgerUsageError(f"batch: the campaign has no batch {number}; {known}.")
    return row


def _in_doubt(ledger: Ledger, connection: Connection, campaign_id: int, number: int) -> Row[Any]:
    """Find a batch whose request may have left, and of which nobody will say more."""
    row = _find(connection, campaign_id, number)
    if row.state == BatchState.IN_DOUBT:
        return row
    if row.state == BatchState.SENDING and (row.lease_until <= ledger.now(connection) or is_provably_dead(row.owner)):
        return row
    raise LedgerUsageError(_said(row))


def _said(row: Row[Any]) -> str:
    """What a batch's state is, and why there is nothing for a person to settle."""
    match BatchState(row.state):
        case BatchState.PLANNED:
            said = "planned: nothing of it was sent, and the next try sends it."
        case BatchState.SENDING:
            said = f"being sent: wait for its end, {row.lease_until:%H:%M:%S} UTC at the latest."
        case BatchState.ACCEPTED if row.evidence in (ADOPTED, RESOLVED):
            how = "by a receipt or reply" if row.evidence == ADOPTED else "by hand"
            said = f"accepted already, {how} ({_task_id(row)}); --undo takes that back."
        case BatchState.ACCEPTED:
            said = f"accepted by the platform itself ({_task_id(row)})."
        case BatchState.REFUSED:
            said = f"refused by the platform ({row.refusal}): nothing of it was sent."
        case BatchState.EXPIRED:
            said = "expired: nothing of it was sent, it was too late."
        case BatchState.IN_DOUBT:
            said = "in doubt: settle it by --sent or --not-sent."
    return f"Batch {row.number} is {said}"


def _task_id(row: Row[Any]) -> str:
    return f"taskId {row.taskid}" if row.taskid else "taskId unknown"


def _check_nobody_else_has(connection: Connection, row: Row[Any], taskid: str) -> None:
    table, campaign = batch_table, campaign_table
    query = select(campaign.c.name, table.c.number).where(
        table.c.campaign_id == campaign.c.id, table.c.taskid == taskid, table.c.id != row.id
    )
    other = connection.execute(query).first()
    if other is not None:
        raise LedgerUsageError(
            f"taskId: {taskid} is that of batch {other.number} of campaign {other.name!r}; look again, or give none."
        )


def _change(connection: Connection, row: Row[Any], **values: Any) -> None:
    table = batch_table
    unchanged = and_(table.c.id == row.id, table.c.state == row.state, table.c.attempt == row.attempt)
    if not connection.execute(update(table).where(unchanged).values(**values)).rowcount:
        raise LedgerUsageError(f"Batch {row.number} has changed at this very moment: look at it again.")
