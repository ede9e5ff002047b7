"""The flush: one text a phone tells of what was held back, once, whatever fails or is killed in between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from sqlalchemy import update

from airflow_provider_sms import alarm_campaigns
from airflow_provider_sms.ledger.alarm_ends import AlarmEnds
from airflow_provider_sms.ledger.alarms import Alarm, Alarms
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.schema import alarm_table
from airflow_provider_sms.operators.sms import SmsAlarmFlushOperator
from tests.support.fixtures import SetConnection
from tests.support.simulator import Simulator

A, B = "13800130001", "13800130002"
NOTHING = {"phones": 0, "alarms": 0, "failed": 0}


@pytest.fixture(autouse=True)
def often(simulator: Simulator, connection: SetConnection) -> None:
    simulator.settings(one_per_minute=False)
    connection(extra={"signature": "云通信"})


@pytest.fixture
def alarms(ledger: Ledger) -> Alarms:
    return Alarms(ledger)


def take(alarms: Alarms, key: str, *phones: str, limit: int = 1) -> Any:
    alarm = Alarm(key, "", f"alarm {key}", f"【云通信】失败:etl.{key} https://airflow.example/{key}")
    return alarms.take(alarm, phones, limit, timedelta(minutes=10))


def storm(alarms: Alarms, ledger: Ledger, failures: int = 5) -> None:
    """Of so many failures the phones were texted about the first."""
    for number in range(failures):
        for share in take(alarms, str(number), A, B).shares:
            AlarmEnds(ledger).note_posted(share, alarm_campaigns.campaign_key("", share), ())


def flush(**changes: Any) -> dict[str, int]:
    return SmsAlarmFlushOperator(task_id="flush", **changes).execute({})  # type: ignore[typeddict-item]


def sent(simulator: Simulator) -> list[tuple[list[str], str]]:
    return [(batch["phones"], batch["content"]) for batch in simulator.accepted()]


def test_one_text_a_phone(alarms: Alarms, ledger: Ledger, simulator: Simulator) -> None:
    assert flush() == NOTHING
    storm(alarms, ledger)
    take(alarms, "more", B)
    assert flush() == {"phones": 2, "alarms": 4 + 5, "failed": 0}
    assert sent(simulator) == [
        ([A], "【云通信】4条告警未单独发送,最近一条:失败:etl.4"),
        ([B], "【云通信】5条告警未单独发送,最近一条:失败:etl.more"),
    ]
    assert flush() == NOTHING
    # It took a place among the phone's texts.
    assert take(alarms, "later", A, limit=2).held == 1


def test_a_dry_run_counts_and_sends_nothing(
    alarms: Alarms, ledger: Ledger, simulator: Simulator, logged: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storm(alarms, ledger)
    told = {"phones": 2, "alarms": 8, "failed": 0, "dryRun": True}
    assert flush(dry_run=True) == told
    monkeypatch.setenv("AIRFLOW__SMS__DRY_RUN", "True")
    assert flush() == told
    monkeypatch.delenv("AIRFLOW__SMS__DRY_RUN")
    assert "2 phones would be told of 8 alarms" in logged()
    assert sent(simulator) == []
    assert flush() == {"phones": 2, "alarms": 8, "failed": 0}


def test_in_english(alarms: Alarms, ledger: Ledger, simulator: Simulator) -> None:
    storm(alarms, ledger, 2)
    flush(language="en")
    ((phones, content),) = sent(simulator)
    assert phones == [A, B]
    assert content.startswith("【云通信】1 alarms were held back, last: 失败:etl.1")
    with pytest.raises(ValueError, match="language: 'fr'"):
        flush(language="fr")


def test_a_text_is_not_taken_for_a_dry_run() -> None:
    with pytest.raises(ValueError, match="^dry_run: expected True or False, got str"):
        flush(dry_run="False")


def test_what_can_not_be_sent_stays_held_back(alarms: Alarms, ledger: Ledger, simulator: Simulator) -> None:
    storm(alarms, ledger)
    simulator.settings(locked=True)
    for _ in range(2):
        with pytest.raises(AirflowFailException, match=r"锁定|locked"):
            flush()
    simulator.settings(locked=False)
    assert flush() == {"phones": 2, "alarms": 8, "failed": 0}


def test_without_its_connection_nothing_is_taken_to_be_told(
    alarms: Alarms, ledger: Ledger, simulator: Simulator
) -> None:
    storm(alarms, ledger)
    for _ in range(2):
        with pytest.raises(Exception, match="sms_gone"):
            flush(sms_conn_id="sms_gone")
    assert alarms.held("") == {A: 4, B: 4}
    assert flush() == {"phones": 2, "alarms": 8, "failed": 0}


def test_one_bad_phone_keeps_nobody_from_being_told(
    alarms: Alarms, ledger: Ledger, simulator: Simulator, logged: Callable[[], str]
) -> None:
    storm(alarms, ledger)
    simulator.fault("refuse", on="send", times=None, message="手机号码格式不正确", phone=A)
    flush()
    assert [phones for phones, _ in sent(simulator)] == [[B]]
    # Nobody tries that phone again.
    asked = simulator.requests()["counters"]["send"]
    assert flush() == NOTHING
    assert simulator.requests()["counters"]["send"] == asked


def test_what_is_in_doubt_is_not_told_again(alarms: Alarms, ledger: Ledger, simulator: Simulator) -> None:
    storm(alarms, ledger)
    simulator.fault("cut_after", on="send")
    with pytest.raises(AirflowFailException, match="resolve"):
        flush()
    assert flush() == NOTHING
    assert len(sent(simulator)) == 1


def age(ledger: Ledger) -> None:
    with ledger.writing() as connection:
        earlier = ledger.now(connection) - timedelta(hours=1)
        connection.execute(update(alarm_table).values(created_at=earlier))


def test_what_a_killed_process_has_left_behind_is_sent(
    alarms: Alarms, ledger: Ledger, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One took its place, and was killed before it sent; so was a flush.
    take(alarms, "first", A)
    take(alarms, "second", A)
    with monkeypatch.context() as killed:
        killed.setattr(alarm_campaigns, "send_share", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            flush()
    assert flush() == NOTHING
    age(ledger)
    assert flush() == {"phones": 2, "alarms": 2, "failed": 0}
    assert [content.partition(" ")[0] for _, content in sent(simulator)] == [
        "【云通信】失败:etl.first(可能重复)",
        "【云通信】1条告警未单独发送,最近一条:失败:etl.second",
    ]
    assert flush() == NOTHING


def test_a_process_that_was_killed_after_it_had_sent_is_believed(
    alarms: Alarms, ledger: Ledger, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    storm(alarms, ledger)
    with monkeypatch.context() as killed:
        killed.setattr(alarm_campaigns, "_settle", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            flush()
    age(ledger)
    assert flush() == {"phones": 2, "alarms": 8, "failed": 0}
    assert flush() == NOTHING
    assert len(sent(simulator)) == 1
