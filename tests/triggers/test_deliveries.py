"""The trigger that waits for receipts: many share one query, and it wakes a worker for what a look can decide."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.triggers import reading
from airflow_provider_sms.triggers.sms import SmsDeliveryTrigger
from tests.support.campaigns import PHONES, Campaigns, Platform
from tests.support.pushed import match, receipts, receive
from tests.support.simulator import wait_until

FAR = 3600.0


def trigger(campaign_id: int | None = 1, batch_ids: list[int] | None = None, **changes: Any) -> SmsDeliveryTrigger:
    arguments: dict[str, Any] = {
        "campaign_id": campaign_id,
        "batch_ids": batch_ids or [],
        "min_delivered": None,
        "min_final": None,
        "until": time.time() + FAR,
        "began": 1000.0,
        "poke_interval": 1,
        "max_errors": 2,
    }
    return SmsDeliveryTrigger(**{**arguments, **changes})


async def event_of(waiting: BaseTrigger) -> dict[str, Any]:
    return (await anext(waiting.run())).payload


def run(waiting: BaseTrigger, seconds: float = 30) -> dict[str, Any]:
    return asyncio.run(asyncio.wait_for(event_of(waiting), seconds))


@pytest.fixture
def campaign_id(campaigns: Campaigns) -> int:
    """A campaign of two batches, T1 and T2, of two phones each."""
    campaigns.run(Platform(), PHONES[:4])
    return int(campaigns.batches()[0].campaign_id)


LOOK = {"status": "look", "began": 1000.0}


def test_it_waits_for_the_last_receipt(ledger: Ledger, campaign_id: int, queries: list[str]) -> None:
    receive(ledger, *receipts("T1", PHONES[:2]))
    match(ledger)

    async def scenario() -> dict[str, Any]:
        waiting = asyncio.create_task(event_of(trigger(campaign_id)))
        await asyncio.to_thread(wait_until, lambda: len(queries) >= 3)
        assert not waiting.done()
        await asyncio.to_thread(receive, ledger, *receipts("T2", PHONES[2:4], status="0", code="MK:0001"))
        await asyncio.to_thread(match, ledger)
        return await asyncio.wait_for(waiting, 30)

    assert asyncio.run(scenario()) == LOOK


def test_it_wakes_as_soon_as_enough_are_delivered(ledger: Ledger, campaign_id: int) -> None:
    receive(ledger, *receipts("T1", PHONES[:2]))
    match(ledger)
    assert run(trigger(campaign_id, min_delivered="0.5")) == LOOK


def test_or_as_soon_as_there_can_not_be_enough(ledger: Ledger, campaign_id: int) -> None:
    receive(ledger, *receipts("T1", PHONES[:2], status="0"))
    match(ledger)
    assert run(trigger(campaign_id, min_delivered="3")) == LOOK


def test_batches_are_counted_together(ledger: Ledger, campaigns: Campaigns, campaign_id: int) -> None:
    ids = [batch.id for batch in campaigns.batches()]
    receive(ledger, *receipts("T1", PHONES[:2]))
    match(ledger)
    assert run(trigger(None, [ids[0]])) == LOOK
    assert run(trigger(None, ids, min_final="2")) == LOOK
    with pytest.raises(TimeoutError):
        run(trigger(None, ids), 2.5)


def test_it_wakes_when_its_moment_has_come(campaign_id: int, queries: list[str]) -> None:
    assert run(trigger(campaign_id, until=time.time() + 1.5, poke_interval=60)) == LOOK
    assert len([each for each in queries if "sms_delivery_count" in each]) == 1
    # After a restart of the triggerer the moment may be past.
    assert run(trigger(campaign_id, until=time.time() - 5)) == LOOK


def test_a_campaign_without_a_plan_is_waited_for(ledger: Ledger, campaigns: Campaigns) -> None:
    with pytest.raises(TimeoutError):
        run(trigger(999), 2.5)


def test_a_thousand_triggers_ask_one_query_an_interval(
    ledger: Ledger, campaigns: Campaigns, queries: list[str]
) -> None:
    for number in range(3):
        campaigns.run(Platform(), PHONES[:2], key=CampaignKey("", campaign_key=f"campaign {number}"))
    ids = [batch.campaign_id for batch in campaigns.batches()]

    def asked() -> int:
        return len([each for each in queries if "sms_delivery_count" in each])

    async def scenario() -> tuple[int, float]:
        waiting = [asyncio.create_task(event_of(trigger(ids[number % 3]))) for number in range(1_000)]
        await asyncio.to_thread(wait_until, lambda: asked() >= 2, 30)
        before, start = asked(), time.monotonic()
        await asyncio.to_thread(wait_until, lambda: asked() >= before + 3, 30)
        watched, seconds = asked() - before, time.monotonic() - start
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return watched, seconds

    watched, seconds = asyncio.run(scenario())
    assert watched <= seconds / 1.0 + 1


def test_one_engine_for_all_that_wait_in_a_triggerer(campaign_id: int, queries: list[str]) -> None:
    async def scenario() -> None:
        await asyncio.gather(*[event_of(trigger(campaign_id, until=time.time() + 0.5)) for _ in range(20)])

    asyncio.run(scenario())
    asyncio.run(scenario())
    assert len(reading._ledgers) == 1


class TestErrors:
    def test_it_gives_up_after_so_many_failures_in_a_row_and_paces_itself(self, ledger_file: Path) -> None:
        ledger_file.unlink()
        start = time.monotonic()
        event = run(trigger())
        assert event["status"] == "unreachable"
        assert event["errors"] == 3
        assert "is not there on the triggerer's machine" in event["message"]
        assert time.monotonic() - start >= 1.9

    def test_a_failure_in_between_is_forgiven(
        self, ledger: Ledger, campaign_id: int, ledger_file: Path, tmp_path: Path, logged: Callable[[], str]
    ) -> None:
        receive(ledger, *receipts("T1", PHONES[:2]))
        match(ledger)
        ledger.close()
        away = tmp_path / "away.db"
        ledger_file.rename(away)

        async def scenario() -> dict[str, Any]:
            waiting = asyncio.create_task(event_of(trigger(campaign_id, min_delivered="2", max_errors=5)))
            await asyncio.to_thread(wait_until, lambda: "(1 of 5 in a row)" in logged())
            away.rename(ledger_file)
            return await asyncio.wait_for(waiting, 30)

        assert asyncio.run(scenario()) == LOOK

    def test_what_waiting_can_not_mend(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", "oracle://somebody:FAKE-PW@nowhere/db")
        event = run(trigger())
        assert event["status"] == "refused"
        assert "can not be the ledger" in event["message"]
        assert "FAKE-PW" not in event["message"]


def test_what_is_stored_of_a_trigger_makes_the_same_trigger() -> None:
    path, arguments = trigger(min_delivered="95%").serialize()
    assert path == "airflow_provider_sms.triggers.sms.SmsDeliveryTrigger"
    assert SmsDeliveryTrigger(**arguments).serialize() == (path, arguments)


def test_a_slow_ledger_does_not_hold_the_loop(campaign_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_sms.ledger import deliveries

    read = deliveries.progress

    def slow(*arguments: Any) -> Any:
        time.sleep(1)
        return read(*arguments)

    monkeypatch.setattr(deliveries, "progress", slow)

    async def scenario() -> int:
        waiting = asyncio.create_task(event_of(trigger(campaign_id, until=time.time() + 1)))
        turns = 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            turns += 1
        return turns

    assert asyncio.run(scenario()) > 20
