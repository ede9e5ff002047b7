"""A campaign's plan: stored whole or not at all, found again by every later try. Knows no wire and no Airflow.

A plan is drafted under no key, in small transactions that keep nobody waiting; one last transaction gives it
the key. What dies before that is a draft without an owner, and is discarded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, exc, func, insert, select, update

from airflow_provider_sms.gateway.phones import Reason
from airflow_provider_sms.ledger.database import Ledger, aware, naive
from airflow_provider_sms.ledger.errors import CampaignPurgedError, LedgerError, LedgerUnreachableError
from airflow_provider_sms.ledger.keys import CampaignKey, TaskInstanceKey, text_hash
from airflow_provider_sms.ledger.owners import is_provably_dead
from airflow_provider_sms.ledger.schema import (
    BatchState,
    batch_table,
    campaign_table,
    ledger_table,
    once_table,
    recipient_table,
)
from airflow_provider_sms.ledger.texts import PERSONAL, OwnText, remove_texts, store_texts

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row

DRAFT_LEASE = timedelta(minutes=10)
CHUNK = 10_000
_DISCARDED_AT_ONCE = 50_000
AFTER_PLAN = "after plan"
IN_ANOTHER_INSTANCE = "in another instance"
# A phone that was left out for one of these is known to the plan all the same.
_KNOWN = (AFTER_PLAN, IN_ANOTHER_INSTANCE, Reason.OPTED_OUT.value, Reason.FREQUENCY_CAP.value)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is to be sent, and how: all that a later try may not change without saying so.

    :param content: the text as it goes out; None if each phone has its own.
    :param segments: texts that one phone is charged for; of personal texts the most of any.
    :param send_time: aware, or None for at once.
    :param valid_for: how long after the plan, or after `send_time`, texts may still go out.
    :param batch_size: phones in one request.
    :param category: what kind of text it is.
    :param guards: what keeps it from going out as it is, as JSON data.
    :param opens_at: when the first text may go out, if not yet, aware: `valid_for` counts from then.
    """

    content: str | None = field(repr=False)
    segments: int
    send_time: datetime | None
    valid_for: timedelta
    batch_size: int
    category: str | None = None
    guards: Mapping[str, object] = field(default_factory=dict)
    opens_at: datetime | None = None

    @property
    def content_hash(self) -> str:
        """What tells the text from another; that texts are personal, if they are."""
        return PERSONAL if self.content is None else text_hash(self.content)

    def differences(self, stored: Campaign) -> list[str]:
        """Name what differs from a stored plan and matters to those who are texted."""
        pairs = {
            "content": (self.content_hash, stored.content_hash),
            "category": (self.category, stored.category),
            "send_time": (self.send_time, stored.send_time),
        }
        return [name for name, (ours, theirs) in pairs.items() if ours != theirs]


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign as it is stored.

    :param planned_at: None: a try has begun, and no plan is stored yet.
    :param content: the text; empty if each phone has its own.
    :param segments: texts that one phone is charged for; of personal texts the most of any.
    :param points: what it costs at most.
    :param excluded: phones left out, by reason.
    """

    id: int
    name: str
    key: CampaignKey
    key_hash: str | None
    planned_at: datetime | None
    content: str = field(repr=False)
    content_hash: str | None
    category: str | None
    segments: int
    points: int
    send_time: datetime | None
    valid_until: datetime | None
    phones: int
    excluded: dict[str, int]
    fingerprint: str | None
    once_scope: str | None
    guards: str | None = None

    @property
    def is_personal(self) -> bool:
        """Whether each phone has a text of its own."""
        return self.content_hash == PERSONAL


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
        return None if row is None else _campaign(row)

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


class Draft:
    """A plan while it is being stored.

    :param owner: the process that stores it.
    :param terms: say how many phones are in one request, and what one costs.
    """

    def __init__(self, ledger: Ledger, owner: str, key: CampaignKey, id: int, terms: Terms) -> None:  # noqa: A002
        self.key = key
        self.id = id
        self.included = 0
        self.points = 0
        self._ledger = ledger
        self._owner = owner
        self._batch_size = terms.batch_size
        self._segments = terms.segments
        self._handed_in = 0
        self._batches = 0
        # Positions of phones that no batch has yet, fewer than a batch, and which text they get.
        self._open: list[int] = []
        self._text: OwnText | None = None

    def add(
        self, phones: Sequence[str], excluded: Mapping[int, str], texts: Sequence[OwnText | None] | None = None
    ) -> None:
        """Store the next items, and the batches that they fill.

        :param phones: one for each item.
        :param excluded: which of them are left out, by place in `phones`, and why.
        :param texts: which text each gets, those with the same text one after the other; None: the campaign's.
        """
        first = self._handed_in + 1
        included = [place for place in range(len(phones)) if place not in excluded]
        runs = _runs(included, first, texts)
        batches: list[dict[str, Any]] = []
        open_, text = self._open, self._text
        points = 0
        for own, places in runs:
            if own != text and open_:
                batches += self._cut(open_, text, len(batches))
                open_ = []
            text = own
            waiting = open_ + places
            whole = len(waiting) - len(waiting) % self._batch_size
            batches += self._cut(waiting[:whole], text, len(batches))
            open_ = waiting[whole:]
            points += len(places) * (self._segments if text is None else text.segments)
        with self._ledger.writing() as connection:
            store_recipients(self._ledger, connection, self.id, first, phones, excluded)
            store_texts(self._ledger, connection, self.id, [own for own, _ in runs if own is not None])
            self._store_batches(connection, batches)
            self.hold(connection)
        # Only now: a step that failed is repeated as it was.
        self._handed_in += len(phones)
        self.included += len(included)
        self.points += points
        self._batches += len(batches)
        self._open, self._text = open_, text

    def finish(self) -> None:
        """Store the last batch, which may be smaller."""
        if not self._open:
            return
        batches = self._cut(self._open, self._text, 0)
        with self._ledger.writing() as connection:
            self._store_batches(connection, batches)
            self.hold(connection)
        self._batches += len(batches)
        self._open = []

    def hold(self, connection: Connection) -> None:
        """Renew the lease, and see that nobody has taken the draft away while this process stood still.

        :raises LedgerUnreachableError: somebody has; whatever this transaction has stored must not stay.
        """
        table = campaign_table
        held = connection.execute(
            update(table)
            .where(table.c.id == self.id, table.c.key_hash.is_(None), table.c.owner == self._owner)
            .values(lease_until=self._ledger.now(connection) + DRAFT_LEASE)
        )
        if not held.rowcount:
            raise LedgerUnreachableError(
                f"Campaign {self.key.name!r}: this try stood still while it was planning, and another one has removed "
                "its half plan. Nothing was sent by this try."
            )

    def _cut(self, places: Sequence[int], text: OwnText | None, before: int) -> list[dict[str, Any]]:
        size = self._batch_size
        cuts = [places[start : start + size] for start in range(0, len(places), size)]
        return [
            {
                "campaign_id": self.id,
                "number": number,
                "first_position": cut[0],
                "last_position": cut[-1],
                "phones": len(cut),
                "state": BatchState.PLANNED,
                "attempt": 0,
                "resends": 0,
                "accepted": 0,
                "text_number": None if text is None else text.number,
                "segments": None if text is None else text.segments,
            }
            for number, cut in enumerate(cuts, self._batches + before + 1)
        ]

    def _store_batches(self, connection: Connection, batches: Sequence[dict[str, Any]]) -> None:
        # A commit that was not heard of may have stored them.
        numbers = [batch["number"] for batch in batches]
        if not numbers:
            return
        table = batch_table
        connection.execute(
            delete(table).where(table.c.campaign_id == self.id, table.c.number.between(numbers[0], numbers[-1]))
        )
        connection.execute(insert(table), list(batches))


def _runs(
    included: Sequence[int], first: int, texts: Sequence[OwnText | None] | None
) -> list[tuple[OwnText | None, list[int]]]:
    """Which positions get the same text, by text in their order.

    :param included: places in `texts`.
    :param first: the position of the first place.
    """
    if texts is None:
        return [(None, [first + place for place in included])]
    runs = groupby(included, key=lambda place: texts[place])
    return [(text, [first + place for place in places]) for text, places in runs]


def store_recipients(
    ledger: Ledger,
    connection: Connection,
    campaign_id: int,
    first: int,
    phones: Sequence[str],
    reasons: Mapping[int, str],
) -> None:
    """Store items at successive positions, as quickly as each database can.

    :param first: the first one's position.
    :param reasons: which of them are left out, by place in `phones`, and why.
    """
    if not phones:
        return
    table = recipient_table
    last = first + len(phones) - 1
    # A commit that was not heard of may have stored them.
    connection.execute(delete(table).where(table.c.campaign_id == campaign_id, table.c.position.between(first, last)))
    if ledger.kind == "postgresql":
        # No phone and no reason holds a line break. The last one keeps a lone empty item from being no item.
        values = {
            "campaign": campaign_id,
            "before": first - 1,
            "phones": "\n".join(phones) + "\n",
            "reasons": "\n".join(reasons.get(place, "") for place in range(len(phones))) + "\n" if reasons else None,
            "count": len(phones),
        }
        connection.exec_driver_sql(_UNNEST, values)
    elif ledger.kind == "sqlite":
        connection.exec_driver_sql(_JSON_EACH, (campaign_id, first, json.dumps(list(phones), ensure_ascii=False)))
        if reasons:
            left_out = [(reason, campaign_id, first + place) for place, reason in reasons.items()]
            connection.exec_driver_sql(_REASON, left_out)
    else:
        rows = [(campaign_id, at, phone, reasons.get(at - first)) for at, phone in enumerate(phones, first)]
        connection.exec_driver_sql(_VALUES, rows)


_VALUES = "INSERT INTO sms_recipient (campaign_id, position, phone, reason) VALUES (%s, %s, %s, %s)"
# All in one value: row by row takes four times as long.
_JSON_EACH = "INSERT INTO sms_recipient (campaign_id, position, phone) SELECT ?, ? + key, value FROM json_each(?)"
_REASON = "UPDATE sms_recipient SET reason = ? WHERE campaign_id = ? AND position = ?"
_UNNEST = """
INSERT INTO sms_recipient (campaign_id, position, phone, reason)
SELECT %(campaign)s, %(before)s + item.place, item.phone, nullif(item.reason, '')
FROM unnest(string_to_array(%(phones)s, E'\\n'), string_to_array(%(reasons)s, E'\\n'))
     WITH ORDINALITY AS item (phone, reason, place)
