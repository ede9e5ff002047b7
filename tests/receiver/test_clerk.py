"""Beside storing: pushes are matched soon, storing goes first where one thread does both, no failure is a push's."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from airflow_provider_sms.gateway.opt_outs import OptOutWords
from airflow_provider_sms.gateway.pushes import Heard, Receipt
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.inbox import Inbox, take_stock
from airflow_provider_sms.receiver import clerk as module
from airflow_provider_sms.receiver.clerk import LOOK_EVERY, LOOKED_AT_ONCE, STORING_FIRST, Beside, Steps
from tests.support.simulator import wait_until

WORDS = OptOutWords(["R"])


class Matching:
    """Stands for the matcher: each look takes its time, and finds as many as it is asked for."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.takes = 0.1
        self.finds: int | None = None
        self.looks = self.revisits = 0
        self.problem: Exception | None = None

    def look(self, most: int) -> int:
        self.looks += 1
        self.now += self.takes
        if self.problem is not None:
            raise self.problem
        return most if self.finds is None else self.finds

    def revisit(self) -> None:
        self.revisits += 1


@pytest.fixture
def matching(monkeypatch: pytest.MonkeyPatch) -> Matching:
    matching = Matching()
    monkeypatch.setattr(module, "Matcher", lambda *arguments: matching)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: matching.now))
    return matching


@pytest.fixture
def steps(matching: Matching, ledger: Ledger) -> Steps:
    """One that has had its first look."""
    steps = Steps(ledger, WORDS)
    matching.finds = 0
    assert not steps.work(is_quiet=True)
    matching.finds, matching.looks = None, 0
    matching.now += 60
    steps.work(is_quiet=True)
    return steps


class TestSteps:
    def test_what_was_there_before_is_looked_at(self, matching: Matching, ledger: Ledger) -> None:
        matching.finds = 0
        Steps(ledger, WORDS).work(is_quiet=False)
        assert matching.looks == 1

    def test_a_single_push_is_looked_at_as_soon_as_it_is_quiet(self, matching: Matching, steps: Steps) -> None:
        looks = matching.looks
        matching.finds = 1
        steps.tell(1)
        assert not steps.work(is_quiet=True)
        assert matching.looks == looks + 1

    def test_where_nothing_was_stored_nothing_is_looked_at_at_once(self, matching: Matching, steps: Steps) -> None:
        looks = matching.looks
        steps.work(is_quiet=True)
        assert matching.looks == looks

    def test_others_may_have_stored_something(self, matching: Matching, steps: Steps) -> None:
        looks = matching.looks
        matching.now += LOOK_EVERY
        steps.work(is_quiet=True)
        assert matching.looks == looks + 1

    def test_while_they_come_many_are_looked_at_together(self, matching: Matching, steps: Steps) -> None:
        looks = matching.looks
        matching.now += LOOK_EVERY / 2
        steps.tell(LOOKED_AT_ONCE - 1)
        steps.work(is_quiet=False)
        assert matching.looks == looks
        steps.tell(1)
        assert not steps.work(is_quiet=False)
        assert matching.looks == looks + 1

    def test_storing_goes_first(self, matching: Matching, steps: Steps) -> None:
        matching.takes = 0.25
        steps.tell(50 * LOOKED_AT_ONCE)
        matching.now += LOOK_EVERY
        began, looks = matching.now, matching.looks
        while matching.now < began + 10:
            assert steps.work(is_quiet=False)
            matching.now += 0.01
        spent = (matching.looks - looks) * matching.takes
        assert spent == pytest.approx(10 / (1 + STORING_FIRST), rel=0.1)

    def test_and_when_it_is_quiet_the_rest_is_done_at_once(self, matching: Matching, steps: Steps) -> None:
        looks = matching.looks
        steps.tell(20 * LOOKED_AT_ONCE)
        while steps.work(is_quiet=True):
            pass
        assert matching.looks == looks + 20

    def test_where_another_process_matches_nothing_is_hurried(self, matching: Matching, steps: Steps) -> None:
        matching.finds = 0
        steps.tell(20 * LOOKED_AT_ONCE)
        assert not steps.work(is_quiet=True)

    def test_a_failure_is_said_once_in_a_while_and_is_nobody_else_s(
        self, matching: Matching, steps: Steps, caplog: pytest.LogCaptureFixture
    ) -> None:
        matching.problem = LedgerUnreachableError("13800130001")
        with caplog.at_level(logging.WARNING):
            for _ in range(5):
                steps.tell(1)
                assert not steps.work(is_quiet=True)
        said = [record.getMessage() for record in caplog.records if "not matched" in record.getMessage()]
        assert said == ["Receipts and replies are stored, but not matched for now: LedgerUnreachableError"]


def is_seen(ledger: Ledger, receipts: int) -> bool:
    return take_stock(ledger, 1).receipts.by_matching == {"unowned": receipts}


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


class TestBeside:
    @pytest.fixture
    def beside(self, ledger: Ledger) -> Iterator[Beside]:
        with closing(Beside(Ledger(ledger.url), WORDS)) as beside:
            yield beside

    def test_it_does_nothing_before_the_ledger_is_known_to_fit(self, beside: Beside) -> None:
        beside.tell(1)
        assert "sms-clerk" not in names()

    def test_it_matches_what_is_stored_and_asks_nobody_for_it(self, beside: Beside, ledger: Ledger) -> None:
        assert not beside.work(is_quiet=False)
        store = Inbox(ledger, WORDS.are_in).store
        for number in range(3):
            store([Heard(None, Receipt("13800130001", str(number), "1", "", ""))])
            beside.tell(1)
            wait_until(partial(is_seen, ledger, number + 1))

    def test_it_ends(self, ledger: Ledger) -> None:
        beside = Beside(Ledger(ledger.url), WORDS)
        beside.work(is_quiet=True)
        wait_until(lambda: "sms-clerk" in names())
        beside.close()
        assert "sms-clerk" not in names()

    def test_a_ledger_that_fails_does_not_end_it(self, ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
        with ledger.writing() as connection:
            connection.execute(text("ALTER TABLE sms_receipt RENAME TO elsewhere"))
        with closing(Beside(Ledger(ledger.url), WORDS)) as beside:
            beside.work(is_quiet=True)
            wait_until(lambda: "not matched for now" in caplog.text)
            with ledger.writing() as connection:
                connection.execute(text("ALTER TABLE elsewhere RENAME TO sms_receipt"))
            Inbox(ledger, WORDS.are_in).store([Heard(None, Receipt("13800130001", "1", "1", "", ""))])
            beside.tell(1)
            wait_until(partial(is_seen, ledger, 1))
