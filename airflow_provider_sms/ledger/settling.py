"""Settle a batch with what became of an attempt to send it. Knows no wire and no Airflow.

A claim is held by attempt, not by state: an answer that comes late still counts for the attempt that it answers.
All of this happens in a transaction of the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, or_, select, update

from airflow_provider_sms.gateway.phones import storable
from airflow_provider_sms.ledger.claims import Claim
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.notes import Notes
from airflow_provider_sms.ledger.schema import BatchState, batch_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.sql.elements import ColumnElement

OWNER_GONE = "OwnerGone"
"""Why a batch is in doubt that its own process has not settled."""

LONGEST_MESSAGE = 500
LONGEST_TASK_ID = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """What the platform said to an accepted batch.

    :param taskid: 下发批次ID.
    :param accepted: phones that it counts.
    :param remain_point: points left, or None if it did not say.
    """

    taskid: str
    accepted: int
    remain_point: int | None


class Accepted(Enum):
    """What the ledger makes of an attempt that the platform accepted."""

    # It is accepted now.
    NEWS = "news"
    # It was accepted before: this very step was repeated, or a receipt or a person has settled it as sent.
    KNOWN = "known"
    # The ledger has gone on without it: its taskId is kept beside the batch.
    BESIDE = "beside"


class _Statements:
    """What every batch runs, built once: to build a statement takes longer than to run it."""

    def __init__(self, ledger: Ledger, owner: str) -> None:
        table, clock = batch_table, ledger.clock
        own = and_(table.c.id == bindparam("b_id"), table.c.attempt == bindparam("b_attempt"), table.c.owner == owner)
        accepted: dict[str, Any] = {
            "state": BatchState.ACCEPTED,
            "taskid": bindparam("b_taskid"),
            "accepted": bindparam("b_accepted"),
            "remain_point": bindparam("b_points"),
            "settled_at": clock,
            "refusal": None,
            "message": None,
            "evidence": None,
        }
        is_accepted = table.c.state == BatchState.ACCEPTED
        same = table.c.taskid == bindparam("b_taskid")
        is_open = table.c.state.in_((BatchState.SENDING, BatchState.IN_DOUBT))
        # The same step repeated, as its commit was not heard of, finds it accepted without evidence.
        self.accept = update(table).where(own, or_(is_open, and_(is_accepted, same, table.c.evidence.is_(None))))
        self.accept = self.accept.values(accepted)
        self.accept_late = update(table).where(own, ~is_open, ~is_accepted).values(accepted)
        # A receipt, or a person who may not have known the taskId, has settled it as sent: that was counted.
        self.confirm = update(table).where(own, is_accepted, or_(same, table.c.taskid.is_(None))).values(accepted)


class Settling:
    """Settles what one process has claimed.

    :param owner: that process, see `owners.own_name`.
    """

    def __init__(self, ledger: Ledger, owner: str, notes: Notes) -> None:
        self._ledger = ledger
        self._owner = owner
        self._notes = notes
        self._statements = _Statements(ledger, owner)

    def accept(self, connection: Connection, claim: Claim, answer: Answer, taskid: str) -> Accepted:
        """Note that the platform accepted an attempt, however late that is heard.

        :param taskid: the answer's, as the ledger keeps it.
        """
        values = {"b_taskid": taskid, "b_accepted": answer.accepted, "b_points": answer.remain_point}
        values |= {"b_id": claim.batch_id, "b_attempt": claim.attempt}
        if connection.execute(self._statements.accept, values).rowcount:
            return Accepted.NEWS
        if connection.execute(self._statements.accept_late, values).rowcount:
            # It was settled as not sent, and its phones were free since.
            if claim.once_scope is not None:
                self._notes.take(connection, claim.batch_id, claim.phones, claim.once_scope)
            self._notes.note_again(connection, claim.batch_id, claim.phones, claim.texted_at)
            return Accepted.NEWS
        if connection.execute(self._statements.confirm, values).rowcount:
            return Accepted.KNOWN
        table = batch_table
        query = select(table.c.other_taskids, table.c.taskid, table.c.attempt).where(table.c.id == claim.batch_id)
        row = connection.execute(query.with_for_update()).first()
        if row is not None and row.attempt != claim.attempt:
            self._notes.note_beside(connection, claim.batch_id, claim.phones, claim.texted_at)
        if row is not None and taskid != row.taskid:
            others = dict.fromkeys([*(row.other_taskids or "").split(), taskid])
            noted = {"other_taskids": " ".join(others)}
            connection.execute(update(table).where(table.c.id == claim.batch_id).values(noted))
        return Accepted.BESIDE

    def settle(
        self, connection: Connection, claim: Claim, state: BatchState, refusal: str | None, message: str | None
    ) -> bool:
        """Settle an attempt that is under way or in doubt.

        :returns: whether nobody else had put it in doubt before.
        """
        table = batch_table
        is_in_doubt = table.c.state == BatchState.IN_DOUBT
        # The same step repeated, as its commit was not heard of, finds its own words there.
        is_own = or_(table.c.state == BatchState.SENDING, and_(is_in_doubt, table.c.refusal != OWNER_GONE))
        values = {
            "state": state,
            "settled_at": None if state is BatchState.PLANNED else self._ledger.clock,
            "refusal": refusal,
            "message": None if message is None else storable(message, LONGEST_MESSAGE),
        }
        settled = update(table).where(is_held(claim, self._owner)).values(values)
        is_news = connection.execute(settled.where(is_own)).rowcount > 0
        is_settled = is_news or connection.execute(settled.where(is_in_doubt)).rowcount > 0
        if is_settled and state in (BatchState.PLANNED, BatchState.REFUSED):
            resends = select(table.c.resends).where(table.c.id == claim.batch_id)
            # Of one that is sent again an earlier attempt may have reached the phones.
            if not connection.execute(resends).scalar_one():
                self._notes.free(connection, claim.batch_id)
        return is_news


def is_held(claim: Claim, owner: str) -> ColumnElement[bool]:
    """Write SQL for "this batch's last attempt is that claim"."""
    table = batch_table
    return and_(table.c.id == claim.batch_id, table.c.attempt == claim.attempt, table.c.owner == owner)
