"""The way to the ledger, with a desk that does as it is told: what gathers, what waits, what fails."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from airflow_provider_sms.gateway.pushes import Heard, Receipt
from airflow_provider_sms.ledger.errors import (
    LedgerDeadlockError,
    LedgerError,
    LedgerUnreachableError,
    LedgerVersionError,
)
from airflow_provider_sms.receiver import intake as module
from airflow_provider_sms.receiver.admission import Admission, Rules
from airflow_provider_sms.receiver.intake import Busy, Intake, State

SETTINGS = Admission(Rules((b"FAKE-TOKEN-0123456789abcdef",)))


def push(number: int) -> Heard:
    return Heard(None, Receipt("13800130001", str(number), "1", "", ""))


class Desk:
    """Keeps what is stored; `gate` holds it up, `problems` are raised one after the other, `poison` always."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.is_storing = threading.Event()
        self.problems: list[Exception] = []
        self.poison: str | None = None
        self.unfit: Exception | None = None
        self.worked = 0
        self.closed = 0

    @property
    def stored(self) -> list[str]:
        return [taskid for commit in self.commits for taskid in commit]

    def store(self, items: Sequence[Any]) -> None:
        self.is_storing.set()
        assert self.gate.wait(30)
        taskids = [item.push.taskid for item in items]
        if self.problems:
            raise self.problems.pop(0)
        if self.poison in taskids:
            raise LedgerError("one of them")
        self.commits.append(taskids)

    def check(self) -> None:
        if self.unfit is not None:
            raise self.unfit

    def work(self, *, is_quiet: bool) -> bool:
        self.worked += 1
        return False

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def run(desk: Desk) -> Callable[[Callable[[Intake], Coroutine[Any, Any, None]]], None]:
    """Run a test's own part in an event loop, with an intake that has begun."""

    def run(part: Callable[[Intake], Coroutine[Any, Any, None]]) -> None:
        async def whole() -> None:
            intake = Intake(lambda: SETTINGS, lambda: desk)
            await intake.settled()
            try:
                await asyncio.wait_for(part(intake), 60)
            finally:
                desk.gate.set()
                await intake.stop()
            assert desk.closed == 1

        asyncio.run(whole())

    return run


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def test_what_comes_together_is_one_commit(desk: Desk, run: Any) -> None:
    async def part(intake: Intake) -> None:
        await asyncio.gather(*(intake.put(push(number)) for number in range(50)))
        assert [len(commit) for commit in desk.commits] == [50]

    run(part)


