"""Phones and texts go by themselves after `[sms] retention_days`, and the campaign is never sent anew."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from sqlalchemy import select, update

from airflow_provider_sms import cli, retention
from airflow_provider_sms.ledger import upkeep
from airflow_provider_sms.ledger.alarms import Alarm, Alarms
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.schema import alarm_table, batch_table, campaign_table, recipient_table
from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from tests.support.fixtures import TaskInstance
from tests.support.simulator import Simulator

LOG = logging.getLogger(__name__)


def send(task_id: str, *, run_id: str = "run") -> dict[str, Any]:
    task = SmsGroupSendOperator(task_id=task_id, phones=[f"1380013000{len(task_id) % 10}"], content="【云通信】您好")
    ti = TaskInstance()
    ti.task_id, ti.run_id = task_id, run_id
    return task.execute({"ti": ti})


def age(ledger: Ledger, days: float) -> None:
    then = (datetime.now(UTC) - timedelta(days=days)).replace(tzinfo=None)
    with ledger.writing() as connection:
        connection.execute(update(campaign_table).values(planned_at=then, valid_until=then))
        connection.execute(update(batch_table).values(settled_at=then))


def phones(ledger: Ledger) -> int:
    with ledger.reading() as connection:
        return len(connection.execute(select(recipient_table.c.phone)).all())


def test_alarms_that_nobody_was_told_of_do_not_go_without_a_word(
    simulator: Simulator, ledger: Ledger, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    alarm = Alarm("disk full", "", "alarm disk full", "【云通信】disk full")
    Alarms(ledger).take(alarm, ["13800130001", "13800130002"], 1, timedelta(minutes=10))
    with ledger.writing() as connection:
        connection.execute(update(alarm_table).values(created_at=ledger.now(connection) - timedelta(days=31)))
    assert cli.main(["ledger", "purge", "--dry-run"]) == 0
    assert "1 alarms (held back and told to nobody: 2, by phone)" in capsys.readouterr().out
    with caplog.at_level(logging.WARNING):
        retention.keep(ledger, LOG)
    assert "nobody is known to have been told of: 2, by phone" in caplog.text
    caplog.clear()
    retention.keep(ledger, LOG)
    assert caplog.text == ""


@pytest.fixture(autouse=True)
def _thirty_days(connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SMS__RETENTION_DAYS", "30")


def test_the_next_campaign_removes_what_is_due(simulator: Simulator, ledger: Ledger) -> None:
    send("old")
    age(ledger, days=31)
    send("next")
    assert phones(ledger) == 1
    with pytest.raises(AirflowFailException, match="its phones and texts were removed"):
        send("old")
    assert len(simulator.accepted()) == 2


def test_what_is_not_due_stays(simulator: Simulator, ledger: Ledger) -> None:
    send("old")
    age(ledger, days=29)
    send("next")
    assert phones(ledger) == 2


def test_nothing_goes_by_itself_without_the_setting(
    simulator: Simulator, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__SMS__RETENTION_DAYS")
    send("old")
    age(ledger, days=3000)
    send("next")
    assert phones(ledger) == 2


def test_a_ledger_that_fails_at_it_is_not_the_campaign_s_trouble(
    simulator: Simulator, ledger: Ledger, ledger_file: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def away(*args: object) -> None:
        raise LedgerUnreachableError("The ledger says: away.")

    send("old")
    age(ledger, days=31)
    monkeypatch.setattr(upkeep, "purge", away)
    retention.keep(ledger, LOG)
    assert "could not be removed: The ledger says: away." in caplog.text
    assert phones(ledger) == 1
