"""Who gets a campaign's texts: noted for the other instances of a mapped task, and for caps across campaigns.

Noted in a claim's own transaction, and taken back if nothing of the batch has left. Knows no state of a batch.
"""

from __future__ import annotations

from collections.abc import Collection, Set
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update

from airflow_provider_sms.ledger import frequency
from airflow_provider_sms.ledger.campaigns import Campaign
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.schema import once_table, texted_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.sql import Select


class Notes:
    """What is noted of one campaign.

    :param cap: how many texts a phone may get; None for any number.
    """

    def __init__(self, ledger: Ledger, campaign: Campaign, cap: frequency.Cap | None) -> None:
        self._ledger = ledger
        self._campaign = campaign
        self._cap = cap
        self._is_noted = frequency.is_noted(campaign.category, cap)
        self._scope = frequency.scope(campaign.key.namespace, campaign.category)

    def hold(self, connection: Connection) -> None:
        """Let nobody else with a cap look before this transaction has noted what it sends."""
        if self._cap is not None:
            frequency.hold(connection, self._scope)

    def enough(self, connection: Connection, phones: Collection[str], when: datetime, batch_id: int) -> Set[str]:
        """Find which of a batch's phones have got as many texts as the cap allows."""
        if self._cap is None or not phones:
            return frozenset()
        return frequency.reached(connection, self._scope, phones, self._cap, when, batch_id)

    def take(self, connection: Connection, batch_id: int, phones: Collection[str], once_scope: str) -> Set[str]:
        """Take phones for this instance of a mapped task.

        :param once_scope: within what they get the text once.
        :returns: those of them that the batch has now; the others were taken by another instance.
        """
        table = once_table
        rows = [
            {"scope": once_scope, "phone": phone, "campaign_id": self._campaign.id, "batch_id": batch_id}
            # In one order everywhere, so that two that take the same phones do not lock each other out.
            for phone in sorted(phones)
        ]
        connection.execute(self._ledger.insert_new(table), rows)
        return set(connection.execute(select(table.c.phone).where(table.c.batch_id == batch_id)).scalars())

    def note(self, connection: Connection, batch_id: int, phones: Collection[str], when: datetime) -> None:
        """Note for the caps that a batch is about to leave.

        :param when: when the phones get it, UTC without saying so.
        """
        if self._is_noted:
            frequency.note(connection, self._ledger, self._scope, phones, when, batch_id)

    def note_again(self, connection: Connection, batch_id: int, phones: Collection[str], when: datetime) -> None:
        """Note the same of another attempt, in place of what is noted of the batch.

        :param when: when the phones get it, UTC without saying so.
        """
        if self._is_noted:
            frequency.forget(connection, [batch_id])
        self.note(connection, batch_id, phones, when)

    def note_beside(self, connection: Connection, batch_id: int, phones: Collection[str], when: datetime) -> None:
        """Note for the caps that an earlier attempt was accepted while a later one is under way or done.

        Whatever becomes of the later one, this is not taken back.

        :param when: when the phones get it, UTC without saying so.
        """
        if self._is_noted:
            frequency.note_beside(connection, self._ledger, self._scope, phones, when, batch_id)

    def free(self, connection: Connection, batch_id: int) -> None:
        """Nothing of a batch has left: others may text its phones."""
        if self._is_noted:
            frequency.forget(connection, [batch_id])
        if self._campaign.once_scope is not None:
            connection.execute(delete(once_table).where(once_table.c.batch_id == batch_id))

    def hand_on(self, connection: Connection, batch_id: int, phones: Select[Any], half: int) -> None:
        """Give the notes of some of a batch's phones to the batch that was made of them.

        :param phones: selects them.
        :param half: that batch.
        """
        for notes in (texted_table, once_table):
            those = (notes.c.batch_id == batch_id) & notes.c.phone.in_(phones)
            connection.execute(update(notes).where(those).values(batch_id=half))
