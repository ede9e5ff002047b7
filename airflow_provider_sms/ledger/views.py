"""What people and reports read: counts of a campaign, its batches, what became of each phone. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, bindparam, case, func, or_, select

from airflow_provider_sms.gateway.errors import PhoneRefusedError, every_error
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.ledger.database import Ledger, aware
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.owners import is_provably_dead
from airflow_provider_sms.ledger.plans import CHUNK
from airflow_provider_sms.ledger.schema import (
    BatchState,
    batch_table,
    campaign_table,
    delivery_table,
    receipt_table,
    recipient_table,
    reply_table,
)
from airflow_provider_sms.ledger.texts import PERSONAL

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row
    from sqlalchemy.sql import Select

PHONE_REFUSALS = tuple(each.__name__ for each in every_error(PhoneRefusedError))
_NEEDY_FIRST = (
    BatchState.IN_DOUBT,
    BatchState.SENDING,
    BatchState.PLANNED,
    BatchState.REFUSED,
    BatchState.EXPIRED,
    BatchState.ACCEPTED,
)
_LONGEST_ID = 18
MOST_TASK_IDS = 10_000
"""Personal texts can make a request a phone, and an XCom is no place for a million ids."""


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a campaign, in counts of phones.

    :param campaign: its name.
    :param task_ids: the platform's batch ids, in the order of acceptance; the first 10,000 if there are more.
    :param accepted: taken by the platform.
    :param refused: refused by the platform, or not counted by it in an accepted batch.
    :param refused_batches: of those, in batches that were refused as a whole, none of its phones singled out.
    :param in_doubt: in requests that left and were not answered.
    :param sending: in requests under way.
    :param excluded: left out, by reason.
    :param not_sent: planned, but in no request that left.
    :param expired: planned, and too late to be sent.
    :param segments: texts that one phone is charged for; of personal texts the most of any.
    :param points: what the accepted phones cost.
    :param remain_point: points left, as of the last answer that said so.
    :param points_left: what it costs to send what is planned and not sent.
    :param guards: what keeps it from going out as it is, see `guards.Guards.told`.
    :param scheduled_for: the latest time to send at that the sending hours were the reason for, aware.
    :param is_personal: whether each phone has a text of its own.
    """

    campaign: str
    task_ids: tuple[str, ...]
    accepted: int
    refused: int
    refused_batches: int
    in_doubt: int
    sending: int
    excluded: dict[str, int]
    not_sent: int
    expired: int
    segments: int
    points: int
    remain_point: int | None
    batches: int
    points_left: int = 0
    guards: Mapping[str, object] = field(default_factory=dict)
    scheduled_for: datetime | None = None
    is_personal: bool = False

    @property
    def phones(self) -> int:
        """Phones that are to be sent to, or were."""
        return self.accepted + self.refused + self.in_doubt + self.sending + self.not_sent + self.expired

    def summary(self) -> dict[str, object]:
        """The report as JSON data, without a phone or a text."""
        return {
            "campaign": self.campaign,
            "taskIds": list(self.task_ids),
            "accepted": self.accepted,
            "refused": self.refused,
            "inDoubt": self.in_doubt + self.sending,
            "excluded": sum(self.excluded.values()),
            "excludedByReason": self.excluded,
            "notSent": self.not_sent + self.expired,
            "expired": self.expired,
            "segments": self.segments,
            "points": self.points,
            "remainPoint": self.remain_point,
            "guards": dict(self.guards),
            "scheduledFor": self.scheduled_for and self.scheduled_for.astimezone(BEIJING).isoformat(timespec="seconds"),
            "dryRun": False,
        }

    def __str__(self) -> str:
        parts = [f"{self.accepted} accepted", f"{self.refused} refused", f"{self.in_doubt} in doubt"]
        parts += [f"{self.sending} being sent"] if self.sending else []
        parts += [f"{self.not_sent} not sent"]
        parts += [f"{self.expired} expired"] if self.expired else []
        return ", ".join([*parts, f"{sum(self.excluded.values())} excluded"])


def report(ledger: Ledger, campaign_id: int) -> Report:
    """Count where the phones of a campaign are now, or of what is planned of it so far."""
    with ledger.reading() as connection:
        return _report(connection, campaign_id)


