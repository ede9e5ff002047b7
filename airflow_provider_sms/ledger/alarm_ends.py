"""What became of an alarm's texts: gone out, held back again, refused. Knows no wire and no Airflow.

Who gets a text is decided by `alarms`; what its campaign's batches say is believed here. What is held back again is so
behind the phones' gates: a text that is being written counts all of it, or none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, func, select, update

from airflow_provider_sms.gateway.errors import PhoneFormatError
from airflow_provider_sms.ledger.alarms import Share, pass_gates
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.parts import in_parts
from airflow_provider_sms.ledger.schema import (
    AlarmKind,
    AlarmState,
    BatchState,
    alarm_phone_table,
    alarm_table,
    batch_table,
    campaign_table,
    recipient_table,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

HELD_BACK = "HeldBack"
"""Why a batch has ended that belongs to an alarm which its phones' next text counts."""
SENT_WITHOUT = "SentWithoutLedger"
"""The same of one whose text was sent while the ledger was away."""

_GONE_OUT = (BatchState.ACCEPTED, BatchState.IN_DOUBT, BatchState.SENDING)


class AlarmEnds:
    """How the texts of one ledger's alarms have ended."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def settle(self, share: Share, key: CampaignKey) -> int:
        """Write down what became of a text, by its campaign: what did not go out is held back again.

        Whatever is still planned of the campaign ends here, so that nobody sends it late.

        :returns: how many phones were not texted.
        """
        table = alarm_phone_table
        with self._ledger.writing() as connection:
            pass_gates(connection, share.phones)
            unsent = _unsent(self._ledger, connection, key, share.phones)
            bad = {phone for phone, refusal in unsent.items() if refusal == PhoneFormatError.__name__}
            mine = and_(table.c.alarm_id == share.alarm_id, table.c.state == AlarmState.TAKEN)
            for state, phones in (
                (AlarmState.SENT, [phone for phone in share.phones if phone not in unsent]),
                (AlarmState.REFUSED, [phone for phone in share.phones if phone in bad]),
            ):
                for some in in_parts(phones):
                    connection.execute(update(table).where(mine, table.c.phone.in_(some)).values(state=state))
            self._give_back(connection, share.alarm_id, [each for each in share.phones if each in unsent.keys() - bad])
        return len(unsent)

    def note_posted(self, share: Share, key: CampaignKey, unsent: Collection[str]) -> None:
        """Write down that a text was sent without its campaign, which sends nothing any more.

        :param unsent: phones that have not got it: for them it is held back again.
        """
        table = alarm_phone_table
        with self._ledger.writing() as connection:
            pass_gates(connection, share.phones)
            for some in in_parts([phone for phone in share.phones if phone not in unsent]):
                mine = and_(table.c.alarm_id == share.alarm_id, table.c.phone.in_(some))
                connection.execute(
                    update(table).where(mine, table.c.state == AlarmState.TAKEN).values(state=AlarmState.SENT)
                )
            self._give_back(connection, share.alarm_id, [phone for phone in share.phones if phone in unsent])
            campaign = select(campaign_table.c.id).where(campaign_table.c.key_hash == key.hash).scalar_subquery()
            batch = batch_table
            connection.execute(
                update(batch)
                .where(batch.c.campaign_id == campaign, batch.c.state == BatchState.PLANNED)
                .values(state=BatchState.EXPIRED, settled_at=self._ledger.clock, refusal=SENT_WITHOUT)
            )

    def give_back(self, share: Share) -> None:
        """Hold back again what a text would have told: nothing of it was sent."""
        with self._ledger.writing() as connection:
            pass_gates(connection, share.phones)
            self._give_back(connection, share.alarm_id, share.phones)

    def _give_back(self, connection: Connection, alarm_id: int, phones: Sequence[str]) -> None:
        table = alarm_phone_table
        kind = connection.execute(select(alarm_table.c.kind).where(alarm_table.c.id == alarm_id)).scalar()
        for some in in_parts(phones):
            mine = and_(table.c.alarm_id == alarm_id, table.c.phone.in_(some), table.c.state == AlarmState.TAKEN)
            back = connection.execute(select(table.c.phone).where(mine)).scalars().all()
            if not back:
                continue
            told = and_(table.c.told_in == alarm_id, table.c.phone.in_(back), table.c.state == AlarmState.TOLD)
            connection.execute(update(table).where(told).values(state=AlarmState.HELD, told_in=None))
            if kind == AlarmKind.FLUSH:
                connection.execute(delete(table).where(mine))
            else:
                connection.execute(update(table).where(mine).values(state=AlarmState.HELD, slot_at=None, others=0))


def _unsent(ledger: Ledger, connection: Connection, key: CampaignKey, phones: Sequence[str]) -> dict[str, str | None]:
    """Which phones a campaign has not texted, and why; none of them is texted by it any more."""
    campaign, batch, people = campaign_table, batch_table, recipient_table
    campaign_id = connection.execute(select(campaign.c.id).where(campaign.c.key_hash == key.hash)).scalar()
    of_it = batch.c.campaign_id == campaign_id
    # Locks them, so that no claim comes in between.
    if not connection.execute(select(batch.c.id).where(of_it).with_for_update()).all():
        return dict.fromkeys(phones)
    query = select(people.c.phone, batch.c.refusal).where(
        of_it,
        people.c.campaign_id == campaign_id,
        people.c.position.between(batch.c.first_position, batch.c.last_position),
        people.c.reason.is_(None),
        batch.c.state.not_in(_GONE_OUT),
    )
    unsent = {row.phone: row.refusal for row in connection.execute(query)}
    connection.execute(
        update(batch)
        .where(of_it, batch.c.state.not_in(_GONE_OUT), func.coalesce(batch.c.refusal, "") != PhoneFormatError.__name__)
        .values(state=BatchState.EXPIRED, settled_at=ledger.clock, refusal=HELD_BACK)
    )
    return unsent
