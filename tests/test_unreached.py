"""The phones that an earlier campaign has not reached, as those of the next one."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_sms.gateway.errors import PhonesError, PhonesSourceError
from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerDeafError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.schema import BatchState
from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.policy import Policy
from airflow_provider_sms.recipients import rendered, shown, stream
from airflow_provider_sms.unreached import UnreachedPhones
from tests.support.campaigns import PHONES, Campaigns, Platform
from tests.support.pushed import listen, match, receipts, receive
from tests.support.simulator import Simulator

SALE = CampaignKey("", campaign_key="sale")
A_WEEK = timedelta(days=7)


@pytest.fixture(autouse=True)
def _settings(ledger_file: object) -> None:
    """The ledger is the one that `[sms]` names."""


@pytest.fixture
def sale(ledger: Ledger) -> Campaigns:
    """A campaign of four phones: delivered, a phone that was off, a dead number, no receipt."""
    campaigns = Campaigns(ledger)
    campaigns.run(Platform(), PHONES[:4], key=SALE, batch_size=4)
    listen(ledger)
    # Nobody has matched these yet.
    receive(
        ledger,
        *receipts("T1", PHONES[:1]),
        *receipts("T1", PHONES[1:2], "0", "EXPIRED"),
        *receipts("T1", PHONES[2:3], "0", "MK:0001"),
    )
    return campaigns


def read(phones: UnreachedPhones) -> list[object]:
    return [phone for chunk in stream(phones) for phone in chunk]


@pytest.mark.usefixtures("sale")
def test_who_was_off_gets_another_text_and_no_dead_number_does() -> None:
    assert read(UnreachedPhones("sale")) == [PHONES[1]]
    assert UnreachedPhones(" sale ").count() == 1
    assert read(UnreachedPhones("sale", except_causes=())) == PHONES[1:3]


def test_nobody_is_unknown_before_the_deadline(sale: Campaigns) -> None:
    phones = UnreachedPhones("sale", outcomes=("failed", "unknown"), deadline=timedelta(hours=24))
    with pytest.raises(PhonesSourceError, match=r"waits for receipts of 1 phones, until .* UTC; wait for them"):
        phones.count()
    a_day_ago = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=24)
    sale.change_batches(settled_at=a_day_ago)
    assert read(phones) == [PHONES[1], PHONES[3]]
    # All that there will ever be.
    receive(sale.ledger, *receipts("T1", PHONES[3:4]))
    sale.change_batches(settled_at=datetime.now(UTC).replace(tzinfo=None))
    assert read(phones) == [PHONES[1]]


def test_a_campaign_that_is_under_way_is_let_end(sale: Campaigns) -> None:
    sale.change_batches(state=BatchState.PLANNED.value)
    with pytest.raises(PhonesSourceError, match="'sale' is still being sent"):
        read(UnreachedPhones("sale"))


@pytest.mark.usefixtures("sale")
@pytest.mark.parametrize(
    ("campaign", "said"),
    [("no such", "phones: campaign: the ledger knows no campaign 'no such'"), (" ", "phones: campaign: name the one")],
)
def test_a_campaign_that_is_not_there(campaign: str, said: str) -> None:
    with pytest.raises(PhonesError, match=re.escape(said)) as error:
        read(UnreachedPhones(campaign))
    assert not error.value.passes_by_itself


def test_where_no_receipt_can_come_nobody_is_taken_for_missed(ledger: Ledger) -> None:
    Campaigns(ledger).run(Platform(), key=SALE)
    with pytest.raises(LedgerDeafError, match="airflow-sms push-url"):
        read(UnreachedPhones("sale", outcomes=("unknown",), deadline=timedelta(0)))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"outcomes": ("delivered",)}, "outcomes: there is no 'delivered'; choose of 'failed', 'unknown', 'refused'"),
        ({"outcomes": ()}, "outcomes: there is none"),
        ({"outcomes": "failed"}, "outcomes: expected a list of texts, got a text; write ['failed']."),
        ({"except_causes": ("dead",)}, "except_causes: there is no 'dead'; choose of 'dead_number', 'handset'"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_a_wrong_choice_shows_when_the_dag_is_read(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        UnreachedPhones("sale", **wrong)


def test_it_is_rendered_in_a_copy_and_shows_no_phone() -> None:
    written = UnreachedPhones("sale {{ ds }} to 13800130001", outcomes=("failed", "unknown"))
    copy = rendered(written, lambda value: value.replace("{{ ds }}", "2030-01-31"))
    assert "{{ ds }}" in str(written)
    assert shown(copy) == "phones that campaign sale 2030-01-31 to 138****0001 has not reached (failed, unknown)"
    assert repr(copy) == f"<{shown(copy)}>"


@pytest.mark.usefixtures("sale", "connection")
def test_a_follow_up_keeps_its_plan_whatever_receipts_say_later(
    ledger: Ledger, simulator: Simulator, logged: Callable[[], str]
) -> None:
    def follow_up() -> dict[str, Any]:
        return SmsHook().send_group(
            UnreachedPhones("sale", except_causes=()),
            "【云通信】最后一天",
            campaign_key="last day",
            batch_size=1,
            policy=Policy(),
        )

    simulator.fault("refuse", message="余额不足", phone=PHONES[2])
    with pytest.raises(Exception, match="余额不足"):
        follow_up()
    # The one that has not been texted yet got the first text after all; the plan goes on, and says so.
    receive(ledger, *receipts("T1", PHONES[2:3]))
    match(ledger)
    simulator.clear_faults()
    assert follow_up()["accepted"] == 2
    assert [batch["phones"] for batch in simulator.accepted()] == [[PHONES[1]], [PHONES[2]]]


def test_an_operator_takes_them_and_does_not_read_them_with_the_dag() -> None:
    operator = SmsGroupSendOperator(task_id="send", phones=UnreachedPhones("sale"), content="【云通信】您好")
    assert isinstance(operator.phones, UnreachedPhones)
