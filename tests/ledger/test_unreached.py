"""Whom a campaign's text has not reached, on each database."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from sqlalchemy import update

from airflow_provider_sms.gateway.errors import AnswerLostError, PhoneFormatError
from airflow_provider_sms.gateway.receipts import CAUSES
from airflow_provider_sms.ledger import unreached
from airflow_provider_sms.ledger.database import Ledger, naive
from airflow_provider_sms.ledger.errors import CampaignPurgedError
from airflow_provider_sms.ledger.schema import BatchState, batch_table, campaign_table
from airflow_provider_sms.ledger.unreached import Miss, Missed
from airflow_provider_sms.send_judging import CampaignError
from tests.support.campaigns import Campaigns, Platform
from tests.support.pushed import match, receipts, receive

PEOPLE = [f"1380013{number:04d}" for number in range(1, 13)]
ALL_CAUSES = frozenset(CAUSES)
LONG_AGO = datetime(2020, 1, 1)  # noqa: DTZ001 - as the ledger keeps it


def missed(ledger: Ledger, misses: Iterable[Miss], causes: Iterable[str] = ALL_CAUSES) -> list[list[str]]:
    (campaign_id,) = {batch.campaign_id for batch in Campaigns(ledger).batches()}
    return list(unreached.read(ledger, campaign_id, Missed(frozenset(misses), frozenset(causes))))


@pytest.fixture
def ended(any_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A campaign that has met with everything; two items are none of the plan."""
    monkeypatch.setattr(unreached, "CHUNK", 3)
    campaigns = Campaigns(any_ledger)
    platform = Platform(None, None, None, PhoneFormatError("no mobile", ""), AnswerLostError("lost"))
    with pytest.raises(CampaignError):
        campaigns.run(platform, [PEOPLE[0], "x", *PEOPLE], batch_size=2, on_phone_refused="fail")
    campaigns.change_batches(batch_table.c.number == 6, state=BatchState.EXPIRED.value)
    receive(
        any_ledger,
        *receipts("T1", PEOPLE[:1]),
        *receipts("T1", PEOPLE[1:2], "0", "MK:0001"),
        *receipts("T2", PEOPLE[2:3], "0", "EXPIRED"),
        *receipts("T2", PEOPLE[3:4], "7", "ACCEPTD"),
        *receipts("T3", PEOPLE[4:5], "0", "MB"),
        *receipts("T3", PEOPLE[4:5], "1"),
    )
    match(any_ledger)
    return any_ledger


def test_each_way_of_missing_a_phone_on_each_database(ended: Ledger) -> None:
    states = [batch.state for batch in Campaigns(ended).batches()]
    assert states == ["accepted", "accepted", "accepted", "refused", "in_doubt", "expired"]
    # Phone 0 was delivered; 4 has two receipts that disagree; 8 and 9 are in doubt.
    found = {miss: [phone for chunk in missed(ended, [miss]) for phone in chunk] for miss in Miss}
    assert found == {
        Miss.FAILED: [PEOPLE[1], PEOPLE[2]],
        Miss.UNKNOWN: [PEOPLE[3], PEOPLE[5]],
        Miss.REFUSED: PEOPLE[6:8],
        Miss.EXPIRED: PEOPLE[10:],
    }
    # In chunks, none of which is empty.
    assert missed(ended, Miss) == [
        PEOPLE[1:4],
        PEOPLE[5:7],
        [PEOPLE[7]],
        [PEOPLE[10], PEOPLE[11]],
    ]
    assert missed(ended, [Miss.FAILED], ["handset", "network"]) == [[PEOPLE[2]]]
    # Before it was refused, or it was too late, an earlier attempt had left, and was in doubt.
    Campaigns(ended).change_batches(batch_table.c.number.in_([4, 6]), resends=1)
    assert missed(ended, [Miss.REFUSED, Miss.EXPIRED]) == []
    assert missed(ended, [Miss.FAILED], []) == []
    with ended.writing() as connection:
        connection.execute(update(campaign_table).values(purged_at=naive(datetime(2030, 3, 1, tzinfo=UTC))))
    with pytest.raises(CampaignPurgedError, match="removed on 2030-03-01"):
        missed(ended, Miss)


@pytest.mark.parametrize("state", [BatchState.REFUSED, BatchState.EXPIRED])
def test_who_may_have_got_an_earlier_attempt_is_not_missed(ended: Ledger, state: BatchState) -> None:
    """It was in doubt, was to be sent again, and was not."""
    Campaigns(ended).change_batches(batch_table.c.number == 5, state=state.value, resends=1)
    found = [phone for chunk in missed(ended, Miss) for phone in chunk]
    assert set(found).isdisjoint(PEOPLE[8:10])


def test_nor_is_either_half_of_a_resend_that_was_refused_phone_by_phone(any_ledger: Ledger) -> None:
    campaigns = Campaigns(any_ledger)
    with pytest.raises(CampaignError):
        campaigns.run(Platform(AnswerLostError("lost")), PEOPLE[:2])
    campaigns.change_batches(lease_until=LONG_AGO)
    with pytest.raises(CampaignError):
        campaigns.run(Platform(*[PhoneFormatError("no mobile")] * 3), PEOPLE[:2], on_in_doubt="resend")
    assert [(batch.phones, batch.state) for batch in campaigns.batches()] == [(1, "refused"), (1, "refused")]
    assert missed(any_ledger, Miss) == []
