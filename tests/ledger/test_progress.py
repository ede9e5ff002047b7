"""What triggers read of deliveries is what everybody else reads, in one row for each campaign or batch."""

from __future__ import annotations

from sqlalchemy import event

from airflow_provider_sms.ledger import deliveries
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.deliveries import Deliveries, Progress
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.schema import BatchState, batch_table
from tests.support.campaigns import PHONES, Campaigns, Platform
from tests.support.pushed import match, receipts, receive


def test_it_says_the_same(any_ledger: Ledger) -> None:
    campaigns = Campaigns(any_ledger)
    campaigns.run(Platform(), PHONES[:8])
    campaigns.run(Platform(), PHONES[:2], key=CampaignKey("", campaign_key="other"))
    campaigns.change_batches(batch_table.c.number == 4, state=BatchState.SENDING.value, accepted=0)
    receive(
        any_ledger,
        *receipts("T1", PHONES[:2]),
        *receipts("T2", PHONES[2:3], "0", "MK:0001"),
        *receipts("T2", PHONES[3:4], "0", "MX:0012"),
        *receipts("T3", PHONES[4:5], "9"),
    )
    match(any_ledger)
    batches = campaigns.batches()
    ids = [batch.id for batch in batches]
    campaign_ids = {batch.campaign_id for batch in batches}
    found = deliveries.progress(any_ledger, [*campaign_ids, 999], [*ids, 999])
    whole = deliveries.read(any_ledger, [*campaign_ids, 999], [*ids, 999])
    assert found == tuple({each: _progress(of[each]) for each in of} for of in whole)
    assert found[0][batches[0].campaign_id] == Progress(phones=8, accepted=6, open=2, delivered=2, failed=2)
    assert all(isinstance(each, int) for of in found for one in of.values() for each in one)


def _progress(counts: Deliveries) -> Progress:
    return Progress(counts.phones, counts.accepted, counts.open, counts.delivered, counts.failed_total)


def test_for_ten_thousand_in_one_query(any_ledger: Ledger) -> None:
    asked: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.lstrip().upper().startswith("SELECT"):
            asked.append(statement)

    event.listen(any_ledger.engine, "before_cursor_execute", note)
    try:
        assert deliveries.progress(any_ledger, range(10_000), range(10_000)) == ({}, {})
        assert deliveries.progress(any_ledger, (), ()) == ({}, {})
    finally:
        event.remove(any_ledger.engine, "before_cursor_execute", note)
    assert len(asked) == 1