def test_what_comes_during_a_commit_is_the_next_one_and_none_is_larger_than_it_may_be(
    desk: Desk, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_IN_ONE_COMMIT", 100)

    async def part(intake: Intake) -> None:
        desk.gate.clear()
        first = intake.put(push(0))
        await until(desk.is_storing.is_set)
        others = [intake.put(push(number)) for number in range(1, 151)]
        desk.gate.set()
        await asyncio.gather(first, *others)
        assert [len(commit) for commit in desk.commits] == [1, 100, 50]
        assert desk.stored == [str(number) for number in range(151)]

    run(part)


def test_nothing_is_answered_before_it_is_stored(desk: Desk, run: Any) -> None:
    async def part(intake: Intake) -> None:
        desk.gate.clear()
        answer = intake.put(push(1))
        await until(desk.is_storing.is_set)
        await asyncio.sleep(0.05)
        assert not answer.done()
        desk.gate.set()
        await answer
        assert desk.stored == ["1"]

    run(part)


def test_too_many_waiting_are_told_so(desk: Desk, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 10)

    async def part(intake: Intake) -> None:
        desk.gate.clear()
        waiting = [intake.put(push(0))]
        await until(desk.is_storing.is_set)
        waiting += [intake.put(push(number)) for number in range(1, 11)]
        with pytest.raises(Busy):
            intake.put(push(11))
        desk.gate.set()
        await asyncio.gather(*waiting)
        await intake.put(push(12))

    run(part)


def test_a_ledger_that_hangs_keeps_nobody_waiting_for_long(
    desk: Desk, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)

    async def part(intake: Intake) -> None:
        desk.gate.clear()
        with pytest.raises(Busy):
            await intake.put(push(1))
        await until(lambda: intake.state is State.AWAY)
        desk.gate.set()
        await until(lambda: intake.state is State.READY)
        await intake.put(push(2))
        # What was given up waiting for is stored all the same: it may never come again.
        assert desk.stored == ["1", "2"]

    run(part)


def test_one_that_can_not_be_stored_takes_no_other_with_it(desk: Desk, run: Any) -> None:
    desk.poison = "7"

    async def part(intake: Intake) -> None:
        answers = await asyncio.gather(*(intake.put(push(number)) for number in range(20)), return_exceptions=True)
        assert [number for number, answer in enumerate(answers) if answer is not None] == [7]
        assert sorted(desk.stored, key=int) == [str(number) for number in range(20) if number != 7]

    run(part)


def test_a_connection_that_has_died_unnoticed_is_tried_again_at_once(desk: Desk, run: Any) -> None:
    desk.problems = [LedgerUnreachableError("gone")]

    async def part(intake: Intake) -> None:
        await intake.put(push(1))
        assert desk.stored == ["1"]

    run(part)


def test_what_the_database_has_undone_so_that_another_goes_on_is_repeated_also_after_a_while(
    desk: Desk, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_QUICK", -1.0)
    desk.problems = [LedgerDeadlockError("deadlock")] * 3

    async def part(intake: Intake) -> None:
        await intake.put(push(1))
        assert desk.stored == ["1"]

    run(part)


def test_but_not_for_ever(desk: Desk, run: Any) -> None:
    desk.problems = [LedgerDeadlockError("deadlock")] * 1000

    async def part(intake: Intake) -> None:
        with pytest.raises(Busy):
            await intake.put(push(1))
        assert len(desk.problems) > 900
        desk.problems.clear()

    run(part)


def test_a_ledger_that_is_away_is_said_once_and_comes_back_by_itself(
    desk: Desk, run: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.05)
    caplog.set_level(logging.INFO)
    desk.problems = [LedgerUnreachableError("gone")] * 2

    async def part(intake: Intake) -> None:
        await until(lambda: intake.state is State.READY)
        desk.unfit = LedgerUnreachableError("gone")
        with pytest.raises(Busy):
            await intake.put(push(1))
        waiting = intake.put(push(2))
        await asyncio.sleep(0.3)
        desk.unfit = None
        # A short absence is waited out.
        await waiting
        assert intake.state is State.READY

    run(part)
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("Pushes can not be stored, they are answered 503: gone") == 1
    assert messages[-1] == "Pushes are stored again."


def test_one_that_does_not_fit_is_not_waited_for(desk: Desk, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.05)
    desk.unfit = LedgerVersionError("upgrade it")

    async def part(intake: Intake) -> None:
        await until(lambda: intake.state is State.AWAY)
        with pytest.raises(Busy):
            intake.put(push(1))
        desk.unfit = None
        await until(lambda: intake.state is State.READY)
        await intake.put(push(1))

    run(part)


def test_what_waits_at_the_end_is_still_stored(desk: Desk, run: Any) -> None:
    async def part(intake: Intake) -> None:
        desk.gate.clear()
        waiting = [intake.put(push(number)) for number in range(5)]
        await until(desk.is_storing.is_set)
        waiting += [intake.put(push(number)) for number in range(5, 10)]
        stopping = asyncio.ensure_future(intake.stop())
        await asyncio.sleep(0.05)
        with pytest.raises(Busy):
            intake.put(push(10))
        desk.gate.set()
        await asyncio.gather(*waiting, stopping)
        assert len(desk.stored) == 10

    run(part)


def test_the_end_does_not_wait_for_a_ledger_that_hangs(desk: Desk) -> None:
    async def whole() -> None:
        intake = Intake(lambda: SETTINGS, lambda: desk)
        await intake.settled()
        desk.gate.clear()
        answer = intake.put(push(1))
        await until(desk.is_storing.is_set)
        await intake.stop(seconds=0.2)
        desk.gate.set()
        await answer

    asyncio.run(whole())


def test_an_unforeseen_fault_shows_nothing_of_what_was_pushed(
    desk: Desk, run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    desk.problems = [ValueError("13800130001")]

    async def part(intake: Intake) -> None:
        with pytest.raises(Busy):
            await intake.put(push(1))
        await until(lambda: intake.state is State.READY)
        await intake.put(push(2))

    caplog.set_level(logging.DEBUG)
    run(part)
    assert "13800130001" not in caplog.text
    assert "ValueError" in caplog.text


def test_a_desk_that_opens_only_later(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.05)
    tries = []

    def opened() -> Desk:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("not yet")
        return desk

    async def whole() -> None:
        intake = Intake(lambda: SETTINGS, opened)
        await until(lambda: intake.state is State.READY)
        await intake.put(push(1))
        await intake.stop()

    asyncio.run(whole())
    assert desk.stored == ["1"]
