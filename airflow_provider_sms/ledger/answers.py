"""What was answered to one campaign, by those whom it texted. Reads the ledger, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from airflow_provider_sms.gateway.approvals import Reply
from airflow_provider_sms.ledger.database import Ledger, aware
from airflow_provider_sms.ledger.errors import LedgerVersionError
from airflow_provider_sms.ledger.schema import campaign_table, ledger_table, recipient_table, reply_table


@dataclass(frozen=True, slots=True)
class Answered:
    """The replies to a campaign so far.

    :param campaign_id: the ledger's.
    :param asked_at: when it was planned, aware.
    :param now: by the database, aware.
    :param count: of all replies to it, as triggers count them.
    :param replies: those from phones that were asked, in the order that they came in.
    """

    campaign_id: int
    asked_at: datetime
    now: datetime
    count: int
    replies: tuple[Reply, ...]


def secret(ledger: Ledger) -> str:
    """What one-time codes are made from.

    :raises LedgerVersionError: this ledger has none.
    """
    with ledger.reading() as connection:
        found = connection.execute(select(ledger_table.c.secret)).scalar()
    if not found:
        raise LedgerVersionError("The ledger has no secret to make codes from; run `airflow-sms ledger upgrade`.")
    return str(found)


def read(ledger: Ledger, campaign_id: int) -> Answered:
    """Read what was answered to a campaign until now."""
    reply, people, campaign = reply_table, recipient_table, campaign_table
    with ledger.reading() as connection:
        now = ledger.now(connection)
        asked_at = connection.execute(select(campaign.c.planned_at).where(campaign.c.id == campaign_id)).scalar_one()
        asked = select(people.c.phone).where(people.c.campaign_id == campaign_id, people.c.reason.is_(None))
        phones = set(connection.execute(asked).scalars())
        query = select(reply.c.id, reply.c.mobile, reply.c.phone, reply.c.content, reply.c.received_at)
        rows = connection.execute(query.where(reply.c.campaign_id == campaign_id).order_by(reply.c.id)).all()
    replies = tuple(
        Reply(row.id, phone, row.content or "", aware(row.received_at))
        for row in rows
        if (phone := row.phone or row.mobile) in phones
    )
    return Answered(campaign_id, aware(asked_at), aware(now), len(rows), replies)
