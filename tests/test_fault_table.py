"""The fault tables: whatever goes wrong with a request, no phone is texted twice: by a retry and a clear, nor by an
alarm's callback that fires again and a flush.

Each row of the tables in `docs/en/explanation/reliability.md` is what happened here. `pytest -s` prints them,
SMS_UPDATE_DOCS=1 writes them into the page, and into the Chinese one.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from sqlalchemy import select

from airflow_provider_sms.ledger import reports
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.outbox import Outbox
from airflow_provider_sms.ledger.schema import AlarmState, BatchState, alarm_phone_table, batch_table, recipient_table
from airflow_provider_sms.notifications.sms import SmsNotifier
from airflow_provider_sms.operators.sms import SmsAlarmFlushOperator, SmsGroupSendOperator
from airflow_provider_sms.send_judging import CampaignError
from airflow_provider_sms.simulator import document
from airflow_provider_sms.simulator.faults import KINDS
from tests.support import fault_table_zh
from tests.support.fault_table import (
    ALARM_FAULTS,
    ALARMS,
    CAMPAIGNS,
    CHINESE_PAGE,
    FAULTS,
    FIRST_PHONE,
    Fault,
    Row,
    Table,
)
from tests.support.fixtures import TaskInstance
from tests.support.simulator import Simulator

PHONES = [FIRST_PHONE, "13800130002", "13800130003", "13800130004"]
ALARM_PHONES = PHONES[:2]
SUCCEEDS, IS_RETRIED, FAILS_FOR_GOOD = "succeeds", "fails, is retried", "fails for good"
NOTHING = "–"
UPDATES = bool(os.environ.get("SMS_UPDATE_DOCS"))

_rows: dict[Table, dict[str, Row]] = {CAMPAIGNS: {}, ALARMS: {}}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sms.sending.time.sleep", lambda seconds: None)


@pytest.fixture(scope="module", autouse=True)
def _printed() -> Iterator[None]:
    yield
    for table, faults in ((CAMPAIGNS, FAULTS), (ALARMS, ALARM_FAULTS)):
        rows = [_rows[table][fault.what] for fault in faults if fault.what in _rows[table]]
        print(f"\n{table.text(rows)}")
        if UPDATES and len(rows) == len(faults):
            table.write_into_pages(rows)


@dataclass
class Task:
    """One task of a DAG run: tried, retried and cleared."""

    simulator: Simulator
    ledger: Ledger
    guards: Mapping[str, Any] = field(default_factory=dict)
    tries: int = 0

    def run(self) -> str:
        """One try, as its row says it: how it ended, and where the phones are then."""
        self.tries += 1
        operator = SmsGroupSendOperator(
            task_id="send", phones=PHONES, content="【云通信】您好", batch_size=2, max_wait=timedelta(0), **self.guards
        )
        summary: dict[str, Any] | None = None
        message = ""
        try:
            summary = operator.execute({"ti": TaskInstance(try_number=self.tries)})
            ending = SUCCEEDS
        except AirflowFailException as error:
            ending, message = FAILS_FOR_GOOD, str(error)
        except CampaignError as error:
            ending, message = IS_RETRIED, str(error)
        report = self._report()
        if summary is None:
            assert f"Phones: {report}." in message
            assert f"airflow-sms status {report.campaign}" in message
        else:
            assert summary == report.summary()
        return f"{ending}: {_counts(report)}"

    def texts(self) -> Counter[str]:
        """How often the platform has accepted each phone."""
        return texts_at(self.simulator)

    def check_books(self) -> None:
        """Every phone is in exactly one place, and the ledger says nothing that the platform would deny."""
        places = self._places()
        assert {phone: len(states) for phone, states in places.items()} == dict.fromkeys(PHONES, 1)
        report = self._report()
        counted = (report.accepted, report.refused, report.in_doubt, report.sending, report.not_sent, report.expired)
        assert sum(counted) == len(PHONES)
        assert (report.sending, report.expired, report.excluded) == (0, 0, {})
        assert (
            sum(places[phone] == [BatchState.IN_DOUBT] for phone in PHONES),
            sum(places[phone] == [BatchState.PLANNED] for phone in PHONES),
        ) == (report.in_doubt, report.not_sent)
        known = {batch["taskId"] for batch in self.simulator.accepted()}
        assert set(report.task_ids) <= known
        # What was texted is accepted, or at the least in doubt: never called refused or not sent.
        texted = {state for phone in self.texts() for state in places[phone]}
        assert texted <= {BatchState.ACCEPTED, BatchState.IN_DOUBT}

    def _report(self) -> reports.Report:
        with self.ledger.reading() as connection:
            campaign_id = connection.execute(select(batch_table.c.campaign_id).limit(1)).scalar_one()
        return reports.report(self.ledger, campaign_id)

    def _places(self) -> dict[str, list[BatchState]]:
        with self.ledger.reading() as connection:
            batches = connection.execute(select(batch_table)).all()
            people = connection.execute(select(recipient_table)).all()
        return {
            person.phone: [
                BatchState(batch.state)
                for batch in batches
                if batch.first_position <= person.position <= batch.last_position
            ]
            for person in people
        }


def texts_at(simulator: Simulator) -> Counter[str]:
    return Counter(phone for batch in simulator.accepted() for phone in batch["phones"])


def _counts(report: reports.Report) -> str:
    counts = {
        "accepted": report.accepted,
        "refused": report.refused,
        "in doubt": report.in_doubt,
        "not sent": report.not_sent,
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


@pytest.fixture
def task(simulator: Simulator, ledger: Ledger) -> Task:
    # A second text to a phone is accepted, and so is seen.
    simulator.settings(one_per_minute=False)
    return Task(simulator, ledger)


@pytest.fixture
def pause_before_each_request(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    claim = Outbox.claim

    def pause_before_each_request(seconds: float) -> None:
        def claim_later(*args: Any) -> Any:
            # Not time.sleep, of which there is nothing left here.
            threading.Event().wait(seconds)
            return claim(*args)

        monkeypatch.setattr(Outbox, "claim", claim_later)

    return pause_before_each_request


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_whatever_goes_wrong_no_phone_is_texted_twice_and_each_is_in_one_place(
    fault: Fault,
    task: Task,
    simulator: Simulator,
    connection: Callable[..., None],
    pause_before_each_request: Callable[[float], None],
) -> None:
    if fault.pause:
        pause_before_each_request(fault.pause)
    task.guards = fault.guards
    fault.begin(simulator, connection)
    first_try = task.run()
    task.check_books()
    retry = NOTHING
    if first_try.startswith(IS_RETRIED):
        retry = task.run()
        task.check_books()
    fault.end(simulator, connection)
    clear = task.run()
    task.check_books()

    row = Row(fault.what, first_try, retry, clear, max(task.texts().values()))
    assert row.most_texts == 1
    _rows[CAMPAIGNS][fault.what] = row
    assert UPDATES or CAMPAIGNS.lines_of_page().get(fault.what) == row.line


def _where(ledger: Ledger) -> str:
    """Where an alarm's phones are: what its texts have come to, or that they wait for the next one."""
    table = alarm_phone_table
    with ledger.reading() as connection:
        rows = connection.execute(select(table.c.phone, table.c.state)).all()
        of_batch = batch_table.c.campaign_id == recipient_table.c.campaign_id
        batches = connection.execute(
            select(recipient_table.c.phone, batch_table.c.state).where(
                of_batch, recipient_table.c.position.between(batch_table.c.first_position, batch_table.c.last_position)
            )
        ).all()
    assert {row.state for row in rows}.isdisjoint({AlarmState.TAKEN})
    held = {row.phone for row in rows if row.state == AlarmState.HELD}
    places: Counter[str] = Counter()
    for phone in ALARM_PHONES:
        ends = {row.state for row in batches if row.phone == phone} - {BatchState.EXPIRED.value}
        (place,) = {"held back"} if phone in held else ends
        places[place.replace("_", " ")] += 1
    order = ("accepted", "refused", "in doubt", "held back")
    return ", ".join(f"{places[place]} {place}" for place in order if places[place])


