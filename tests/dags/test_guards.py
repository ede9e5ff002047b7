"""Guards and dry runs in real tasks: what is deferred, scheduled, failed, left out, and not sent at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent

from airflow_provider_sms.gateway.hours import Hours
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.ledger import views
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.triggers.sms import SmsPauseTrigger
from tests.support.airflow import put_dag, rendered_fields, run_dag, states, xcom
from tests.support.simulator import Simulator

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture
def until_the_morning(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """It is night until a trigger has waited for the morning; until when each has."""
    waited: list[float] = []

    async def run(self: SmsPauseTrigger) -> AsyncIterator[TriggerEvent]:
        waited.append(self.until)
        yield TriggerEvent({"waited": self.waited})

    def next_open(self: Hours, when: datetime) -> datetime:
        return when.astimezone(BEIJING) + timedelta(hours=10)

    monkeypatch.setattr(SmsPauseTrigger, "run", run)
    monkeypatch.setattr(Hours, "contain", lambda self, when: bool(waited))
    monkeypatch.setattr(Hours, "next_open", next_open)
    return waited


def test_each_of_them_in_one_dag(
    ledger: Ledger, simulator: Simulator, until_the_morning: list[float], logged: Any
) -> None:
    run = run_dag(put_dag(Path(__file__).with_name("guarded.py")))
    assert states(run) == {
        "fails": "failed",
        "scheduled": "success",
        "waits": "success",
        "capped": "success",
        "dry": "success",
        "mapped": "success",
        "delivered_each": "success",
        "delivered_true": "success",
        "delivered_false": "success",
        "answered": "skipped",
    }
    assert len(until_the_morning) == 1
    sent = {batch["phones"][0]: batch for batch in simulator.accepted()}
    assert sorted(sent) == ["13800130002", "13800130003", "13800130004"]
    assert all(batch["content"] == "【云通信】五折拒收请回复R" for batch in sent.values())
    assert xcom(run, "scheduled")["scheduledFor"]
    assert xcom(run, "waits")["accepted"] == 1
    (heading,) = views.find(ledger, xcom(run, "waits")["campaign"])
    assert heading.waits_until is not None
    assert xcom(run, "capped")["excludedByReason"] == {"frequency cap": 1}
    dry = xcom(run, "dry")
    assert (dry["dryRun"], dry["phones"], dry["accepted"]) == (True, 1, 0)
    assert xcom(run, "dry", "taskId") is None
    assert views.find(ledger, dry["campaign"]) == []
    for task_id in ("delivered_true", "delivered_false", "delivered_each"):
        assert (xcom(run, task_id)["dryRun"], xcom(run, task_id)["accepted"]) == (True, 0)
    assert "13800130005" not in str(rendered_fields(run, "dry"))
    assert "sending_hours: it is " in logged()


def test_each_instance_of_a_mapped_task_has_its_own(simulator: Simulator) -> None:
    simulator.settings(one_per_minute=False)
    run = run_dag(put_dag(Path(__file__).with_name("mapped.py")))
    found = [(each.task_id, str(each.state)) for each in run.get_task_instances()]
    # Which of the two comes first is not said.
    assert sorted(state for task_id, state in found if task_id == "capped") == ["skipped", "success"]
    assert {state for task_id, state in found if task_id != "capped"} == {"success"}
    sent = sorted((phone, batch["content"][-1]) for batch in simulator.accepted() for phone in batch["phones"])
    assert [f"{phone[-1]}{text}" for phone, text in sent] == ["11", "21", "31", "42", "53", "75", "85"]
    assert _returned(run, "each.told") == [True, True]
    assert [each["dryRun"] for each in _returned(run, "each.sms.delivered")] == [True, True]


def _returned(run: Any, task_id: str) -> list[Any]:
    instances = [each for each in run.get_task_instances() if each.task_id == task_id]
    return [each.xcom_pull(task_ids=task_id, map_indexes=each.map_index) for each in instances]
