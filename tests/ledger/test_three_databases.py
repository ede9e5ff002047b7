"""One campaign from plan to end on each database, by real HTTP."""

from __future__ import annotations

import logging
import threading

import pytest

from airflow_provider_sms.gateway.account import Account
from airflow_provider_sms.gateway.answers import Acceptance
from airflow_provider_sms.gateway.client import SmsClient
from airflow_provider_sms.gateway.errors import AnswerLostError, PhoneFormatError, UnlistedRefusalError
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.orders import make_order
from airflow_provider_sms.planning import Planner, Try, begin
from airflow_provider_sms.policy import Policy
from airflow_provider_sms.send_judging import CampaignError
from airflow_provider_sms.sending import Sender
from tests.support.campaigns import PHONES, Campaigns, Platform
from tests.support.simulator import Simulator

LOG = logging.getLogger(__name__)
KEY = CampaignKey("", campaign_key="spring sale")


@pytest.fixture
def ledger(any_ledger: Ledger) -> Ledger:
    return any_ledger


NASTY = "T\x00\ud800 𠮷'\"%s:x\\"


def test_whatever_the_platform_says_can_be_written_down(ledger: Ledger) -> None:
    # What the gateway reads can be printed; here it comes from elsewhere, and no log could take it.
    log = logging.getLogger("nowhere")
    log.setLevel(logging.CRITICAL)
    campaigns = Campaigns(ledger, log)
    platform = Platform(
        Acceptance(NASTY, None, None),
        UnlistedRefusalError(f"The platform refused: {NASTY}", NASTY),
        PhoneFormatError(f"The platform refused: {NASTY}", NASTY),
        None,
        None,
        AnswerLostError(NASTY * 50),
    )
    with pytest.raises(CampaignError) as error:
        campaigns.run(platform, PHONES[:8])
    assert (error.value.report.accepted, error.value.report.refused, error.value.report.in_doubt) == (5, 2, 1)
    assert error.value.report.task_ids[0] == "T\\u0000\\ud800 𠮷'\"%s:x\\"


def test_mapped_instances_at_once_text_nobody_twice(ledger: Ledger) -> None:
    campaigns, platform = Campaigns(ledger), Platform()
    phones = [f"138{number:08d}" for number in range(60)]
    threads = [
        threading.Thread(
            target=campaigns.run,
            args=(platform, some),
            kwargs={"map_index": index, "batch_size": 7, "max_in_flight": 2},
        )
        for index, some in enumerate([phones, phones[::-1], phones[20:], phones[40::-1]])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(platform.accepted) == phones


def test_a_campaign_from_plan_to_end(ledger: Ledger, simulator: Simulator) -> None:
    account = Account(simulator.app_id, simulator.app_key, simulator.base_url, batch_size=3)
    phones: list[object] = [f"1380013{number:04d}" for number in range(10)]
    order = make_order(account, "【云通信】您好", policy=Policy())
    with SmsClient(account) as client:
        for attempt in (1, 2):
            begin(ledger, KEY, Try(attempt))
            planner = Planner(ledger, KEY, order, lambda: [[*phones, phones[0], "", "x,y"]], LOG, Policy())
            report = Sender(ledger, client, planner.plan(), Policy(), LOG).send()
            assert report.accepted == 10
            assert report.excluded == {"duplicate": 1, "malformed": 2}
    assert [batch["phones"] for batch in simulator.accepted()] == [phones[0:3], phones[3:6], phones[6:9], phones[9:]]
    assert report.task_ids == tuple(batch["taskId"] for batch in simulator.accepted())
