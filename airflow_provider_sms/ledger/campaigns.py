"""A campaign and its terms, as they are stored. Knows no wire and no Airflow."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from airflow_provider_sms.ledger.database import aware
from airflow_provider_sms.ledger.errors import CampaignPurgedError
from airflow_provider_sms.ledger.keys import CampaignKey, TaskInstanceKey, text_hash
from airflow_provider_sms.ledger.schema import campaign_table
from airflow_provider_sms.ledger.texts import PERSONAL

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row

AFTER_PLAN = "after plan"
IN_ANOTHER_INSTANCE = "in another instance"


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


def read_campaign(row: Row[Any]) -> Campaign:
    """Make a campaign of a row of all the table's columns.

    :raises CampaignPurgedError: its phones and texts were removed.
    """
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


def exclude(connection: Connection, campaign_id: int, reason: str, count: int) -> None:
    """Add to a campaign's count of phones that are left out."""
    table = campaign_table
    query = select(table.c.excluded).where(table.c.id == campaign_id).with_for_update()
    counts = json.loads(connection.execute(query).scalar() or "{}")
    counts[reason] = counts.get(reason, 0) + count
    connection.execute(update(table).where(table.c.id == campaign_id).values(excluded=json.dumps(counts)))