WHERE item.place <= %(count)s
"""


def exclude(connection: Connection, campaign_id: int, reason: str, count: int) -> None:
    """Add to a campaign's count of phones that are left out."""
    table = campaign_table
    query = select(table.c.excluded).where(table.c.id == campaign_id).with_for_update()
    counts = json.loads(connection.execute(query).scalar() or "{}")
    counts[reason] = counts.get(reason, 0) + count
    connection.execute(update(table).where(table.c.id == campaign_id).values(excluded=json.dumps(counts)))


def remove_recipients(ledger: Ledger, campaign_id: int) -> None:
    """Remove a campaign's recipients, in transactions that keep nobody waiting."""
    table = recipient_table
    with ledger.reading() as connection:
        query = select(func.max(table.c.position)).where(table.c.campaign_id == campaign_id)
        last = connection.execute(query).scalar() or 0
    for first in range(1, last + 1, _DISCARDED_AT_ONCE):
        span = table.c.position.between(first, first + _DISCARDED_AT_ONCE - 1)
        with ledger.writing() as connection:
            connection.execute(delete(table).where(table.c.campaign_id == campaign_id, span))


def remove_campaign(ledger: Ledger, campaign_id: int) -> None:
    """Remove a draft, or a plan that was replaced, without a trace: nothing of it has left."""
    remove_recipients(ledger, campaign_id)
    remove_texts(ledger, campaign_id)
    table = batch_table
    with ledger.reading() as connection:
        query = select(func.max(table.c.number)).where(table.c.campaign_id == campaign_id)
        last = connection.execute(query).scalar() or 0
    for first in range(1, last + 1, _DISCARDED_AT_ONCE):
        some = table.c.number.between(first, first + _DISCARDED_AT_ONCE - 1)
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


def _campaign(row: Row[Any]) -> Campaign:
    if row.purged_at is not None:
        raise CampaignPurgedError(
            f"Campaign {row.name!r} was sent, and its phones and texts were removed on {row.purged_at:%Y-%m-%d}; it is "
            "not sent again. To send anew on purpose, use another campaign_key, or start another DAG run."
        )
    sender = None if row.dag_id is None else TaskInstanceKey(row.dag_id, row.run_id, row.task_id, row.map_index)
    return Campaign(
        id=row.id,
        name=row.name,
        key=CampaignKey(row.namespace, sender, row.campaign_key),
        key_hash=row.key_hash,
        planned_at=aware(row.planned_at),
        content=row.content or "",
        content_hash=row.content_hash,
        category=row.category,
        segments=row.segments or 0,
        points=row.phones * (row.segments or 0) if row.points is None else row.points,
        send_time=aware(row.send_time),
        valid_until=aware(row.valid_until),
        phones=row.phones,
        excluded=json.loads(row.excluded or "{}"),
        fingerprint=row.fingerprint,
        once_scope=row.once_scope,
        guards=row.guards,
    )
