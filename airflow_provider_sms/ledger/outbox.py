"""Claim a batch before its first byte leaves, and settle it with what became of it. Knows no wire and no Airflow.

    planned ──claim──▶ sending ──▶ accepted | refused | in_doubt
       ▲                  │
       └──── release ─────┘        proven unsent, or a refusal that passes or can be lifted

A claim is a compare-and-set: of all who try, one wins. It is held by attempt, not by state: an answer that comes
late still counts for the attempt that it answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert

from airflow_provider_sms.gateway.categories import Category
from airflow_provider_sms.gateway.phones import Reason, storable
from airflow_provider_sms.ledger import frequency, opt_outs
from airflow_provider_sms.ledger.campaigns import IN_ANOTHER_INSTANCE, Campaign, exclude
from airflow_provider_sms.ledger.database import Ledger, aware, naive
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.owners import is_provably_dead
from airflow_provider_sms.ledger.schema import (
    BatchState,
    batch_table,
    campaign_table,
    once_table,
    recipient_table,
    text_table,
    texted_table,
)
from airflow_provider_sms.observing import NO_OBSERVER, Observer

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row

OWNER_GONE = "OwnerGone"
"""Why a batch is in doubt that its own process has not settled."""

_LONGEST_MESSAGE = 500
_LONGEST_TASK_ID = 100
_AT_ONCE = 500
_FOR_A_CLAIM = (
    *("id", "campaign_id", "number", "attempt", "first_position", "last_position", "resends", "split_from"),
    "text_number",
)


class ClaimLostError(Exception):
    """The claim's lease is too short, or somebody else has settled it: nothing may leave."""


class SettledOtherwiseError(Exception):
    """The ledger has gone on without this attempt, so its answer could only be noted beside the batch."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to send one batch once, until the lease ends.

    :param phones: eleven digits each.
    :param content: the text that they get.
    :param may_have_gone_out: an earlier attempt may have reached the phones: one that is in doubt, or one that the
        platform refused because of a phone, of which it does not say whether the others were texted.
    """

    batch_id: int
    campaign_id: int
    number: int
    attempt: int
    phones: tuple[str, ...] = field(repr=False)
    content: str = field(repr=False)
    may_have_gone_out: bool


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


@dataclass(frozen=True, slots=True)
class Held:
    """A batch that another process is sending, as far as anybody knows.

    :param lease_until: when it is in doubt, aware.
    """

    number: int
    owner: str
    lease_until: datetime


class _Statements:
    """What every batch runs, built once: to build a statement takes longer than to run it."""

    def __init__(self, ledger: Ledger, owner: str, campaign_id: int) -> None:
        table, people, clock = batch_table, recipient_table, ledger.clock
        own = and_(table.c.id == bindparam("b_id"), table.c.attempt == bindparam("b_attempt"), table.c.owner == owner)
        self.next_planned: Any = (
            select(*(table.c[name] for name in _FOR_A_CLAIM), clock.label("now"))
            .where(table.c.campaign_id == campaign_id, table.c.state == BatchState.PLANNED)
            .order_by(table.c.number)
            .limit(1)
        )
        self.claim = (
            update(table)
            .where(
                table.c.id == bindparam("b_id"),
                table.c.state == BatchState.PLANNED,
                table.c.attempt == bindparam("b_attempt"),
            )
            .values(
                state=BatchState.SENDING,
                attempt=bindparam("b_next_attempt"),
                account=bindparam("b_account"),
                owner=owner,
                claimed_at=bindparam("b_claimed_at"),
                lease_until=bindparam("b_lease_until"),
                settled_at=None,
            )
        )
        self.phones = (
            select(people.c.phone, people.c.position)
            .where(
                people.c.campaign_id == campaign_id,
                people.c.position.between(bindparam("b_first"), bindparam("b_last")),
                people.c.reason.is_(None),
            )
            .order_by(people.c.position)
        )
        self.text: Any = select(text_table.c.content, text_table.c.content_hash).where(
            text_table.c.campaign_id == campaign_id, text_table.c.number == bindparam("b_text")
        )
        self.check: Any = select(table.c.lease_until, clock.label("now")).where(
            own, table.c.state == BatchState.SENDING
        )
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
        # The same step repeated, as its commit was not heard of, finds it accepted without evidence.
        self.accept = update(table).where(own, or_(~is_accepted, and_(same, table.c.evidence.is_(None))))
        self.accept = self.accept.values(accepted)
        # A receipt, or a person who may not have known the taskId, has settled it as sent: that was counted.
        self.confirm = update(table).where(own, is_accepted, or_(same, table.c.taskid.is_(None))).values(accepted)