@pytest.mark.parametrize("fault", ALARM_FAULTS, ids=lambda fault: fault.what)
def test_whatever_goes_wrong_no_phone_gets_an_alarm_twice_and_none_is_forgotten(
    fault: Fault, simulator: Simulator, ledger: Ledger, connection: Callable[..., None]
) -> None:
    simulator.settings(one_per_minute=False)
    ti: Any = TaskInstance()
    ti.state = "failed"
    notifier = SmsNotifier(phones=ALARM_PHONES, content="【云通信】{{ ti.task_id }} failed")
    fault.begin(simulator, connection)
    notifier({"ti": ti, "dag": None})
    first = _where(ledger)
    notifier({"ti": ti, "dag": None})
    second = _where(ledger)
    fault.end(simulator, connection)
    SmsAlarmFlushOperator(task_id="flush").execute({})  # type: ignore[typeddict-item]
    third = _where(ledger)

    row = Row(fault.what, first, second, third, max(texts_at(simulator).values(), default=0))
    assert row.most_texts <= 1
    assert "held back" not in third
    # Nobody is left without it but by a refusal for good, or by a doubt, which the log and the ledger tell of.
    assert row.most_texts == 1 or "in doubt" in third
    _rows[ALARMS][fault.what] = row
    assert UPDATES or ALARMS.lines_of_page().get(fault.what) == row.line