def report_of_what_stands(ledger: Ledger, campaign_id: int) -> Report:
    """Count where the phones of a campaign are now, if its plan still stands.

    :raises LedgerUnreachableError: another try has put another plan in its place; repeat the try.
    """
    with ledger.reading() as connection:
        key = select(campaign_table.c.key_hash).where(campaign_table.c.id == campaign_id)
        if connection.execute(key).scalar() is None:
            raise LedgerUnreachableError(
                "Another try was handed in something else and has planned the campaign anew. Nothing was sent by this "
                "one; the next one carries on with the plan that stands."
            )
        return _report(connection, campaign_id)


@dataclass(frozen=True, slots=True)
class _Queries:
    """What a report asks, built once: to build a query takes longer than to run it."""

    head: Any
    sums: Any
    task_ids: Any
    remain_point: Any
    refused_alone: Any


@cache
def _queries() -> _Queries:
    table, campaign = batch_table, campaign_table
    this: Any = bindparam("campaign")
    head = select(campaign.c.name, campaign.c.segments, campaign.c.excluded, campaign.c.content_hash)
    head = head.add_columns(campaign.c.guards, campaign.c.scheduled_for).where(campaign.c.id == this)
    of_campaign = table.c.campaign_id == this
    each = func.coalesce(table.c.segments, bindparam("segments", type_=Integer))
    sums = select(table.c.state, func.count(), func.sum(table.c.phones), func.sum(table.c.accepted))
    sums = sums.add_columns(func.sum(table.c.accepted * each), func.sum(table.c.phones * each))
    answered = (of_campaign, table.c.state == BatchState.ACCEPTED)
    in_order = (table.c.settled_at, table.c.number)
    ids = select(table.c.taskid).where(*answered, table.c.taskid.is_not(None)).order_by(*in_order)
    left = select(table.c.remain_point).where(*answered, table.c.remain_point.is_not(None))
    alone = select(func.count()).where(
        of_campaign,
        table.c.state == BatchState.REFUSED,
        table.c.phones == 1,
        table.c.refusal.in_(PHONE_REFUSALS),
    )
    return _Queries(
        head=head,
        sums=sums.where(of_campaign).group_by(table.c.state),
        task_ids=ids.limit(bindparam("most", type_=Integer)),
        remain_point=left.order_by(*(each.desc() for each in in_order)).limit(1),
        refused_alone=alone,
    )


def _report(connection: Connection, campaign_id: int) -> Report:
    queries, this = _queries(), {"campaign": campaign_id}
    head = connection.execute(queries.head, this).one()
    segments = head.segments or 0
    phones, costs = dict.fromkeys(BatchState, 0), dict.fromkeys(BatchState, 0)
    accepted = batches = points = 0
    for state, count, in_state, counted, paid, cost in connection.execute(queries.sums, {**this, "segments": segments}):
        phones[BatchState(state)], costs[BatchState(state)] = int(in_state), int(cost)
        batches += count
        accepted += int(counted)
        points += int(paid)
    refused_alone = connection.execute(queries.refused_alone, this).scalar_one()
    return Report(
        campaign=head.name,
        task_ids=tuple(connection.execute(queries.task_ids, {**this, "most": MOST_TASK_IDS}).scalars()),
        accepted=accepted,
        refused=phones[BatchState.REFUSED] + phones[BatchState.ACCEPTED] - accepted,
        refused_batches=phones[BatchState.REFUSED] - refused_alone,
        in_doubt=phones[BatchState.IN_DOUBT],
        sending=phones[BatchState.SENDING],
        excluded=json.loads(head.excluded or "{}"),
        not_sent=phones[BatchState.PLANNED],
        expired=phones[BatchState.EXPIRED],
        segments=segments,
        points=points,
        remain_point=connection.execute(queries.remain_point, this).scalar(),
        batches=batches,
        points_left=costs[BatchState.PLANNED],
        guards=json.loads(head.guards or "{}"),
        scheduled_for=aware(head.scheduled_for),
        is_personal=head.content_hash == PERSONAL,
    )


