"""Five hundred failures at once: a few texts a phone, the rest counted and told once; also without a ledger."""

from __future__ import annotations

import multiprocessing
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from airflow_provider_sms import alarm_campaigns, alarm_ledger, alarm_sending, cli, sending
from airflow_provider_sms.alarm_memory import MEMORY
from airflow_provider_sms.gateway import texts
from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.alarm_ends import AlarmEnds
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.outbox import Outbox
from airflow_provider_sms.ledger.schema import alarm_table
from airflow_provider_sms.notifications.sms import SmsNotifier
from airflow_provider_sms.operators.sms import SmsAlarmFlushOperator
from tests.support.databases import PostgreSQL
from tests.support.fixtures import SetConnection, TaskInstance
from tests.support.observed import Observed
from tests.support.simulator import Simulator

PHONES = ["13800130001", "13800130002"]
FAILURES = 500
LIMIT = 5
AWAY = "postgresql+psycopg2://sms:FAKE-PASSWORD@127.0.0.1:1/sms"

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture(autouse=True)
def often(simulator: Simulator, connection: SetConnection) -> None:
    """A phone may be texted more than once a minute."""
    simulator.settings(one_per_minute=False)
    connection(extra={"signature": "云通信"})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that is away is away: nobody waits for it to come back."""
    monkeypatch.setattr(alarm_sending, "PATIENCE", 0.0)


def fail(number: int, **changes: Any) -> None:
    """What Airflow does when a task has failed."""
    ti: Any = TaskInstance(number)
    ti.state = "failed"
    SmsNotifier(**{"phones": PHONES, **changes}).notify({"ti": ti, "dag": None})


def counts(simulator: Simulator) -> dict[str, list[int]]:
    """Of each phone's texts, how many others each counts; every one of them fit to be sent."""
    found: dict[str, list[int]] = {phone: [] for phone in PHONES}
    for batch in simulator.accepted():
        assert texts.prepare(batch["content"]).content == batch["content"]
        others = re.search("另有([0-9]+)条|^【云通信】([0-9]+)条告警", batch["content"])
        for phone in batch["phones"]:
            found[phone].append(0 if others is None else int(others[1] or others[2]))
    return found


def flush() -> dict[str, int]:
    return SmsAlarmFlushOperator(task_id="flush").execute({})  # type: ignore[typeddict-item]


def assert_storm_was_weathered(simulator: Simulator, failures: int = FAILURES) -> None:
    """So many texts a phone at once, one more by the flush; every failure is in one of them."""
    assert {phone: len(others) for phone, others in counts(simulator).items()} == dict.fromkeys(PHONES, LIMIT)
    told = [flush(), flush()]
    held = failures - LIMIT - sum(counts(simulator)[PHONES[0]][:LIMIT])
    assert told == [
        {"phones": 2, "alarms": 2 * held, "failed": 0},
        {"phones": 0, "alarms": 0, "failed": 0},
    ]
    for others in counts(simulator).values():
        assert len(others) == LIMIT + 1
        assert sum(others) + LIMIT == failures


def test_a_storm_in_threads_on_sqlite(simulator: Simulator) -> None:
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(fail, range(FAILURES)))
    assert_storm_was_weathered(simulator)


@pytest.fixture
def postgresql_ledger(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ledger that `[sms]` names: a PostgreSQL of the test's own."""
    with closing(Ledger(read_url(postgresql_url))) as ledger:
        versions.upgrade(ledger)
    monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", postgresql_url)
    return postgresql_url


def fail_many(first: int, count: int) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(fail, range(first, first + count)))


