"""The fault table: whatever goes wrong with a request, then is retried and cleared, no phone is texted twice.

Each row of the table in `docs/en/explanation/reliability.md` is what happened here. `pytest -s` prints the table,
SMS_UPDATE_DOCS=1 writes it into the page, and into the Chinese one.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from sqlalchemy import select

from airflow_provider_sms.ledger import reports
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.outbox import Outbox
from airflow_provider_sms.ledger.schema import BatchState, batch_table, recipient_table
from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.send_judging import CampaignError
from airflow_provider_sms.simulator import document
from airflow_provider_sms.simulator.faults import KINDS
from tests.support import fault_table, fault_table_zh
from tests.support.fault_table import FAULTS, FIRST_PHONE, Fault, Row
from tests.support.fixtures import TaskInstance
from tests.support.simulator import Simulator

PHONES = [FIRST_PHONE, "13800130002", "13800130003", "13800130004"]
SUCCEEDS, IS_RETRIED, FAILS_FOR_GOOD = "succeeds", "fails, is retried", "fails for good"
NOTHING = "–"
UPDATES = bool(os.environ.get("SMS_UPDATE_DOCS"))

_rows: dict[str, Row] = {}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sms.sending.time.sleep", lambda seconds: None)


@pytest.fixture(scope="module", autouse=True)
def _printed() -> Iterator[None]:
    yield
    rows = [_rows[fault.what] for fault in FAULTS if fault.what in _rows]
    print(f"\n{fault_table.table(rows)}")
    if UPDATES and len(rows) == len(FAULTS):
        fault_table.write_into_pages(rows)


@dataclass
class Task:
    """One task of a DAG run: tried, retried and cleared."""

    simulator: Simulator
    ledger: Ledger
    tries: int = 0

    def run(self) -> str:
        """One try, as its row says it: how it ended, and where the phones are then."""
        self.tries += 1
        operator = SmsGroupSendOperator(
            task_id="send", phones=PHONES, content="【云通信】您好", batch_size=2, max_wait=timedelta(0)
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
        return Counter(phone for batch in self.simulator.accepted() for phone in batch["phones"])

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
    _rows[fault.what] = row
    assert UPDATES or fault_table.lines_of_page().get(fault.what) == row.line


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
        assert list(fault_table.lines_of_page()) == [fault.what for fault in FAULTS]

    @pytest.mark.skipif(UPDATES, reason="it is being written")
    def test_the_chinese_page_has_the_same_rows(self) -> None:
        english = fault_table.lines_of_page().values()
        chinese = fault_table.lines_of_page(fault_table.CHINESE_PAGE).values()
        assert list(chinese) == [fault_table_zh.translated(line) for line in english]


def _is_a_message(value: object) -> bool:
    return isinstance(value, str) and not value.isascii()
