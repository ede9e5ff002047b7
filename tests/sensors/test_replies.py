"""The reply sensor: which replies it waits for, and that it returns none of what they say."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.sensors.sms import SmsReplySensor
from airflow_provider_sms.triggers.sms import SmsReplySensorTrigger
from tests.support.campaigns import PHONES, Campaigns, Platform
from tests.support.pushed import listen, receive, reply

NAME = "dag/run/send"


def sensor(**changes: Any) -> SmsReplySensor:
    if "batch_id" not in changes:
        changes = {"campaign": NAME, **changes}
    return SmsReplySensor(**{"task_id": "wait", "poke_interval": 0.01, "deferrable": False, **changes})


@pytest.fixture(autouse=True)
def sent(ledger: Ledger, campaigns: Campaigns) -> None:
    """A campaign of two batches, T1 and T2, of two phones each; a receiver runs."""
    campaigns.run(Platform(), PHONES[:4])
    listen(ledger)


@pytest.mark.parametrize("changes", [{}, {"batch_id": "T1"}, {"batch_id": ["T2", "T1"]}])
def test_it_waits_for_a_reply(ledger: Ledger, context: Any, changes: dict[str, Any]) -> None:
    task = sensor(**changes)
    receive(ledger, reply("T9", PHONES[0]), reply("T1", "13800139999"))
    assert not task.poke(context).is_done
    receive(ledger, reply("T1", PHONES[0]))
    result: Any = task.poke(context)
    assert result.is_done
    assert result.xcom_value["replies"] == 1
    assert result.xcom_value["firstPhone"] == "138****0001"


def test_it_returns_ids_and_counts_and_nothing_of_what_they_say(
    ledger: Ledger, context: Any, logged: Callable[[], str]
) -> None:
    receive(ledger, *[reply("T1", PHONES[0], f"my secret {number}") for number in range(120)])
    result = sensor().execute(context)
    assert result["campaign"] == NAME
    assert result["replies"] == 120
    assert len(result["replyIds"]) == 100
    assert all(isinstance(each, str) for each in result["replyIds"])
    text = logged()
    assert "replies that match: 120" in text
    for secret in ("my secret", PHONES[0]):
        assert secret not in str(result) + text


def test_a_pattern(ledger: Ledger, context: Any) -> None:
    task = sensor(pattern=r"^(?i:y(es)?)$")
    receive(ledger, reply("T1", PHONES[0], "no"))
    assert not task.poke(context).is_done
    receive(ledger, reply("T2", PHONES[2], " Yes "), reply("T1", PHONES[1], "\uff39"))
    assert task.execute(context)["replies"] == 2


def test_a_pattern_that_is_none(context: Any) -> None:
    with pytest.raises(AirflowFailException, match="pattern: not a regular expression"):
        sensor(pattern="(").poke(context)


def test_the_pattern_is_a_template(ledger: Ledger, context: Any) -> None:
    receive(ledger, reply("T1", PHONES[0], "yes"))
    task = sensor(pattern="{{ answer }}")
    task.render_template_fields({"answer": "yes"})
    assert task.poke(context).is_done


class TestDeferrable:
    def test_it_defers(self, campaigns: Campaigns, context: Any) -> None:
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True, batch_id="T1", pattern="yes", poke_interval=60).execute(context)
        trigger = deferred.value.trigger
        assert isinstance(trigger, SmsReplySensorTrigger)
        assert (trigger.campaign_id, trigger.taskids, trigger.pattern) == (None, ["T1"], "yes")

    def test_a_look(self, ledger: Ledger, context: Any) -> None:
        event = {"status": "look", "began": time.time()}
        with pytest.raises(TaskDeferred):
            sensor(deferrable=True).execute_complete(context, event)
        receive(ledger, reply("T1", PHONES[0]))
        assert sensor(deferrable=True).execute_complete(context, event)["replies"] == 1
