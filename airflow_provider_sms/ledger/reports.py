"""What became of a campaign, in counts of phones: what tasks return and every message says. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, bindparam, func, select

from airflow_provider_sms.gateway.errors import PhoneRefusedError, every_error
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.ledger.database import Ledger, aware
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.schema import BatchState, batch_table, campaign_table
from airflow_provider_sms.ledger.texts import PERSONAL

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

PHONE_REFUSALS = tuple(each.__name__ for each in every_error(PhoneRefusedError))
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