@dataclass(frozen=True, slots=True)
class Heading:
    """What a campaign is called, where it comes from and when it was planned. Times are aware.

    :param is_draft: a plan that is being stored, or was given up: no try sends it.
    :param owner: the process that planned it, see `owners.own_name`.
    :param planned_at: None: a try has begun, and no plan is stored yet.
    :param phones: planned to be sent to.
    :param purged_at: when its phones and text were removed.
    :param waits_until: when the sending hours begin that it last waited for.
    :param scheduled_for: the latest time to send at that they were the reason for.
    """

    id: int
    name: str
    namespace: str
    is_draft: bool
    campaign_key: str | None
    dag_id: str | None
    run_id: str | None
    task_id: str | None
    map_index: int | None
    owner: str
    created_at: datetime
    lease_until: datetime
    planned_at: datetime | None
    send_time: datetime | None
    valid_until: datetime | None
    phones: int
    segments: int | None
    purged_at: datetime | None
    waits_until: datetime | None = None
    scheduled_for: datetime | None = None


_HEADING = [campaign_table.c[each.name] for each in fields(Heading) if each.name != "is_draft"]
_HEADINGS: Select[Any] = select(*_HEADING, campaign_table.c.key_hash)


@dataclass(frozen=True, slots=True)
class Part:
    """Batches of one campaign that are in one state for one reason.

    :param refusal: the class of the last thing that went wrong, see `gateway.errors`.
    :param accepted: of their phones, those that the platform counts.
    :param points: what their phones cost.
    """

    state: BatchState
    refusal: str | None
    batches: int
    phones: int
    accepted: int
    points: int


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A batch that is being sent, as far as anybody knows.

    :param lease_until: when it is in doubt, aware.
    :param is_over: that has come, or its process is provably dead.
    """

    number: int
    phones: int
    owner: str
    lease_until: datetime
    is_over: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a campaign is.

    :param now: the database's time, aware.
    """

    now: datetime
    parts: tuple[Part, ...] = ()
    under_way: tuple[UnderWay, ...] = ()

    def phones(self, *states: BatchState) -> int:
        """Count the phones of batches in these states."""
        return sum(part.phones for part in self.parts if part.state in states)

    @property
    def accepted(self) -> int:
        """Phones that the platform counts as accepted."""
        return sum(part.accepted for part in self.parts)

    @property
    def refused(self) -> int:
        """Phones that the platform refused, or did not count in an accepted batch."""
        return self.phones(BatchState.ACCEPTED, BatchState.REFUSED) - self.accepted


@dataclass(frozen=True, slots=True)
class Overview:
    """One line of a list of campaigns."""

    heading: Heading
    excluded: int
    standing: Standing


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch as it is stored; times are aware."""

    number: int
    first_position: int
    last_position: int
    phones: int
    state: BatchState
    split_from: int | None
    account: str | None
    attempt: int
    claimed_at: datetime | None
    settled_at: datetime | None
    taskid: str | None
    accepted: int
    refusal: str | None
    message: str | None
    evidence: str | None
    other_taskids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """What receipts say of the text to one phone.

    :param outcome: see `schema.Outcome`.
    :param cause: of a failure, see `gateway.receipts.CAUSES`.
    :param code: the receipt's, as it came; None if it is kept no longer.
    :param receivetime: likewise.
    :param is_contradicted: a later one says otherwise.
    """

    outcome: str
    cause: str
    code: str | None
    receivetime: str | None
    is_contradicted: bool


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one item that was handed in.

    :param phone: eleven digits, or a malformed item as it came.
    :param reason: why it is left out; None if it is not.
    :param batch: where it is sent; None if it is left out.
    :param heard: None if no receipt has come.
    """

    position: int
    phone: str = field(repr=False)
    reason: str | None
    batch: Batch | None
    heard: Heard | None = None


def newest(ledger: Ledger, most: int) -> list[Overview]:
    """List the campaigns that tries have begun, newest first."""
    table = campaign_table
    query = _HEADINGS.add_columns(table.c.excluded).where(table.c.key_hash.is_not(None))
    with ledger.reading() as connection:
        rows = connection.execute(query.order_by(table.c.id.desc()).limit(most)).all()
        standings = _standings(ledger, connection, [row.id for row in rows])
    return [Overview(_heading(row), sum(json.loads(row.excluded or "{}").values()), standings[row.id]) for row in rows]


