"""What people look at: campaigns, how far each is, and its batches. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, or_, select

from airflow_provider_sms.ledger.database import Ledger, aware
from airflow_provider_sms.ledger.owners import is_provably_dead
from airflow_provider_sms.ledger.schema import BatchState, batch_table, campaign_table, reply_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row
    from sqlalchemy.sql import Select

_NEEDY_FIRST = (
    BatchState.IN_DOUBT,
    BatchState.SENDING,
    BatchState.PLANNED,
    BatchState.REFUSED,
    BatchState.EXPIRED,
    BatchState.ACCEPTED,
)
_LONGEST_ID = 18


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
        return [read_batch(row) for row in connection.execute(query if most is None else query.limit(most))]


def batch(ledger: Ledger, campaign_id: int, number: int) -> Batch:
    """Show one batch of a campaign, which has it."""
    table = batch_table
    query = select(table).where(table.c.campaign_id == campaign_id, table.c.number == number)
    with ledger.reading() as connection:
        return read_batch(connection.execute(query).one())


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


def read_batch(row: Row[Any]) -> Batch:
    """Make a batch of a row of all the table's columns."""
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
