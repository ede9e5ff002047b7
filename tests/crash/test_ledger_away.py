"""A ledger that goes away between the platform's yes and its being written down: ends in words, not in a second text.

On PostgreSQL, which is really stopped. No minute is waited: the sender's pauses and its clock are the test's.
"""

from __future__ import annotations

import logging
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from sqlalchemy import text

from airflow_provider_sms import cli, send_steps, sending
from airflow_provider_sms.gateway.client import SmsClient
from airflow_provider_sms.ledger import outbox, verdicts, versions
from airflow_provider_sms.ledger.database import Ledger, Limits, read_url
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from tests.support.databases import PostgreSQL
from tests.support.fixtures import TaskInstance
from tests.support.simulator import Simulator

pytestmark = [pytest.mark.crash, pytest.mark.once]

PHONES = [f"1380013{number:04d}" for number in range(8)]


class Outage:
    """Stops the server when the platform has accepted for the first time; it comes back after some pauses, or never."""

    def __init__(self, server: PostgreSQL, simulator: Simulator) -> None:
        self.comes_back_after: int | None = None
        self.pauses: list[float] = []
        self.asked_meanwhile = 0
        self._server = server
        self._simulator = simulator
        self._lock = threading.Lock()
        self._begun = False

    def begin(self) -> None:
        with self._lock:
            if not self._begun:
                self._begun = True
                self._server.stop()
                self._asked = self._requests()

    def pause(self, seconds: float) -> None:
        with self._lock:
            self.pauses.append(seconds)
            self.asked_meanwhile = self._requests() - self._asked
            if len(self.pauses) == self.comes_back_after:
                self._server.start()

    def clock(self) -> float:
        return sum(self.pauses)

    def _requests(self) -> int:
        return int(self._simulator.requests()["counters"]["send"])


@pytest.fixture
def postgresql_ledger(connection: object, postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ledger that `[sms]` names: a PostgreSQL of the test's own."""
    with closing(Ledger(read_url(postgresql_url))) as ledger:
        versions.upgrade(ledger)
    monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", postgresql_url)
    return postgresql_url


@pytest.fixture
def outage(
    postgresql_ledger: str, postgresql_server: PostgreSQL, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Outage]:
    simulator.settings(one_per_minute=False)
    outage = Outage(postgresql_server, simulator)
    send = SmsClient.send

    def sent(client: SmsClient, *args: Any, **kwargs: Any) -> Any:
        acceptance = send(client, *args, **kwargs)
        outage.begin()
        return acceptance

    monkeypatch.setattr(SmsClient, "send", sent)
    defaults = sending.Sender.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "pause", outage.pause)
    monkeypatch.setitem(defaults, "clock", outage.clock)
    yield outage
    postgresql_server.start()


def operator(**changes: Any) -> SmsGroupSendOperator:
    return SmsGroupSendOperator(task_id="send", phones=PHONES, content="【云通信】您好", batch_size=2, **changes)


def texted(simulator: Simulator) -> list[str]:
    return sorted(phone for batch in simulator.accepted() for phone in batch["phones"])


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What was logged, whichever way this Airflow does it."""
    with caplog.at_level(logging.WARNING):
        yield lambda: caplog.text + capsys.readouterr().out


@pytest.mark.parametrize("in_flight", [1, 3])
def test_it_comes_back_and_what_was_accepted_is_written_down(
    in_flight: int, outage: Outage, simulator: Simulator, context: Any, ti: TaskInstance, logged: Callable[[], str]
) -> None:
    outage.comes_back_after = 4
    summary = operator(max_in_flight=in_flight).execute(context)
    assert (summary["accepted"], summary["inDoubt"], summary["notSent"]) == (8, 0, 0)
    assert texted(simulator) == PHONES
    assert sorted(ti.pushed[-1][1]) == sorted(batch["taskId"] for batch in simulator.accepted())
    assert "nothing new is sent until then" in logged()
    # What was on its way already may still come in.
    assert outage.asked_meanwhile < in_flight


class TestItDoesNotComeBack:
    @pytest.fixture
    def message(self, outage: Outage, context: Any) -> str:
        with pytest.raises(AirflowFailException) as ended:
            operator().execute(context)
        assert send_steps.SETTLE_LIMIT <= outage.clock() < send_steps.SETTLE_LIMIT + 60
        return str(ended.value)

    @pytest.fixture
    def first_process_is_dead(
        self, message: str, postgresql_server: PostgreSQL, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As it is in earnest when somebody comes to look; and the ledger is back."""
        postgresql_server.start()
        for module in (outbox, verdicts):
            monkeypatch.setattr(module, "is_provably_dead", lambda owner: True)

    def test_the_task_and_its_log_say_what_to_run(
        self, logged: Callable[[], str], message: str, simulator: Simulator
    ) -> None:
        (batch,) = simulator.accepted()
        line = f"airflow-sms resolve dag/run/send --batch 1 --sent {batch['taskId']}"
        assert line in message
        assert line in logged()

    def test_the_line_does_what_it_says_and_a_clear_sends_the_rest(
        self, message: str, first_process_is_dead: None, simulator: Simulator, context: Any, ti: TaskInstance
    ) -> None:
        (line,) = set(re.findall("airflow-sms resolve .*", message))
        assert cli.main(shlex.split(line)[1:]) == 0
        assert operator().execute(context)["accepted"] == 8
        assert texted(simulator) == PHONES
        assert sorted(ti.pushed[-1][1]) == sorted(batch["taskId"] for batch in simulator.accepted())

    @pytest.mark.usefixtures("message", "first_process_is_dead")
    def test_the_next_try_texts_the_others_and_not_those_again(self, simulator: Simulator, context: Any) -> None:
        with pytest.raises(AirflowFailException, match="6 accepted, 0 refused, 2 in doubt, 0 not sent") as ended:
            operator().execute(context)
        assert texted(simulator) == PHONES
        assert re.search(r"airflow-sms resolve dag/run/send --batch 1 ", str(ended.value))


@pytest.mark.timeout(60)
def test_who_stands_still_within_a_transaction_does_not_hold_up_the_others_for_ever(postgresql_ledger: str) -> None:
    locks = text("UPDATE sms_ledger SET created_at = created_at")
    first, second = (Ledger(read_url(postgresql_ledger), limits) for limits in (Limits(silence=1), Limits()))
    with closing(first), closing(second):
        still = first.writing()
        still.__enter__().execute(locks)
        # Without a limit this would wait for as long as the other stands still.
        with second.writing() as connection:
            connection.execute(locks)
        with pytest.raises(LedgerUnreachableError):
            still.__exit__(None, None, None)
