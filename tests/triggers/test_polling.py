"""One question for many: asked once an interval, whoever comes, goes or fails."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_sms.triggers.polling import SharedQuestion, shared_question


class Oracle:
    """Answers when told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.fails = False

    async def __call__(self) -> int:
        self.asked += 1
        await self.may_answer.wait()
        if self.fails:
            raise ConnectionError("away")
        return self.asked


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_ten_thousand_ask_at_once_and_one_is_asked() -> None:
    async def scenario() -> None:
        oracle, question = Oracle(), SharedQuestion[int](Clock())
        answers = await asyncio.gather(*[question.ask(oracle, 60) for _ in range(10_000)])
        assert oracle.asked == 1
        assert {answer.result for answer in answers} == {1}

    asyncio.run(scenario())


def test_a_latecomer_shares_an_answer_that_is_young_enough_for_it() -> None:
    async def scenario() -> None:
        clock, oracle = Clock(), Oracle()
        question = SharedQuestion[int](clock)
        await question.ask(oracle, 60)
        clock.now = 59.0
        assert (await question.ask(oracle, 60)).result == 1
        assert (await question.ask(oracle, 10)).result == 2
        clock.now = 118.0
        assert (await question.ask(oracle, 60)).result == 2
        clock.now = 119.0
        assert (await question.ask(oracle, 60)).result == 3

    asyncio.run(scenario())


def test_all_wait_until_the_same_moment() -> None:
    async def scenario() -> None:
        clock, oracle = Clock(), Oracle()
        question = SharedQuestion[int](clock)
        early = await question.ask(oracle, 60)
        clock.now = 50.0
        late = await question.ask(oracle, 60)
        assert question.seconds_left(early, 60) == question.seconds_left(late, 60) == 10.0

    asyncio.run(scenario())


def test_a_failure_is_shared_and_paced_like_an_answer() -> None:
    async def scenario() -> None:
        clock, oracle = Clock(), Oracle()
        oracle.fails = True
        question = SharedQuestion[int](clock)
        answers = await asyncio.gather(*[question.ask(oracle, 60) for _ in range(3)])
        assert oracle.asked == 1
        assert all(isinstance(answer.error, ConnectionError) for answer in answers)
        await question.ask(oracle, 60)
        assert oracle.asked == 1

    asyncio.run(scenario())


def test_whoever_is_cancelled_does_not_take_the_answer_from_the_others() -> None:
    async def scenario() -> None:
        oracle, question = Oracle(), SharedQuestion[int](Clock())
        oracle.may_answer.clear()
        first = asyncio.create_task(question.ask(oracle, 60))
        second = asyncio.create_task(question.ask(oracle, 60))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        oracle.may_answer.set()
        assert (await second).result == 1
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(scenario())


def test_a_question_lives_as_long_as_somebody_holds_it() -> None:
    async def scenario() -> None:
        held = shared_question(("balance", "a"))
        assert shared_question(("balance", "a")) is held
        assert shared_question(("balance", "b")) is not held
        identity = id(held)
        del held
        replacement = [shared_question(("other", n)) for n in range(3)]
        assert shared_question(("balance", "a"))._last is None
        assert identity is not None
        assert replacement

    asyncio.run(scenario())


def test_event_loops_share_nothing() -> None:
    async def scenario() -> SharedQuestion[int]:
        return shared_question(("balance", "a"))

    assert asyncio.run(scenario()) is not asyncio.run(scenario())