def in_processes(step: Callable[..., None], *arguments: tuple[Any, ...]) -> None:
    processes = [multiprocessing.get_context("fork").Process(target=step, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(processes)


@pytest.mark.once
def test_a_storm_in_processes_on_postgresql(simulator: Simulator, postgresql_ledger: str) -> None:
    part = FAILURES // 4
    in_processes(fail_many, *((first, part) for first in range(0, FAILURES, part)))
    assert_storm_was_weathered(simulator)


# Without the ledger


@pytest.fixture(params=["away", "refused", "not upgraded"])
def no_ledger(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, impatient: None) -> str:
    """The ways in which there is no ledger, and what the log says of each."""
    url, said = AWAY, "postgresql on 127.0.0.1"
    match request.param:
        case "refused":
            monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
            url, said = f"sqlite:///{tmp_path / 'refused.db'}", "this process runs in Kubernetes"
        case "not upgraded":
            (tmp_path / "empty.db").touch()
            url, said = f"sqlite:///{tmp_path / 'empty.db'}", "airflow-sms ledger upgrade"
    monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", url)
    return said


def test_without_a_ledger_it_is_sent_all_the_same(
    simulator: Simulator, no_ledger: str, logged: Callable[[], str]
) -> None:
    for _ in range(10):
        fail(1)
    (batch,) = simulator.accepted()
    assert batch["phones"] == PHONES
    said = logged()
    assert no_ledger in said
    assert "De-duplication was off" in said
    assert not any(phone in said for phone in PHONES)


def test_a_storm_without_a_ledger_is_bounded_for_each_process(
    simulator: Simulator, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", AWAY)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(fail, [*range(FAILURES), *range(FAILURES)]))
    assert {phone: len(others) for phone, others in counts(simulator).items()} == dict.fromkeys(PHONES, LIMIT)


@pytest.fixture
def frozen(postgresql_ledger: str, postgresql_server: PostgreSQL) -> Iterator[None]:
    postgresql_server.freeze()
    yield
    postgresql_server.thaw()


@pytest.mark.once
def test_a_ledger_that_hangs_is_not_waited_for(
    simulator: Simulator, frozen: None, impatient: None, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    limits = alarm_ledger.LIMITS
    monkeypatch.setattr(alarm_ledger, "LIMITS", type(limits)(connect=2, lock=1.0, statement=1.0, silence=2))
    done = threading.Thread(target=fail, args=(1,), daemon=True)
    done.start()
    done.join(30)
    assert not done.is_alive()
    assert len(simulator.accepted()) == 1
    assert "De-duplication was off" in logged()


def test_whatever_the_ledger_raises_the_alarm_goes_out(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("13800130001")

    monkeypatch.setattr(alarm_ledger.opening, "open_ledger", broken)
    fail(1)
    assert len(simulator.accepted()) == 1
    assert "(RuntimeError)" in logged()


def test_what_was_sent_with_the_ledger_is_not_sent_again_when_it_goes_away(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    fail(1)
    with monkeypatch.context() as away:
        away.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", AWAY)
        fail(1)
        fail(2)
    # And the other way round.
    fail(2)
    assert len(simulator.accepted()) == 2


def away(*_: Any, **__: Any) -> None:
    raise LedgerUnreachableError("The ledger is away.")


def test_a_ledger_that_goes_away_before_the_text_leaves_is_done_without(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    with monkeypatch.context() as gone:
        gone.setattr(alarm_campaigns, "begin", away)
        fail(1)
    assert len(simulator.accepted()) == 1
    assert "The alarm is sent without the ledger." in logged()
    # It is back, and knows that there is nothing more to send.
    fail(1)
    assert len(simulator.accepted()) == 1


def test_one_that_goes_away_after_that_is_no_reason_to_send_again(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    with monkeypatch.context() as gone:
        gone.setattr(sending.reports, "report_of_what_stands", away)
        gone.setattr(alarm_campaigns, "_settle", away)
        fail(1)
    assert "The alarm has left" in logged()
    fail(1)
    assert len(simulator.accepted()) == 1


def test_what_failed_without_the_ledger_may_be_tried_again(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", AWAY)
    simulator.settings(locked=True)
    fail(1)
    simulator.settings(locked=False)
    fail(1)
    assert len(simulator.accepted()) == 1


def test_one_bad_phone_keeps_nobody_from_being_told_without_the_ledger(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", AWAY)
    refuse_one(simulator)
    fail(1)
    assert [batch["phones"] for batch in simulator.accepted()] == [[PHONES[1]]]
    # Nor does it get the others a second text; it is counted into its own next one.
    fail(1)
    assert len(simulator.accepted()) == 1
    simulator.clear_faults()
    fail(2)
    assert counts(simulator) == {PHONES[0]: [1], PHONES[1]: [0, 0]}


def refuse_one(simulator: Simulator) -> None:
    """Of two phones one is refused, and with it every text that names it."""
    simulator.fault("refuse", on="send", times=None, message="手机号码格式不正确", phone=PHONES[0])


def test_nor_where_the_ledger_goes_away_and_comes_back(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_one(simulator)
    with monkeypatch.context() as gone:
        gone.setattr(alarm_campaigns, "begin", away)
        fail(1)
    simulator.clear_faults()
    assert flush() == {"phones": 1, "alarms": 1, "failed": 0}
    assert counts(simulator) == {PHONES[0]: [1], PHONES[1]: [0]}


def test_a_text_that_the_ledger_did_not_hear_of_is_not_sent_again_by_this_process(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, impatient: None, logged: Callable[[], str]
) -> None:
    with monkeypatch.context() as gone:
        gone.setattr(alarm_campaigns, "begin", away)
        gone.setattr(AlarmEnds, "note_posted", away)
        fail(1)
    assert "a flush may send it again" in logged()
    fail(1)
    assert len(simulator.accepted()) == 1


def test_the_ledger_is_told_as_soon_as_it_is_back(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ledger: Ledger
) -> None:
    note, tries = AlarmEnds.note_posted, 0

    def away_at_first(*arguments: Any) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            away()
        note(*arguments)

    with monkeypatch.context() as gone:
        # It goes away with the text planned.
        gone.setattr(Outbox, "claim", away)
        gone.setattr(sending.reports, "report_of_what_stands", away)
        gone.setattr(alarm_campaigns, "SETTLE_LIMIT", 0.0)
        gone.setattr(AlarmEnds, "note_posted", away_at_first)
        gone.setattr(alarm_sending.time, "sleep", lambda seconds: None)
        fail(1, campaign_key="broken")
    MEMORY.clear()
    fail(1, campaign_key="broken")
    happened_earlier(ledger)
    assert flush()["phones"] == 0
    assert len(simulator.accepted()) == 1
    capsys.readouterr()
    assert cli.main(["status", "alarm broken"]) == 0
    assert "Sent without the ledger, which was away: 1 batch, 2 phones" in capsys.readouterr().out


def happened_earlier(ledger: Ledger) -> None:
    with ledger.writing() as connection:
        earlier = ledger.now(connection) - timedelta(hours=1)
        connection.execute(update(alarm_table).values(created_at=earlier))


def test_where_it_is_not_told_the_flush_says_that_this_may_be_a_repeat(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, impatient: None, ledger: Ledger
) -> None:
    with monkeypatch.context() as gone:
        gone.setattr(alarm_campaigns, "begin", away)
        gone.setattr(AlarmEnds, "note_posted", away)
        fail(1, content="【云通信】disk full https://airflow.example/log")
    # It may still be on its way.
    assert flush()["phones"] == 0
    happened_earlier(ledger)
    assert flush()["phones"] == 2
    assert [batch["content"] for batch in simulator.accepted()] == [
        "【云通信】disk full https://airflow.example/log",
        "【云通信】disk full(可能重复) https://airflow.example/log",
    ]
    assert flush()["phones"] == 0


@pytest.mark.parametrize("url", ["", AWAY], ids=["with the ledger", "without"])
def test_alarms_are_counted_as_all_texts_are(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, impatient: None, url: str
) -> None:
    monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", url)
    observed = Observed()
    monkeypatch.setattr(SmsHook, "observer", observed)
    fail(1)
    simulator.settings(locked=True)
    fail(2)
    simulator.settings(locked=False)
    simulator.fault("cut_after", on="send")
    fail(3)
    assert observed.sums == {"accepted": 2, "refused AccountLockedError": 2, "in doubt": 2}
    assert observed.requests == ["accepted", "refused", "in_doubt"]
    assert observed.balances
