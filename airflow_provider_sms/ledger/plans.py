"""A campaign's plan: stored whole or not at all, found again by every later try. Knows no wire and no Airflow.

A plan is drafted under no key, in small transactions that keep nobody waiting; one last transaction gives it
the key. What dies before that is a draft without an owner, and is discarded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, exc, func, insert, select, update

from airflow_provider_sms.gateway.phones import Reason
from airflow_provider_sms.ledger.campaigns import (
    AFTER_PLAN,
    IN_ANOTHER_INSTANCE,
    Campaign,
    Terms,
    exclude,
    read_campaign,
)
from airflow_provider_sms.ledger.database import Ledger, aware, naive
from airflow_provider_sms.ledger.drafts import DRAFT_LEASE, Draft
from airflow_provider_sms.ledger.errors import LedgerError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.owners import is_provably_dead
from airflow_provider_sms.ledger.recipients import CHUNK, REMOVED_AT_ONCE, remove_recipients, store_recipients
from airflow_provider_sms.ledger.schema import (
    BatchState,
    batch_table,
    campaign_table,
    ledger_table,
    once_table,
    recipient_table,
)
from airflow_provider_sms.ledger.texts import remove_texts

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row

# A phone that was left out for one of these is known to the plan all the same.
_KNOWN = (AFTER_PLAN, IN_ANOTHER_INSTANCE, Reason.OPTED_OUT.value, Reason.FREQUENCY_CAP.value)


class Plans:
    """Finds, drafts and replaces plans.

    :param owner: this process, see `owners.own_name`.
    """

    def __init__(self, ledger: Ledger, owner: str) -> None:
        self._ledger = ledger
        self._owner = owner

    def find(self, key: CampaignKey) -> Campaign | None:
        """Find a campaign that a try has begun.

        :raises CampaignPurgedError: its phones and texts were removed.
        """
        with self._ledger.reading() as connection:
            row = connection.execute(select(campaign_table).where(campaign_table.c.key_hash == key.hash)).first()
        return None if row is None else read_campaign(row)

    def created_at(self) -> datetime:
        """When this ledger was made, aware."""
        with self._ledger.reading() as connection:
            return aware(connection.execute(select(ledger_table.c.created_at)).scalar_one())

    def enter(self, key: CampaignKey) -> None:
        """Note that a try of this campaign has begun, so that a later one knows that this ledger is the same."""
        try:
            with self._ledger.writing() as connection:
                connection.execute(insert(campaign_table).values(**self._head(connection, key), key_hash=key.hash))
        except exc.IntegrityError:
            pass  # another try noted it

    def draft(self, key: CampaignKey, terms: Terms) -> Draft:
        """Begin a plan that nobody sees yet."""
        with self._ledger.writing() as connection:
            head = self._head(connection, key)
            digest = terms.content_hash
            start = terms.send_time or terms.opens_at or aware(head["created_at"])
            result = connection.execute(
                insert(campaign_table).values(
                    **head,
                    content=terms.content,
                    content_hash=digest,
                    category=terms.category,
                    segments=terms.segments,
                    send_time=naive(terms.send_time),
                    valid_until=naive(start + terms.valid_for),
                    once_scope=key.once_scope(digest),
                    guards=json.dumps(dict(terms.guards)) if terms.guards else None,
                )
            )
            (campaign_id,) = result.inserted_primary_key or (0,)
        return Draft(self._ledger, self._owner, key, campaign_id, terms)

    def complete(self, draft: Draft, fingerprint: str, excluded: Mapping[str, int]) -> Campaign:
        """Give a draft its key, in place of an older plan of which nothing has left.

        :param fingerprint: of the phones, whatever their order.
        :param excluded: phones left out, by reason.
        :returns: the plan that now stands: the draft, or another try's if that has begun or says the same.
        """
        draft.finish()
        try:
            with self._ledger.writing() as connection:
                self._give_key(connection, draft, fingerprint, excluded)
        except exc.IntegrityError:
            pass  # another try completed its own in the meantime
        campaign = self.find(draft.key)
        if campaign is None:
            raise LedgerError(f"Campaign {draft.key.name!r} was removed while it was being planned.")
        return campaign

    def discard_drafts(self, key: CampaignKey | None = None) -> int:
        """Remove what processes that are gone have left half done.

        :param key: of which campaign; None for all.
        :returns: how many.
        """
        query = select(campaign_table.c.id, campaign_table.c.owner, campaign_table.c.lease_until)
        query = query.where(campaign_table.c.key_hash.is_(None))
        if key is not None:
            query = query.where(campaign_table.c.planned_for == key.hash)
        with self._ledger.reading() as connection:
            now = self._ledger.now(connection)
            drafts = connection.execute(query).all()
        discarded = 0
        for row in drafts:
            if (row.lease_until <= now or is_provably_dead(row.owner)) and self._take(row):
                remove_campaign(self._ledger, row.id)
                discarded += 1
        return discarded

    def discard(self, draft: Draft) -> None:
        """Remove a draft of one's own."""
        remove_campaign(self._ledger, draft.id)

    def phones(self, campaign: Campaign) -> Iterator[list[str]]:
        """Read every phone that the plan knows, left out after the plan or not, in chunks."""
        table, position = recipient_table, -1
        while True:
            query = select(table.c.position, table.c.phone)
            query = query.where(table.c.campaign_id == campaign.id, table.c.position > position)
            query = query.where(table.c.reason.is_(None) | table.c.reason.in_(_KNOWN))
            with self._ledger.reading() as connection:
                rows = connection.execute(query.order_by(table.c.position).limit(CHUNK)).all()
            if not rows:
                return
            position = rows[-1].position
            yield [row.phone for row in rows]

    def report_added(self, campaign: Campaign, phones: Sequence[str]) -> None:
        """Keep phones that were handed in after the plan had begun: they are not sent to, and not forgotten."""
        table = recipient_table
        with self._ledger.writing() as connection:
            exclude(connection, campaign.id, AFTER_PLAN, len(phones))
            highest = select(func.max(table.c.position)).where(table.c.campaign_id == campaign.id)
            first = (connection.execute(highest).scalar() or 0) + 1
            store_recipients(
                self._ledger, connection, campaign.id, first, phones, dict.fromkeys(range(len(phones)), AFTER_PLAN)
            )

    def note_guards(self, campaign: Campaign, guards: Mapping[str, object]) -> None:
        """Keep what now holds a campaign back, where a later try has changed that."""
        table = campaign_table
        with self._ledger.writing() as connection:
            values = {"guards": json.dumps(dict(guards)) if guards else None}
            connection.execute(update(table).where(table.c.id == campaign.id).values(values))

    def _take(self, draft: Any) -> bool:
        """Make somebody's draft one's own, unless it has been carried on with: whoever wakes up finds it gone."""
        table = campaign_table
        unchanged = and_(table.c.key_hash.is_(None), table.c.owner == draft.owner)
        with self._ledger.writing() as connection:
            lease = self._ledger.now(connection) + DRAFT_LEASE
            return (
                connection.execute(
                    update(table)
                    .where(table.c.id == draft.id, unchanged, table.c.lease_until == draft.lease_until)
                    .values(owner=self._owner, lease_until=lease)
                ).rowcount
                > 0
            )

    def _head(self, connection: Connection, key: CampaignKey) -> dict[str, Any]:
        now = self._ledger.now(connection)
        head: dict[str, Any] = {
            "planned_for": key.hash,
            "name": key.name,
            "namespace": key.namespace,
            "campaign_key": key.campaign_key,
            "created_at": now,
            "owner": self._owner,
            "lease_until": now + DRAFT_LEASE,
            "phones": 0,
        }
        if key.sender is not None:
            head |= {name: getattr(key.sender, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
        return head

    def _give_key(self, connection: Connection, draft: Draft, fingerprint: str, excluded: Mapping[str, int]) -> None:
        table = campaign_table
        now = self._ledger.now(connection)
        query = select(table).where(table.c.key_hash == draft.key.hash).with_for_update()
        current = connection.execute(query).first()
        if current is not None and current.id == draft.id:
            return  # done by a commit that was not heard of
        draft.hold(connection)
        if current is not None:
            if current.purged_at is not None:
                return
            ours = connection.execute(select(table).where(table.c.id == draft.id)).one()
            if current.planned_at is not None and (
                _says_the_same(current, ours, fingerprint, draft.included) or not _take_back(connection, current.id)
            ):
                return
            connection.execute(
                update(table).where(table.c.id == current.id).values(key_hash=None, lease_until=current.created_at)
            )
        connection.execute(
            update(table)
            .where(table.c.id == draft.id)
            .values(
                key_hash=draft.key.hash,
                planned_at=now,
                phones=draft.included,
                points=draft.points,
                fingerprint=fingerprint,
                excluded=json.dumps(dict(excluded)),
            )
        )


def remove_campaign(ledger: Ledger, campaign_id: int) -> None:
    """Remove a draft, or a plan that was replaced, without a trace: nothing of it has left."""
    remove_recipients(ledger, campaign_id)
    remove_texts(ledger, campaign_id)
    table = batch_table
    with ledger.reading() as connection:
        query = select(func.max(table.c.number)).where(table.c.campaign_id == campaign_id)
        last = connection.execute(query).scalar() or 0
    for first in range(1, last + 1, REMOVED_AT_ONCE):
        some = table.c.number.between(first, first + REMOVED_AT_ONCE - 1)
        with ledger.writing() as connection:
            connection.execute(delete(table).where(table.c.campaign_id == campaign_id, some))
    with ledger.writing() as connection:
        connection.execute(delete(campaign_table).where(campaign_table.c.id == campaign_id))


def _take_back(connection: Connection, campaign_id: int) -> bool:
    """Remove a plan's batches if nothing has left; False, and to be rolled back by nobody, if anything may have."""
    table = batch_table
    of_campaign = table.c.campaign_id == campaign_id
    # Locks every batch, so that no claim comes in between.
    rows = connection.execute(select(table.c.state, table.c.resends).where(of_campaign).with_for_update()).all()
    if any(row.state != BatchState.PLANNED or row.resends for row in rows):
        return False
    connection.execute(delete(table).where(of_campaign))
    connection.execute(delete(once_table).where(once_table.c.campaign_id == campaign_id))
    return True


def _says_the_same(current: Row[Any], ours: Row[Any], fingerprint: str, phones: int) -> bool:
    if (current.fingerprint, current.phones) != (fingerprint, phones):
        return False
    names = ("content_hash", "category", "send_time", "guards")
    return all(getattr(current, name) == getattr(ours, name) for name in names)