def find(ledger: Ledger, wanted: str) -> list[Heading]:
    """Find a campaign by its name or id.

    :returns: more than one where installations that share the ledger have the same names; drafts only if there is
        nothing else.
    """
    table = campaign_table
    with ledger.reading() as connection:
        rows = connection.execute(_HEADINGS.where(table.c.name == wanted).order_by(table.c.id)).all()
        # A name comes first: it is what the messages of failed tasks say.
        if not rows and wanted.isascii() and wanted.isdigit() and len(wanted) <= _LONGEST_ID:
            rows = connection.execute(_HEADINGS.where(table.c.id == int(wanted))).all()
    found = [_heading(row) for row in rows]
    return [each for each in found if not each.is_draft] or found


def repeats(ledger: Ledger, namespace: str, campaign_key: str) -> list[Heading]:
    """Find campaigns of that key, and of the same followed by a blank and more, oldest first.

    :param campaign_key: without `%` and `_`.
    """
    table = campaign_table
    query = _HEADINGS.where(
        table.c.key_hash.is_not(None),
        table.c.namespace == namespace,
        or_(table.c.campaign_key == campaign_key, table.c.campaign_key.like(f"{campaign_key} %")),
    )
    with ledger.reading() as connection:
        return [_heading(row) for row in connection.execute(query.order_by(table.c.id))]


def standing(ledger: Ledger, campaign_id: int) -> Standing:
    """Tell how far a campaign is."""
    with ledger.reading() as connection:
        return _standings(ledger, connection, [campaign_id])[campaign_id]


def batches(ledger: Ledger, campaign_id: int, most: int | None = None) -> list[Batch]:
    """List a campaign's batches: what needs somebody comes first, what was accepted last.

    :param most: how many; None for all.
    """
    table = batch_table
    rank = case(*((table.c.state == state, place) for place, state in enumerate(_NEEDY_FIRST)))
    query = select(table).where(table.c.campaign_id == campaign_id).order_by(rank, table.c.number)
    with ledger.reading() as connection:
        return [_batch(row) for row in connection.execute(query if most is None else query.limit(most))]


def batch(ledger: Ledger, campaign_id: int, number: int) -> Batch:
    """Show one batch of a campaign, which has it."""
    table = batch_table
    query = select(table).where(table.c.campaign_id == campaign_id, table.c.number == number)
    with ledger.reading() as connection:
        return _batch(connection.execute(query).one())


@dataclass(frozen=True, slots=True)
class Shared:
    """A taskId that two batches have: somebody has settled one of them with the wrong one.

    :param number: the batch's of the campaign that was asked about.
    :param campaign: the other one's campaign, and its number there.
    """

    number: int
    taskid: str
    campaign: str
    other_number: int


def shared_task_ids(ledger: Ledger, campaign_id: int) -> list[Shared]:
    """Find taskIds of a campaign's batches that other batches have too."""
    table, campaign = batch_table, campaign_table
    other = table.alias()
    query = (
        select(table.c.number, table.c.taskid, campaign.c.name, other.c.number)
        .select_from(
            table.join(other, (other.c.taskid == table.c.taskid) & (other.c.id != table.c.id)).join(
                campaign, campaign.c.id == other.c.campaign_id
            )
        )
        .where(table.c.campaign_id == campaign_id, table.c.state == BatchState.ACCEPTED)
        .where(other.c.state == BatchState.ACCEPTED)
        .order_by(table.c.number, other.c.id)
    )
    with ledger.reading() as connection:
        return [Shared(*row) for row in connection.execute(query)]


def count_replies(ledger: Ledger, campaign_id: int) -> int:
    """Count the replies to a campaign that were heard and matched."""
    query = select(func.count()).where(reply_table.c.campaign_id == campaign_id)
    with ledger.reading() as connection:
        return int(connection.execute(query).scalar_one())