@pytest.mark.parametrize("status", [404, 429])
def test_an_answer_that_says_no_is_believed(
    status: int, task: Task, simulator: Simulator, connection: Callable[..., None]
) -> None:
    """The table's limit, and why none of its rows is a refusal of a request that was taken: nobody could tell."""
    Fault("", "status", {"status": status, "accept": True}).begin(simulator, connection)
    task.run()
    task.run()
    assert max(task.texts().values()) == 2


class TestTheTable:
    def test_it_has_every_kind_of_fault(self) -> None:
        assert {fault.kind for fault in FAULTS} == {"", *KINDS}

    @pytest.mark.parametrize("kind", [kind for kind, what in KINDS.items() if "accept" in what.fields])
    def test_it_has_a_request_that_was_taken_and_one_that_was_not(self, kind: str) -> None:
        default = KINDS[kind].fields["accept"]
        assert {fault.fields.get("accept", default) for fault in FAULTS if fault.kind == kind} == {True, False}

    def test_it_has_every_refusal_that_the_simulator_knows(self) -> None:
        known = {value for name, value in vars(document).items() if name.isupper() and _is_a_message(value)}
        assert {word for word in known if not any(word in fault.what for fault in FAULTS)} == {document.SUCCESS}

    @pytest.mark.skipif(UPDATES, reason="it is being written")
    def test_the_page_has_these_rows_and_no_others(self) -> None:
        assert list(CAMPAIGNS.lines_of_page()) == [fault.what for fault in FAULTS]
        assert list(ALARMS.lines_of_page()) == [fault.what for fault in ALARM_FAULTS]

    @pytest.mark.skipif(UPDATES, reason="it is being written")
    @pytest.mark.parametrize("table", [CAMPAIGNS, ALARMS], ids=lambda table: table.name)
    def test_the_chinese_page_has_the_same_rows(self, table: Table) -> None:
        english = table.lines_of_page().values()
        chinese = table.lines_of_page(CHINESE_PAGE).values()
        assert list(chinese) == [fault_table_zh.translated(line) for line in english]


def _is_a_message(value: object) -> bool:
    return isinstance(value, str) and not value.isascii()
