"""Claim a batch before its first byte leaves, and only for those who may be texted. Knows no wire and no Airflow.

A claim is a compare-and-set: of all who try, one wins. All of this happens in a transaction of the caller's.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, delete, select, update

from airflow_provider_sms.gateway.categories import Category
from airflow_provider_sms.gateway.phones import Reason
from airflow_provider_sms.ledger import opt_outs
from airflow_provider_sms.ledger.campaigns import IN_ANOTHER_INSTANCE, Campaign, exclude
from airflow_provider_sms.ledger.database import Ledger, naive
from airflow_provider_sms.ledger.notes import Notes
from airflow_provider_sms.ledger.parts import in_parts
from airflow_provider_sms.ledger.schema import BatchState, batch_table, recipient_table, text_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row

_FOR_A_CLAIM = (
    *("id", "campaign_id", "number", "attempt", "first_position", "last_position", "resends", "split_from"),
    "text_number",
)


class ClaimLostError(Exception):
    """The claim's lease is too short, or somebody else has settled it: nothing may leave."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to send one batch once, until the lease ends.

    :param phones: eleven digits each.
    :param content: the text that they get.
    :param may_have_gone_out: an earlier attempt may have reached the phones: one that is in doubt, or one that the
        platform refused because of a phone, of which it does not say whether the others were texted.
    :param texted_at: when they get it, UTC without saying so.
    :param once_scope: within what they get it once, see `keys.CampaignKey.once_scope`.
    """

    batch_id: int
    campaign_id: int
    number: int
    attempt: int
    phones: tuple[str, ...] = field(repr=False)
    content: str = field(repr=False)
    may_have_gone_out: bool
    texted_at: datetime
    once_scope: str | None


class _Statements:
    """What every claim runs, built once: to build a statement takes longer than to run it."""

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


class Claims:
    """One campaign's claims, as one process makes them.

    :param owner: this process, see `owners.own_name`.
    """

    def __init__(self, ledger: Ledger, owner: str, campaign: Campaign, notes: Notes) -> None:
        self._ledger = ledger
        self._campaign = campaign
        self._notes = notes
        self._statements = _Statements(ledger, owner, campaign.id)

    def next_planned(self, connection: Connection) -> Row[Any] | None:
        """Look for the next batch that is still planned."""
        return connection.execute(self._statements.next_planned).first()

    def take(
        self, connection: Connection, row: Row[Any], account: str, seconds: float, send_time: datetime | None
    ) -> Claim | None:
        """Claim a batch, and leave out those who may not be texted any more.

        :param row: see `next_planned`.
        :returns: None if somebody else was quicker, or no phone is left: then it is planned no longer.
        """
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
        notes, when = self._notes, naive(send_time) or row.now
        notes.hold(connection)
        span = {"b_first": row.first_position, "b_last": row.last_position}
        found: dict[str, int] = dict(connection.execute(self._statements.phones, span).all())
        if self._campaign.category == Category.MARKETING:
            # Days may have passed since the plan.
            opted_out = opt_outs.among(connection, found)
            found = self._left_out(connection, row.id, found, opted_out, Reason.OPTED_OUT.value)
        # Another campaign may have texted them since the plan.
        enough = notes.enough(connection, found, when, row.id)
        found = self._left_out(connection, row.id, found, enough, Reason.FREQUENCY_CAP.value)
        content, once_scope = self._text(connection, row)
        if once_scope is not None and found:
            others = found.keys() - notes.take(connection, row.id, found, once_scope)
            found = self._left_out(connection, row.id, found, others, IN_ANOTHER_INSTANCE)
        if not found:
            self._drop_empty(connection, row)
            return None
        if row.resends:
            notes.note_again(connection, row.id, found, when)
        else:
            notes.note(connection, row.id, found, when)
        return Claim(
            batch_id=row.id,
            campaign_id=row.campaign_id,
            number=row.number,
            attempt=row.attempt + 1,
            phones=tuple(found),
            content=content,
            may_have_gone_out=bool(row.resends or row.split_from),
            texted_at=when,
            once_scope=once_scope,
        )

    def check(self, connection: Connection, claim: Claim, seconds: float) -> None:
        """See that a claim holds for so long.

        :param seconds: until the request's deadline.
        :raises ClaimLostError: it does not.
        """
        which = {"b_id": claim.batch_id, "b_attempt": claim.attempt}
        row = connection.execute(self._statements.check, which).first()
        if row is None:
            raise ClaimLostError(f"Batch {claim.number}: the lease has ended, and somebody else has settled it.")
        if row.lease_until - row.now < timedelta(seconds=seconds):
            raise ClaimLostError(f"Batch {claim.number}: its lease ends before the request's deadline would.")

    def _text(self, connection: Connection, row: Row[Any]) -> tuple[str, str | None]:
        """What a batch's phones get, and within what they get it once."""
        campaign = self._campaign
        if row.text_number is None:
            return campaign.content, campaign.once_scope
        own = connection.execute(self._statements.text, {"b_text": row.text_number}).one()
        return own.content, campaign.key.once_scope(own.content_hash)

    def _left_out(
        self, connection: Connection, batch_id: int, found: dict[str, int], others: Set[str], reason: str
    ) -> dict[str, int]:
        """Leave out and report some of a batch's phones; what is left of them is returned."""
        if not others:
            return found
        people = recipient_table
        left = {phone: position for phone, position in found.items() if phone not in others}
        for positions in in_parts([position for phone, position in found.items() if phone in others]):
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
