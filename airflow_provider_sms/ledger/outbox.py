"""Claim a batch before its first byte leaves, and settle it with what became of it. Knows no wire and no Airflow.

    planned ──claim──▶ sending ──▶ accepted | refused | in_doubt
       ▲                  │
       └──── release ─────┘        proven unsent, or a refusal that passes or can be lifted

How that is done is in `claims`, `settling` and `splitting`; here is when it is committed, and who is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, func, select, update

from airflow_provider_sms.gateway.phones import storable
from airflow_provider_sms.ledger import frequency
from airflow_provider_sms.ledger.campaigns import Campaign
from airflow_provider_sms.ledger.claims import Claim, Claims
from airflow_provider_sms.ledger.database import Ledger, aware, naive
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.notes import Notes
from airflow_provider_sms.ledger.owners import is_provably_dead
from airflow_provider_sms.ledger.parts import in_parts
from airflow_provider_sms.ledger.schema import BatchState, batch_table, campaign_table
from airflow_provider_sms.ledger.settling import LONGEST_TASK_ID, OWNER_GONE, Accepted, Answer, Settling
from airflow_provider_sms.ledger.splitting import halve
from airflow_provider_sms.observing import NO_OBSERVER, Observer


class SettledOtherwiseError(Exception):
    """The ledger has gone on without this attempt, so its answer could only be noted beside the batch."""


@dataclass(frozen=True, slots=True)
class Held:
    """A batch that another process is sending, as far as anybody knows.

    :param lease_until: when it is in doubt, aware.
    """

    number: int
    owner: str
    lease_until: datetime


class Outbox:
    """One campaign's batches, as one process sends them.

    :param owner: this process, see `owners.own_name`.
    :param cap: how many texts a phone may get; None for any number.
    :param observer: is told what becomes of texts, each time the ledger has it.
    """

    def __init__(
        self,
        ledger: Ledger,
        owner: str,
        campaign: Campaign,
        cap: frequency.Cap | None = None,
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self._ledger = ledger
        self._owner = owner
        self._campaign = campaign
        self._observer = observer
        self._notes = Notes(ledger, campaign, cap)
        self._claims = Claims(ledger, owner, campaign, self._notes)
        self._settling = Settling(ledger, owner, self._notes)
        self.uncertain: Claim | None = None

    def claim(self, account: str, seconds: float, send_time: datetime | None = None) -> Claim | None:
        """Claim the next batch that is still planned.

        :param account: the App ID that will send it.
        :param seconds: how long the lease is.
        :param send_time: when the platform shall send it, aware; None for at once.
        :returns: None if no batch is planned.
        """
        if self.uncertain is not None:
            # Nothing of it has left: its commit was not heard of.
            self.release(self.uncertain)
            self.uncertain = None
        while True:
            claim = None
            try:
                with self._ledger.writing() as connection:
                    row = self._claims.next_planned(connection)
                    if row is None:
                        return None
                    claim = self._claims.take(connection, row, account, seconds, send_time)
            except LedgerUnreachableError:
                self.uncertain = claim
                raise
            if claim is not None:
                return claim

    def check(self, claim: Claim, seconds: float) -> None:
        """See, at the very last moment, that the claim holds for as long as the request may take.

        Whoever finds the lease over may then be sure that nothing of this attempt is still on its way.

        :param seconds: until the request's deadline.
        :raises ClaimLostError: it does not.
        """
        with self._ledger.reading() as connection:
            self._claims.check(connection, claim, seconds)

    def accept(self, claim: Claim, answer: Answer) -> None:
        """Settle: the platform accepted this attempt, however late that is heard.

        :raises SettledOtherwiseError: a later attempt is under way or done; the taskId is kept beside it.
        """
        taskid = storable(answer.taskid, LONGEST_TASK_ID)
        with self._ledger.writing() as connection:
            accepted = self._settling.accept(connection, claim, answer, taskid)
        if accepted is not Accepted.KNOWN:
            # Whatever the ledger makes of it, the platform has taken it.
            self._observer.accepted(answer.accepted)
        if accepted is Accepted.BESIDE:
            raise SettledOtherwiseError(
                f"Batch {claim.number}: accepted as taskId {taskid}; the ledger has gone on without this attempt."
            )

    def refuse(self, claim: Claim, refusal: str, message: str) -> None:
        """Settle: the platform said no, and the batch ends with that."""
        self._settle(claim, BatchState.REFUSED, refusal, message)
        self._observer.refused(len(claim.phones), refusal)

    def doubt(self, claim: Claim, refusal: str, message: str) -> None:
        """Settle: the request left, and nothing says what became of it."""
        if self._settle(claim, BatchState.IN_DOUBT, refusal, message):
            self._observer.put_in_doubt(len(claim.phones))

    def release(self, claim: Claim, refusal: str | None = None, message: str | None = None) -> None:
        """Settle: nothing of this attempt was sent; the batch may be claimed again."""
        self._settle(claim, BatchState.PLANNED, refusal, message)

    def split(self, claim: Claim, refusal: str, message: str) -> None:
        """Settle: one of the phones is the reason for a refusal; make two planned batches of one."""
        with self._ledger.writing() as connection:
            halve(connection, claim, self._owner, self._notes, refusal, message)

    def overtake(self) -> list[Held]:
        """Put in doubt what was being sent by processes that are dead, or whose lease has ended.

        :returns: what others are still sending.
        """
        table = batch_table
        query = select(*(table.c[name] for name in ("id", "number", "attempt", "owner", "lease_until", "phones")))
        query = query.where(table.c.campaign_id == self._campaign.id, table.c.state == BatchState.SENDING)
        with self._ledger.reading() as connection:
            now = self._ledger.now(connection)
            rows = connection.execute(query.order_by(table.c.number)).all()
        held = []
        for row in rows:
            if row.lease_until > now and not is_provably_dead(row.owner):
                held.append(Held(row.number, row.owner, aware(row.lease_until)))
                continue
            with self._ledger.writing() as connection:
                done = connection.execute(
                    update(table)
                    .where(table.c.id == row.id, table.c.attempt == row.attempt, table.c.state == BatchState.SENDING)
                    .values(
                        state=BatchState.IN_DOUBT,
                        settled_at=self._ledger.clock,
                        refusal=OWNER_GONE,
                        message="The process that was sending it ended without a word.",
                    )
                )
            if done.rowcount:
                self._observer.put_in_doubt(row.phones)
        return held

    def expire(self, message: str) -> int:
        """End what is still planned: it is too late to send it.

        :returns: how many phones that are.
        """
        table = batch_table
        planned = and_(table.c.campaign_id == self._campaign.id, table.c.state == BatchState.PLANNED)
        with self._ledger.writing() as connection:
            query = select(table.c.id, table.c.phones).where(planned).with_for_update()
            rows = connection.execute(query).all()
            for ids in in_parts([row.id for row in rows]):
                connection.execute(
                    update(table)
                    .where(table.c.id.in_(ids), planned)
                    .values(state=BatchState.EXPIRED, settled_at=self._ledger.clock, message=message)
                )
        return sum(row.phones for row in rows)

    def put_off(self, until: datetime, valid_until: datetime) -> None:
        """Note that nothing is claimed until the sending hours begin; the waiting does not use up the time to send.

        :param until: when they begin, aware.
        :param valid_until: until when texts may go out then, aware.
        """
        table = campaign_table
        with self._ledger.writing() as connection:
            this = table.c.id == self._campaign.id
            connection.execute(update(table).where(this).values(waits_until=naive(until)))
            sooner = table.c.valid_until < naive(valid_until)
            connection.execute(update(table).where(this, sooner).values(valid_until=naive(valid_until)))

    def schedule(self, send_time: datetime) -> None:
        """Note until when the sending hours put texts off, before any of them leaves.

        :param send_time: aware.
        """
        table = campaign_table
        latest = table.c.scheduled_for.is_(None) | (table.c.scheduled_for < naive(send_time))
        with self._ledger.writing() as connection:
            connection.execute(
                update(table).where(table.c.id == self._campaign.id, latest).values(scheduled_for=naive(send_time))
            )

    def reopen(self, refusals: Iterable[str], states: Sequence[BatchState]) -> int:
        """Plan again what ended for a reason that somebody may have lifted since; nothing of it was sent.

        :param refusals: those reasons.
        :param states: what else may be planned again, whatever the reason.
        :returns: how many batches.
        """
        table = batch_table
        lifted = (table.c.state == BatchState.REFUSED) & table.c.refusal.in_(list(refusals))
        with self._ledger.writing() as connection:
            return connection.execute(
                update(table)
                .where(table.c.campaign_id == self._campaign.id, lifted | table.c.state.in_(states))
                .values(state=BatchState.PLANNED, settled_at=None)
            ).rowcount

    def renew(self, batch_ids: Sequence[int]) -> int:
        """Plan batches in doubt for another attempt, once the lease of the last one has ended.

        :returns: how many.
        """
        table = batch_table
        with self._ledger.writing() as connection:
            now = self._ledger.now(connection)
            return connection.execute(
                update(table)
                .where(
                    table.c.id.in_(list(batch_ids)), table.c.state == BatchState.IN_DOUBT, table.c.lease_until <= now
                )
                .values(state=BatchState.PLANNED, settled_at=None, resends=table.c.resends + 1)
            ).rowcount

    def states(self) -> dict[BatchState, int]:
        """Count the batches by state."""
        table = batch_table
        query = select(table.c.state, func.count()).where(table.c.campaign_id == self._campaign.id)
        with self._ledger.reading() as connection:
            return {BatchState(state): count for state, count in connection.execute(query.group_by(table.c.state))}

    def in_doubt(self) -> Sequence[Any]:
        """The batches in doubt: `id, number, attempt, resends, lease_until` (UTC)."""
        table = batch_table
        query = select(table.c.id, table.c.number, table.c.attempt, table.c.resends, table.c.lease_until)
        query = query.where(table.c.campaign_id == self._campaign.id, table.c.state == BatchState.IN_DOUBT)
        with self._ledger.reading() as connection:
            return connection.execute(query.order_by(table.c.number)).all()

    def database_time(self) -> datetime:
        """The database's time, aware."""
        with self._ledger.reading() as connection:
            return aware(self._ledger.now(connection))

    def _settle(self, claim: Claim, state: BatchState, refusal: str | None, message: str | None) -> bool:
        with self._ledger.writing() as connection:
            return self._settling.settle(connection, claim, state, refusal, message)
