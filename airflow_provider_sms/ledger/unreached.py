"""Which phones of a campaign its text has not reached, as far as receipts say, in chunks. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, or_, select

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import CampaignPurgedError
from airflow_provider_sms.ledger.recipients import CHUNK
from airflow_provider_sms.ledger.schema import (
    BatchState,
    Outcome,
    batch_table,
    campaign_table,
    delivery_table,
    recipient_table,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


class Miss(StrEnum):
    """Why a text has not reached a phone."""

    # Its first final receipt says so, and no later one says otherwise.
    FAILED = "failed"
    # The platform has taken it, and there is no final receipt.
    UNKNOWN = "unknown"
    # The platform has not taken it.
    REFUSED = "refused"
    # It was too late to be sent.
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Missed:
    """Which phones are meant.

    :param causes: of failures, see `gateway.receipts.CAUSES`.
    """

    misses: Set[Miss]
    causes: Set[str]


def read(ledger: Ledger, campaign_id: int, missed: Missed) -> Iterator[list[str]]:
    """Read the phones of a campaign that its text has missed in one of these ways, in the order of the plan.

    Phones in doubt, or still to be sent to, are none of them.

    :returns: phones in chunks of at most 10,000; none is empty.
    :raises CampaignPurgedError: they were removed.
    """
    for first in range(1, _last(ledger, campaign_id) + 1, CHUNK):
        end = first + CHUNK - 1
        with ledger.reading() as connection:
            # Batches first: in between a phone may be left out and its batch go, but never the other way round.
            states = _States(connection, campaign_id, first, end)
            rows = connection.execute(_candidates(campaign_id, first, end, missed)).all()
        if found := [row.phone for row in rows if _miss(row, states.at(row.position)) in missed.misses]:
            yield found


def _last(ledger: Ledger, campaign_id: int) -> int:
    people, campaign = recipient_table, campaign_table
    with ledger.reading() as connection:
        head = connection.execute(select(campaign.c.name, campaign.c.purged_at).where(campaign.c.id == campaign_id))
        name, purged_at = head.one()
        if purged_at is not None:
            raise CampaignPurgedError(f"Campaign {name!r}: its phones were removed on {purged_at:%Y-%m-%d}.")
        highest = select(func.max(people.c.position)).where(people.c.campaign_id == campaign_id)
        return int(connection.execute(highest).scalar() or 0)


def _candidates(campaign_id: int, first: int, end: int, missed: Missed) -> Any:
    people, known = recipient_table, delivery_table
    query = select(people.c.position, people.c.phone, known.c.outcome).select_from(
        people.outerjoin(
            known, and_(known.c.campaign_id == people.c.campaign_id, known.c.position == people.c.position)
        )
    )
    is_failed = and_(
        known.c.outcome == Outcome.FAILED.value,
        known.c.cause.in_(sorted(missed.causes)),
        known.c.contradicted_by.is_(None),
    )
    is_open = or_(known.c.outcome.is_(None), known.c.outcome == Outcome.UNKNOWN.value)
    return query.where(
        people.c.campaign_id == campaign_id,
        people.c.position.between(first, end),
        people.c.reason.is_(None),
        is_failed if missed.misses == {Miss.FAILED} else or_(is_failed, is_open),
    ).order_by(people.c.position)


class _States:
    """In which state the batch of each position is; asked for in the order of positions."""

    def __init__(self, connection: Connection, campaign_id: int, first: int, end: int) -> None:
        table = batch_table
        columns = (table.c.first_position, table.c.last_position, table.c.state, table.c.resends)
        overlapping = select(*columns).where(
            table.c.campaign_id == campaign_id, table.c.first_position <= end, table.c.last_position >= first
        )
        self._following = iter(connection.execute(overlapping.order_by(table.c.first_position)).all())
        self._batch: Any = next(self._following, None)

    def at(self, position: int) -> str | None:
        """The state; None if there is no batch, or an earlier attempt was in doubt, and may have reached the phone."""
        while self._batch is not None and self._batch.last_position < position:
            self._batch = next(self._following, None)
        is_inside = self._batch is not None and self._batch.first_position <= position
        if not is_inside:
            return None
        # It was in doubt before it was sent again, or was to be.
        is_in_doubt = self._batch.resends and self._batch.state != BatchState.ACCEPTED
        return BatchState.IN_DOUBT if is_in_doubt else self._batch.state


_MISSES = {
    BatchState.ACCEPTED.value: Miss.UNKNOWN,
    BatchState.REFUSED.value: Miss.REFUSED,
    BatchState.EXPIRED.value: Miss.EXPIRED,
}


def _miss(row: Any, state: str | None) -> Miss | None:
    return Miss.FAILED if row.outcome == Outcome.FAILED.value else _MISSES.get(state or "")