def _which(claim: Claim) -> dict[str, Any]:
    return {"b_id": claim.batch_id, "b_attempt": claim.attempt}


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
        self._cap = cap
        self._observer = observer
        self._is_noted = frequency.is_noted(campaign.category, cap)
        self._scope = frequency.scope(campaign.key.namespace, campaign.category)
        self._statements = _Statements(ledger, owner, campaign.id)
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
                    row = self._next_planned(connection)
                    if row is None:
                        return None
                    claim = self._claimed(connection, row, account, seconds, send_time)
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
            row = connection.execute(self._statements.check, _which(claim)).first()
        if row is None:
            raise ClaimLostError(f"Batch {claim.number}: the lease has ended, and somebody else has settled it.")
        if row.lease_until - row.now < timedelta(seconds=seconds):
            raise ClaimLostError(f"Batch {claim.number}: its lease ends before the request's deadline would.")

    def accept(self, claim: Claim, answer: Answer) -> None:
        """Settle: the platform accepted this attempt, however late that is heard.

        :raises SettledOtherwiseError: a later attempt is under way or done; the taskId is kept beside it.
        """
        table = batch_table
        taskid = storable(answer.taskid, _LONGEST_TASK_ID)
        with self._ledger.writing() as connection:
            values = {"b_taskid": taskid, "b_accepted": answer.accepted, "b_points": answer.remain_point}
            values |= _which(claim)
            is_news = connection.execute(self._statements.accept, values).rowcount > 0
            is_settled = is_news or connection.execute(self._statements.confirm, values).rowcount > 0
            if not is_settled:
                query = select(table.c.other_taskids, table.c.taskid).where(table.c.id == claim.batch_id)
                row = connection.execute(query.with_for_update()).first()
                if row is not None and taskid != row.taskid:
                    others = dict.fromkeys([*(row.other_taskids or "").split(), taskid])
                    noted = {"other_taskids": " ".join(others)}
                    connection.execute(update(table).where(table.c.id == claim.batch_id).values(noted))
        if is_news or not is_settled:
            # Whatever the ledger makes of it, the platform has taken it.
            self._observer.accepted(answer.accepted)
        if not is_settled:
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
        table, people = batch_table, recipient_table
        middle = len(claim.phones) // 2
        with self._ledger.writing() as connection:
            # Two that split at once would give two batches one number.
            campaign = select(campaign_table.c.id).where(campaign_table.c.id == claim.campaign_id)
            connection.execute(campaign.with_for_update())
            open_states = (BatchState.SENDING, BatchState.IN_DOUBT)
            query = select(table).where(self._is(claim), table.c.state.in_(open_states)).with_for_update()
            row = connection.execute(query).first()
            if row is None:
                return
            of_batch = and_(
                people.c.campaign_id == claim.campaign_id,
                people.c.position.between(row.first_position, row.last_position),
                people.c.reason.is_(None),
            )
            border = connection.execute(
                select(people.c.position).where(of_batch).order_by(people.c.position).offset(middle).limit(1)
            ).scalar_one()
            highest = select(func.max(table.c.number)).where(table.c.campaign_id == claim.campaign_id)
            number = connection.execute(highest).scalar_one() + 1
            halved = {"state": BatchState.PLANNED, "split_from": row.split_from or row.number}
            halved |= {"refusal": refusal, "message": storable(message, _LONGEST_MESSAGE)}
            inserted = connection.execute(
                insert(table).values(
                    **halved,
                    campaign_id=claim.campaign_id,
                    number=number,
                    first_position=border,
                    last_position=row.last_position,
                    phones=len(claim.phones) - middle,
                    attempt=0,
                    resends=row.resends,
                    accepted=0,
                    text_number=row.text_number,
                    segments=row.segments,
                )
            )
            if row.resends:
                (half,) = inserted.inserted_primary_key or (0,)
                later = select(people.c.phone).where(of_batch, people.c.position >= border)
                for notes in (texted_table, once_table):
                    those = and_(notes.c.batch_id == row.id, notes.c.phone.in_(later))
                    connection.execute(update(notes).where(those).values(batch_id=half))
            else:
                self._free(connection, row.id)
            connection.execute(
                update(table).where(table.c.id == row.id).values(**halved, last_position=border - 1, phones=middle)
            )

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
            for ids in _in_parts([row.id for row in rows]):
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

    def _is(self, claim: Claim) -> Any:
        table = batch_table
        return and_(table.c.id == claim.batch_id, table.c.attempt == claim.attempt, table.c.owner == self._owner)

    def _next_planned(self, connection: Connection) -> Row[Any] | None:
        return connection.execute(self._statements.next_planned).first()

    def _claimed(
        self, connection: Connection, row: Row[Any], account: str, seconds: float, send_time: datetime | None
    ) -> Claim | None:
        won = connection.execute(
            self._statements.claim,
            {
                "b_id": row.id,
                "b_attempt": row.attempt,
                "b_next_attempt": row.attempt + 1,
                "b_account": account,
                "b_claimed_at": row.now,
                "b_lease_until": row.now + timedelta(seconds=seconds),
            },
        )
        if not won.rowcount:
            return None
        if self._cap is not None:
            frequency.hold(connection, self._scope)
        span = {"b_first": row.first_position, "b_last": row.last_position}
        found: dict[str, int] = dict(connection.execute(self._statements.phones, span).all())
        if self._campaign.category == Category.MARKETING:
            # Days may have passed since the plan.
            opted_out = opt_outs.among(connection, found)
            found = self._left_out(connection, row.id, found, opted_out, Reason.OPTED_OUT.value)
        when = naive(send_time) or row.now
        if self._cap is not None and found:
            # Another campaign may have texted them since the plan.
            enough = frequency.reached(connection, self._scope, found, self._cap, when, row.id)
            found = self._left_out(connection, row.id, found, enough, Reason.FREQUENCY_CAP.value)
        content, scope = self._text(connection, row)
        if scope is not None and found:
            found = self._take_once(connection, row.id, found, scope)
        if not found:
            self._drop_empty(connection, row)
            return None
        if self._is_noted:
            if row.resends:
                frequency.forget(connection, [row.id])
            frequency.note(connection, self._ledger, self._scope, found, when, row.id)
        may_have_gone_out = bool(row.resends or row.split_from)
        return Claim(row.id, row.campaign_id, row.number, row.attempt + 1, tuple(found), content, may_have_gone_out)

    def _text(self, connection: Connection, row: Row[Any]) -> tuple[str, str | None]:
        """What a batch's phones get, and within what they get it once."""
        campaign = self._campaign
        if row.text_number is None:
            return campaign.content, campaign.once_scope
        own = connection.execute(self._statements.text, {"b_text": row.text_number}).one()
        return own.content, campaign.key.once_scope(own.content_hash)

    def _take_once(self, connection: Connection, batch_id: int, found: dict[str, int], scope: str) -> dict[str, int]:
        """Take phones for this instance of a mapped task; those that another one has are left out and reported."""
        table = once_table
        rows = [
            {"scope": scope, "phone": phone, "campaign_id": self._campaign.id, "batch_id": batch_id}
            # In one order everywhere, so that two that take the same phones do not lock each other out.
            for phone in sorted(found)
        ]
        statement: Any
        match self._ledger.kind:
            case "sqlite":
                statement = insert(table).prefix_with("OR IGNORE")
            case "mysql":
                statement = insert(table).prefix_with("IGNORE")
            case _:
                statement = postgresql_insert(table).on_conflict_do_nothing()
        connection.execute(statement, rows)
        ours = set(connection.execute(select(table.c.phone).where(table.c.batch_id == batch_id)).scalars())
        return self._left_out(connection, batch_id, found, found.keys() - ours, IN_ANOTHER_INSTANCE)

    def _left_out(
        self, connection: Connection, batch_id: int, found: dict[str, int], others: Set[str], reason: str
    ) -> dict[str, int]:
        """Leave out and report some of a batch's phones; what is left of them is returned."""
        if not others:
            return found
        people = recipient_table
        left = {phone: position for phone, position in found.items() if phone not in others}
        for positions in _in_parts([position for phone, position in found.items() if phone in others]):
            connection.execute(
                update(people)
                .where(people.c.campaign_id == self._campaign.id, people.c.position.in_(positions))
                .values(reason=reason)
            )
        connection.execute(update(batch_table).where(batch_table.c.id == batch_id).values(phones=len(left)))
        exclude(connection, self._campaign.id, reason, len(found) - len(left))
        return left

    def _drop_empty(self, connection: Connection, row: Row[Any]) -> None:
        """End a batch of which no phone is left."""
        this = batch_table.c.id == row.id
        if not row.resends:
            connection.execute(delete(batch_table).where(this))
            return
        # An attempt that is in doubt may still be answered: its taskId then finds the batch.
        ended = {"state": BatchState.EXPIRED, "settled_at": self._ledger.clock, "refusal": None}
        connection.execute(
            update(batch_table).where(this).values(**ended, message="No phone of it is left to send to.")
        )

    def _settle(self, claim: Claim, state: BatchState, refusal: str | None, message: str | None) -> bool:
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
            "message": None if message is None else storable(message, _LONGEST_MESSAGE),
        }
        with self._ledger.writing() as connection:
            settled = update(table).where(self._is(claim)).values(values)
            is_news = connection.execute(settled.where(is_own)).rowcount > 0
            is_settled = is_news or connection.execute(settled.where(is_in_doubt)).rowcount > 0
            if is_settled and state in (BatchState.PLANNED, BatchState.REFUSED):
                resends = select(table.c.resends).where(table.c.id == claim.batch_id)
                # Of one that is sent again an earlier attempt may have reached the phones.
                if not connection.execute(resends).scalar_one():
                    self._free(connection, claim.batch_id)
        return is_news

    def _free(self, connection: Connection, batch_id: int) -> None:
        """Nothing of a batch has left: others may text its phones."""
        if self._is_noted:
            frequency.forget(connection, [batch_id])
        if self._campaign.once_scope is not None:
            connection.execute(delete(once_table).where(once_table.c.batch_id == batch_id))


def _in_parts(items: Sequence[int]) -> Iterable[Sequence[int]]:
    """SQL takes so many values in one list."""
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