def items(ledger: Ledger, campaign_id: int) -> Iterator[list[Item]]:
    """Read what became of every item that was handed in, in order, in chunks: each item once."""
    people, table, known, push = recipient_table, batch_table, delivery_table, receipt_table
    with ledger.reading() as connection:
        highest = select(func.max(people.c.position)).where(people.c.campaign_id == campaign_id)
        last = connection.execute(highest).scalar() or 0
    for first in range(1, last + 1, CHUNK):
        end = first + CHUNK - 1
        overlapping = select(table).where(
            table.c.campaign_id == campaign_id, table.c.first_position <= end, table.c.last_position >= first
        )
        positions = select(people.c.position, people.c.phone, people.c.reason).where(
            people.c.campaign_id == campaign_id, people.c.position.between(first, end)
        )
        receipts = (
            select(known.c.position, known.c.outcome, known.c.cause, push.c.code, push.c.receivetime)
            .add_columns(known.c.contradicted_by.is_not(None))
            .select_from(known.outerjoin(push, push.c.id == known.c.receipt_id))
            .where(known.c.campaign_id == campaign_id, known.c.position.between(first, end))
        )
        with ledger.reading() as connection:
            # Batches first: in between a phone may be left out and its batch go, but never the other way round.
            found = [_batch(row) for row in connection.execute(overlapping.order_by(table.c.first_position))]
            rows = connection.execute(positions.order_by(people.c.position)).all()
            heard = {
                position: Heard(outcome, cause, code, receivetime, bool(is_contradicted))
                for position, outcome, cause, code, receivetime, is_contradicted in connection.execute(receipts)
            }
        yield list(_placed(rows, found, heard))


def _standings(ledger: Ledger, connection: Connection, campaign_ids: Sequence[int]) -> dict[int, Standing]:
    table = batch_table
    now = ledger.now(connection)
    parts: dict[int, list[Part]] = {each: [] for each in campaign_ids}
    under_way: dict[int, list[UnderWay]] = {each: [] for each in campaign_ids}
    of_them = table.c.campaign_id.in_(list(campaign_ids))
    groups = (table.c.campaign_id, table.c.state, table.c.refusal)
    cost = table.c.phones * func.coalesce(table.c.segments, campaign_table.c.segments, 0)
    sums = select(*groups, func.count(), func.sum(table.c.phones), func.sum(table.c.accepted), func.sum(cost))
    sums = sums.select_from(table.join(campaign_table, campaign_table.c.id == table.c.campaign_id))
    for campaign_id, state, refusal, count, phones, accepted, points in connection.execute(
        sums.where(of_them).group_by(*groups).order_by(*groups)
    ):
        parts[campaign_id].append(Part(BatchState(state), refusal, count, int(phones), int(accepted), int(points)))
    sending = select(table.c.campaign_id, table.c.number, table.c.phones, table.c.owner, table.c.lease_until)
    sending = sending.where(of_them, table.c.state == BatchState.SENDING)
    for row in connection.execute(sending.order_by(table.c.campaign_id, table.c.number)):
        is_over = row.lease_until <= now or is_provably_dead(row.owner)
        under_way[row.campaign_id].append(UnderWay(row.number, row.phones, row.owner, aware(row.lease_until), is_over))
    return {each: Standing(aware(now), tuple(parts[each]), tuple(under_way[each])) for each in campaign_ids}


def _heading(row: Row[Any]) -> Heading:
    values: dict[str, Any] = {column.name: getattr(row, column.name) for column in _HEADING}
    values = {name: aware(value) if isinstance(value, datetime) else value for name, value in values.items()}
    return Heading(**values, is_draft=row.key_hash is None)


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        number=row.number,
        first_position=row.first_position,
        last_position=row.last_position,
        phones=row.phones,
        state=BatchState(row.state),
        split_from=row.split_from,
        account=row.account,
        attempt=row.attempt,
        claimed_at=aware(row.claimed_at),
        settled_at=aware(row.settled_at),
        taskid=row.taskid,
        accepted=row.accepted,
        refusal=row.refusal,
        message=row.message,
        evidence=row.evidence,
        other_taskids=tuple((row.other_taskids or "").split()),
    )


def _placed(rows: Sequence[Any], found: Sequence[Batch], heard: Mapping[int, Heard]) -> Iterator[Item]:
    """Give each item its batch; both are in the order of positions."""
    following = iter(found)
    batch = next(following, None)
    for position, phone, reason in rows:
        while batch is not None and batch.last_position < position:
            batch = next(following, None)
        is_inside = batch is not None and reason is None and batch.first_position <= position
        yield Item(position, phone, reason, batch if is_inside else None, heard.get(position))
