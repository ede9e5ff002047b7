"""The balance trigger in an event loop, against the simulator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_provider_sms.triggers.sms import SmsBalanceTrigger, SmsPauseTrigger
from tests.support.simulator import Simulator, wait_until

pytestmark = pytest.mark.usefixtures("connection")


def trigger(**changes: Any) -> SmsBalanceTrigger:
    return SmsBalanceTrigger(
        **{"sms_conn_id": "sms_default", "min_balance": 100, "poke_interval": 60, "max_errors": 3, **changes}
    )


async def event_of(waiting: BaseTrigger) -> dict[str, Any]:
    return (await anext(waiting.run())).payload


def asked(simulator: Simulator) -> int:
    return sum("getBalance" in each["path"] for each in simulator.requests()["requests"])


def test_a_pause_ends_at_its_moment_and_hands_on_what_the_task_knows() -> None:
    moment = time.time() + 0.5
    path, arguments = SmsPauseTrigger(moment, waited=61.0).serialize()
    assert path == "airflow_provider_sms.triggers.sms.SmsPauseTrigger"
    assert asyncio.run(event_of(SmsPauseTrigger(**arguments))) == {"waited": 61.0}
    assert time.time() >= moment
    # After a restart of the triggerer the moment may be past.
    assert asyncio.run(event_of(SmsPauseTrigger(0.0, waited=61.0))) == {"waited": 61.0}


def test_enough(simulator: Simulator) -> None:
    simulator.settings(balance=241)
    assert asyncio.run(event_of(trigger())) == {"status": "enough", "balance": 241}


def test_it_waits_until_there_is_enough(simulator: Simulator) -> None:
    simulator.settings(balance=1)

    async def scenario() -> dict[str, Any]:
        waiting = asyncio.create_task(event_of(trigger(poke_interval=1)))
        await asyncio.to_thread(wait_until, lambda: asked(simulator) >= 1)
        simulator.settings(balance=241)
        return await asyncio.wait_for(waiting, 30)

    assert asyncio.run(scenario()) == {"status": "enough", "balance": 241}


def test_ten_thousand_triggers_cause_no_more_calls_than_one(simulator: Simulator) -> None:
    simulator.settings(balance=1)

    async def scenario() -> list[dict[str, Any]]:
        waiting = [asyncio.create_task(event_of(trigger(poke_interval=1))) for _ in range(10_000)]
        await asyncio.to_thread(wait_until, lambda: asked(simulator) >= 2, 60)
        simulator.settings(balance=241)
        before = asked(simulator)
        events = await asyncio.wait_for(asyncio.gather(*waiting), 60)
        assert asked(simulator) - before <= 2
        return events

    events = asyncio.run(scenario())
    assert len(events) == 10_000
    assert all(event == {"status": "enough", "balance": 241} for event in events)


def test_two_connections_to_one_account_share_one_question(
    simulator: Simulator, connection: Callable[..., None]
) -> None:
    connection("sms_other")

    async def scenario() -> None:
        await asyncio.gather(event_of(trigger()), event_of(trigger(sms_conn_id="sms_other")))

    asyncio.run(scenario())
    assert asked(simulator) == 1


def test_two_accounts_do_not(simulator: Simulator, connection: Callable[..., None]) -> None:
    connection("sms_other", password="FAKE-WRONG-KEY")

    async def scenario() -> tuple[dict[str, Any], dict[str, Any]]:
        return await asyncio.gather(event_of(trigger()), event_of(trigger(sms_conn_id="sms_other")))

    good, bad = asyncio.run(scenario())
    assert good["status"] == "enough"
    assert bad["status"] == "refused"
    assert "账号或密码错误" in bad["message"]


def test_it_gives_up_after_so_many_failures_in_a_row_and_paces_itself(simulator: Simulator) -> None:
    simulator.fault("status", status=500, times=100)
    event = asyncio.run(asyncio.wait_for(event_of(trigger(poke_interval=0, max_errors=1)), 30))
    assert event["status"] == "unreachable"
    assert event["errors"] == 2
    assert asked(simulator) == 2


def test_a_failure_in_between_is_forgiven(simulator: Simulator) -> None:
    simulator.fault("cut_before")
    assert asyncio.run(event_of(trigger(poke_interval=1, max_errors=1)))["status"] == "enough"


@pytest.mark.parametrize(
    ("conn_id", "fields", "said"),
    [
        ("sms_default", {"password": "FAKE-WRONG-KEY"}, "账号或密码错误"),
        ("sms_default", {"extra": {"unknown": 1}}, "extra: unknown field"),
        ("sms_nowhere", {}, "there is no connection 'sms_nowhere'"),
    ],
)
def test_what_waiting_can_not_mend(
    connection: Callable[..., None], conn_id: str, fields: dict[str, Any], said: str
) -> None:
    connection(**fields)
    event = asyncio.run(event_of(trigger(sms_conn_id=conn_id)))
    assert event["status"] == "refused"
    assert said in event["message"]


def test_what_is_stored_of_a_trigger_has_no_key_and_makes_the_same_trigger(simulator: Simulator) -> None:
    path, arguments = trigger().serialize()
    assert path == "airflow_provider_sms.triggers.sms.SmsBalanceTrigger"
    assert simulator.app_key not in str(arguments)
    assert SmsBalanceTrigger(**arguments).serialize() == (path, arguments)


def test_a_slow_platform_does_not_hold_the_loop(simulator: Simulator) -> None:
    simulator.fault("slow", seconds=2)

    async def scenario() -> int:
        waiting = asyncio.create_task(event_of(trigger()))
        turns = 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            turns += 1
        return turns

    assert asyncio.run(scenario()) > 20
