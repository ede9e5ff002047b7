"""What a sensor waits for is found by the names that people use."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from airflow_provider_sms.ledger import targets
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerDeafError, LedgerUsageError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.schema import batch_table, campaign_table
from tests.support.campaigns import PHONES, Campaigns, Platform
from tests.support.pushed import note_first_push

HOUR = timedelta(hours=1)


def test_a_campaign_by_its_name_its_key_and_its_id(ledger: Ledger, campaigns: Campaigns) -> None:
    campaigns.run(Platform(), PHONES[:4])
    campaigns.run(Platform(), PHONES[:2], key=CampaignKey("", campaign_key="spring"))
    by_name = targets.campaign(ledger, "dag/run/send", "")
    by_key = targets.campaign(ledger, "spring", "")
    assert (by_name.name, by_key.name) == ("dag/run/send", "spring")
    assert by_name.campaign_id != by_key.campaign_id
    assert targets.campaign(ledger, str(by_key.campaign_id), "").name == "spring"
    assert by_name.is_planned
    assert by_name.accepted_at is not None
    assert by_name.begun_at <= by_name.accepted_at <= by_name.now
    assert by_name.taskids == ()


def test_a_campaign_that_is_not_there(ledger: Ledger) -> None:
    with pytest.raises(LedgerUsageError, match="campaign: the ledger knows no campaign 'spring'; `airflow-sms camp"):
        targets.campaign(ledger, "spring", "")


def test_another_installation_s_campaign_is_not_this_one_s(ledger: Ledger, campaigns: Campaigns) -> None:
    campaigns.run(Platform(), PHONES[:2], key=CampaignKey("prod", campaign_key="spring"))
    with pytest.raises(LedgerUsageError, match="no campaign 'spring' of namespace 'test', but one of 'prod'"):
        targets.campaign(ledger, "spring", "test")
    assert targets.campaign(ledger, "spring", "prod").name == "spring"


def test_a_campaign_that_has_only_begun(ledger: Ledger) -> None:
    Plans(ledger, "somebody").enter(CampaignKey("", campaign_key="spring"))
    target = targets.campaign(ledger, "spring", "")
    assert not target.is_planned
    assert target.accepted_at is None


def test_batches_by_the_platform_s_ids(ledger: Ledger, campaigns: Campaigns) -> None:
    campaigns.run(Platform(), PHONES[:6])
    target = targets.batches(ledger, ["T3", "T1"])
    ids = {batch.taskid: batch.id for batch in campaigns.batches()}
    assert set(target.batch_ids) == {ids["T1"], ids["T3"]}
    assert (target.name, target.taskids, target.campaign_id) == ("T3, T1", ("T3", "T1"), None)


def test_of_two_batches_with_one_id_the_older_is_meant(ledger: Ledger, campaigns: Campaigns) -> None:
    campaigns.run(Platform(), PHONES[:4])
    campaigns.change_batches(taskid="T1")
    target = targets.batches(ledger, ["T1"])
    assert target.batch_ids == (campaigns.batches()[0].id,)


def test_batches_that_are_not_there(ledger: Ledger, campaigns: Campaigns) -> None:
    campaigns.run(Platform(), PHONES[:2])
    with pytest.raises(LedgerUsageError, match="batch_id: the ledger knows no accepted batch 'T8', 'T9'; "):
        targets.batches(ledger, ["T1", "T9", "T8"])
    with pytest.raises(LedgerUsageError, match="'U4' and 4 more"):
        targets.batches(ledger, [f"U{number}" for number in range(9)])


class TestTimes:
    def test_a_receipt_is_waited_for_after_the_last_acceptance(self, ledger: Ledger, campaigns: Campaigns) -> None:
        campaigns.run(Platform(), PHONES[:4])
        first, last = campaigns.batches()
        campaigns.change_batches(batch_table.c.id == first.id, settled_at=last.settled_at - HOUR)
        by_name = targets.campaign(ledger, "dag/run/send", "")
        by_id = targets.batches(ledger, ["T1", "T2"])
        assert by_name.accepted_at is not None
        assert by_name.deadline(HOUR) == by_id.deadline(HOUR) == by_name.accepted_at + HOUR
        assert by_name.accepted_at.replace(tzinfo=None) == last.settled_at

    def test_or_after_the_time_to_send_at(self, ledger: Ledger, campaigns: Campaigns) -> None:
        campaigns.run(Platform(), PHONES[:2])
        late = campaigns.batches()[0].settled_at + 5 * HOUR
        with ledger.writing() as connection:
            connection.execute(update(campaign_table).values(send_time=late))
        for target in (targets.campaign(ledger, "dag/run/send", ""), targets.batches(ledger, ["T1"])):
            assert target.deadline(HOUR).replace(tzinfo=None) == late + HOUR

    def test_of_a_campaign_that_nothing_was_accepted_of(self, ledger: Ledger) -> None:
        Plans(ledger, "somebody").enter(CampaignKey("", campaign_key="spring"))
        target = targets.campaign(ledger, "spring", "")
        assert target.deadline(HOUR) == target.begun_at + HOUR
        assert target.check_heard(timedelta(0)) is None


class TestWhetherPushesCome:
    def test_the_very_first_push_is_given_some_minutes(self, ledger: Ledger, campaigns: Campaigns) -> None:
        campaigns.run(Platform(), PHONES[:2])
        target = targets.campaign(ledger, "dag/run/send", "")
        assert target.accepted_at is not None
        assert target.check_heard(HOUR) == target.accepted_at + HOUR

    def test_and_not_more(self, ledger: Ledger, campaigns: Campaigns) -> None:
        campaigns.run(Platform(), PHONES[:2])
        with pytest.raises(LedgerDeafError, match="no push has ever come.*airflow-sms push-url"):
            targets.campaign(ledger, "dag/run/send", "").check_heard(timedelta(0))

    def test_after_one_has_come_nothing_is_said(self, ledger: Ledger, campaigns: Campaigns) -> None:
        campaigns.run(Platform(), PHONES[:2])
        note_first_push(ledger)
        assert targets.campaign(ledger, "dag/run/send", "").check_heard(timedelta(0)) is None
