"""One campaign from plan to end on each database, by real HTTP."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from airflow_provider_sms.gateway.account import Account
from airflow_provider_sms.gateway.client import SmsClient
from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.planning import Planner, Try, begin, make_order
from airflow_provider_sms.policy import Policy
from airflow_provider_sms.sending import Sender
from tests.support.simulator import Simulator

LOG = logging.getLogger(__name__)
KEY = CampaignKey("", campaign_key="spring sale")


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = Ledger(read_url(ledger_url))
    versions.upgrade(ledger)
    yield ledger
    ledger.close()


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
