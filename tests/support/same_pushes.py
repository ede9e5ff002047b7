"""The same pushes to several receivers of one ledger, at the same time, and what the ledger must make of them.

Knows the receiver's address, and the ledger's tables.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack

from sqlalchemy import func, select

from airflow_provider_sms.ledger import deliveries
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.schema import (
    Outcome,
    delivery_count_table,
    delivery_table,
    opt_out_table,
    receipt_table,
    recipient_table,
    reply_table,
)
from benchmarks.filled_ledger import Batch, add_campaign
from tests.support.push_load import Load, Receipt, Reply, request
from tests.support.receiver_process import TOKEN
from tests.support.simulator import wait_until

CONNECTIONS = 16
ADDRESS = f"/sms/push?token={TOKEN}"
Push = Receipt | Reply


def push_everything_to(ledger: Ledger, ports: Sequence[int], phones: int) -> None:
    """Push the same to all of them, in an order of each one's own, and see what the ledger makes of it.

    :param phones: how many phones' receipts these are.
    """
    chance = random.Random(7)
    batches = add_campaign(ledger, "several", phones)
    pushes, expected = _pushes(batches, chance)
    with ExitStack() as stack:
        loads = []
        for port in ports:
            chance.shuffle(pushes)
            # Some of them twice to the same one, too.
            requests = _requests(pushes + chance.sample(pushes, 200))
            loads.append(stack.enter_context(Load(port, requests, CONNECTIONS)))
        for load in loads:
            load.wait(120)
    assert [(load.statuses, load.lost) for load in loads] == [({200: len(pushes) + 200}, 0)] * len(ports)

    with ledger.reading() as connection:
        receipts, replies = (
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (receipt_table, reply_table)
        )
    assert receipts == sum(isinstance(push, Receipt) for push in pushes)
    assert receipts + replies == len(pushes)

    wait_until(lambda: not _new(ledger), 60)
    with ledger.reading() as connection:
        opted_out = connection.execute(select(opt_out_table.c.phone)).scalars().all()
        rows = connection.execute(
            select(recipient_table.c.phone, delivery_table.c.outcome, delivery_table.c.contradicted_by).join_from(
                delivery_table,
                recipient_table,
                (recipient_table.c.campaign_id == delivery_table.c.campaign_id)
                & (recipient_table.c.position == delivery_table.c.position),
            )
        ).all()
        campaign = connection.execute(select(delivery_count_table.c.campaign_id).distinct()).scalar_one()
    assert opted_out == [str(batches[0].phones[0])]
    assert len(rows) == phones
    found = {phone: outcome for phone, outcome, _ in rows}
    contradicted = {phone for phone, _, other in rows if other is not None}
    assert contradicted == {phone for phone, outcome in expected.items() if outcome is None}
    assert {phone: found[phone] for phone, outcome in expected.items() if outcome} == {
        phone: outcome for phone, outcome in expected.items() if outcome
    }
    counts = deliveries.of_campaigns(ledger, [campaign])[campaign]
    told = Counter(found.values())
    assert (counts.delivered, counts.failed_total, counts.unknown, counts.contradicted) == (
        told[Outcome.DELIVERED],
        told[Outcome.FAILED],
        0,
        len(contradicted),
    )
    assert counts.final == phones


def _pushes(batches: Sequence[Batch], chance: random.Random) -> tuple[list[Push], dict[str, str | None]]:
    """What is pushed, and what is to come of each phone; None where receipts disagree and the first one counts."""
    pushes: list[Push] = []
    expected: dict[str, str | None] = {}
    for batch in batches:
        for number in batch.phones:
            phone = str(number)
            good, bad = Receipt(batch.taskid, phone), Receipt(batch.taskid, phone, "0", "MK:0001")
            fate = chance.random()
            if fate < 0.05:
                pushes += [good, bad]
                expected[phone] = None
            elif fate < 0.3:
                pushes.append(bad)
                expected[phone] = Outcome.FAILED
            else:
                pushes.append(good)
                expected[phone] = Outcome.DELIVERED
            if fate > 0.9:
                pushes.append(Receipt(batch.taskid, phone, "2", "ACCEPTD"))
            if fate > 0.95:
                pushes.append(Reply(batch.taskid, phone))
    pushes.append(Reply(batches[0].taskid, str(batches[0].phones[0]), "TD"))
    return pushes, expected


def _requests(pushes: Sequence[Push]) -> Iterator[tuple[Hashable, bytes]]:
    for number, push in enumerate(pushes):
        yield number, request(ADDRESS, push.body())


def _new(ledger: Ledger) -> int:
    with ledger.reading() as connection:
        return sum(
            connection.execute(select(func.count()).select_from(table).where(table.c.matching.is_(None))).scalar_one()
            for table in (receipt_table, reply_table)
        )
