"""What people and reports read: counts of a campaign, its batches, what became of each phone. Changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from airflow_provider_sms.gateway.errors import PhoneRefusedError, every_error
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.schema import BatchState, batch_table, campaign_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

PHONE_REFUSALS = tuple(each.__name__ for each in every_error(PhoneRefusedError))


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a campaign, in counts of phones.

    :param campaign: its name.
    :param task_ids: the platform's batch ids, in the order of acceptance.
    :param accepted: taken by the platform.
    :param refused: refused by the platform, or not counted by it in an accepted batch.
    :param refused_batches: of those, in batches that were refused as a whole, none of its phones singled out.
    :param in_doubt: in requests that left and were not answered.
    :param sending: in requests under way.
    :param excluded: left out, by reason.
    :param not_sent: planned, but in no request that left.
    :param expired: planned, and too late to be sent.
    :param segments: texts that one phone is charged for.
    :param points: what the accepted phones cost.
    :param remain_point: points left, as of the last answer that said so.
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
        }

    def __str__(self) -> str:
        parts = [f"{self.accepted} accepted", f"{self.refused} refused", f"{self.in_doubt} in doubt"]
        parts += [f"{self.sending} being sent"] if self.sending else []
        parts += [f"{self.not_sent} not sent"]
        parts += [f"{self.expired} expired"] if self.expired else []
        return ", ".join([*parts, f"{sum(self.excluded.values())} excluded"])


def report(ledger: Ledger, campaign_id: int) -> Report:
    """Count where the phones of a campaign are now."""
    with ledger.reading() as connection:
        return _report(connection, campaign_id)


def _report(connection: Connection, campaign_id: int) -> Report:
    table, campaign = batch_table, campaign_table
    head = connection.execute(
        select(campaign.c.name, campaign.c.segments, campaign.c.excluded).where(campaign.c.id == campaign_id)
    ).one()
    of_campaign = table.c.campaign_id == campaign_id
    sums = select(table.c.state, func.count(), func.sum(table.c.phones), func.sum(table.c.accepted))
    phones = dict.fromkeys(BatchState, 0)
    accepted = batches = 0
    for state, count, in_state, counted in connection.execute(sums.where(of_campaign).group_by(table.c.state)):
        phones[BatchState(state)] = int(in_state)
        batches += count
        accepted += int(counted)
    answered = select(table.c.taskid, table.c.remain_point).where(of_campaign, table.c.state == BatchState.ACCEPTED)
    answers = connection.execute(answered.order_by(table.c.settled_at, table.c.number)).all()
    segments = head.segments or 0
    singled_out = select(func.count()).where(
        of_campaign,
        table.c.state == BatchState.REFUSED,
        table.c.phones == 1,
        table.c.refusal.in_(PHONE_REFUSALS),
    )
    refused_alone = connection.execute(singled_out).scalar_one()
    return Report(
        campaign=head.name,
        task_ids=tuple(row.taskid for row in answers if row.taskid),
        accepted=accepted,
        refused=phones[BatchState.REFUSED] + phones[BatchState.ACCEPTED] - accepted,
        refused_batches=phones[BatchState.REFUSED] - refused_alone,
        in_doubt=phones[BatchState.IN_DOUBT],
        sending=phones[BatchState.SENDING],
        excluded=json.loads(head.excluded or "{}"),
        not_sent=phones[BatchState.PLANNED],
        expired=phones[BatchState.EXPIRED],
        segments=segments,
        points=accepted * segments,
        remain_point=next((row.remain_point for row in reversed(answers) if row.remain_point is not None), None),
        batches=batches,
    )
