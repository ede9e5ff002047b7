"""Halve a batch that was refused because of one of its phones, until that phone stands alone. Knows no wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, func, insert, select, update

from airflow_provider_sms.gateway.phones import storable
from airflow_provider_sms.ledger.claims import Claim
from airflow_provider_sms.ledger.notes import Notes
from airflow_provider_sms.ledger.schema import BatchState, batch_table, campaign_table, recipient_table
from airflow_provider_sms.ledger.settling import LONGEST_MESSAGE, is_held

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def halve(connection: Connection, claim: Claim, owner: str, notes: Notes, refusal: str, message: str) -> None:
    """Make two planned batches of one; nothing if it was settled otherwise.

    :param owner: the process that has claimed it.
    """
    table, people = batch_table, recipient_table
    middle = len(claim.phones) // 2
    # Two that split at once would give two batches one number.
    campaign = select(campaign_table.c.id).where(campaign_table.c.id == claim.campaign_id)
    connection.execute(campaign.with_for_update())
    open_states = (BatchState.SENDING, BatchState.IN_DOUBT)
    query = select(table).where(is_held(claim, owner), table.c.state.in_(open_states)).with_for_update()
    row = connection.execute(query).first()
    if row is None:
        return
    of_batch = and_(
        people.c.campaign_id == claim.campaign_id,
        people.c.position.between(row.first_position, row.last_position),
        people.c.reason.is_(None),
    )
    border = connection.execute(
        select(people.c.position).where(of_batch).order_by(people.c.position).offset(middle).limit(1)
    ).scalar_one()
    highest = select(func.max(table.c.number)).where(table.c.campaign_id == claim.campaign_id)
    number = connection.execute(highest).scalar_one() + 1
    halved = {"state": BatchState.PLANNED, "split_from": row.split_from or row.number}
    halved |= {"refusal": refusal, "message": storable(message, LONGEST_MESSAGE)}
    inserted = connection.execute(
        insert(table).values(
            **halved,
            campaign_id=claim.campaign_id,
            number=number,
            first_position=border,
            last_position=row.last_position,
            phones=len(claim.phones) - middle,
            attempt=0,
            resends=row.resends,
            accepted=0,
            text_number=row.text_number,
            segments=row.segments,
        )
    )
    if row.resends:
        (half,) = inserted.inserted_primary_key or (0,)
        later = select(people.c.phone).where(of_batch, people.c.position >= border)
        notes.hand_on(connection, row.id, later, half)
    else:
        notes.free(connection, row.id)
    connection.execute(
        update(table).where(table.c.id == row.id).values(**halved, last_position=border - 1, phones=middle)
    )
