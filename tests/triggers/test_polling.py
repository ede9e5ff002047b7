"""One question for many: asked once an interval, whoever comes, goes or fails."""

from __future__ import annotations

import asyncio

import pytest

from airflow_provider_sms.triggers.polling import Gathering, SharedQuestion, shared_gathering, shared_question


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


class TestGathering:
    def test_it_is_asked_once_for_all_that_is_wanted(self) -> None:
        async def scenario() -> None:
            gathering, asked = Gathering[dict[str, int]](Clock()), []

            async def oracle() -> dict[str, int]:
                asked.append(gathering.wanted)
                return dict.fromkeys(gathering.wanted, 1)

            async def wait(*wants: str) -> bool:
                with gathering.wanting(wants):
                    answer = await gathering.ask(oracle, 60)
                    return all(want in (answer.result or {}) for want in wants)

            assert all(await asyncio.gather(wait("a"), wait("b", "c"), wait("a")))
            assert asked == [{"a", "b", "c"}]
            assert gathering.wanted == frozenset()

        asyncio.run(scenario())

    def test_a_newcomer_waits_for_the_next_time(self) -> None:
        async def scenario() -> None:
            clock = Clock()
            gathering, asked = Gathering[frozenset[str]](clock), []

            async def oracle() -> frozenset[str]:
                asked.append(gathering.wanted)
                return gathering.wanted

            with gathering.wanting(["a"]):
                await gathering.ask(oracle, 60)
                with gathering.wanting(["b"]):
                    assert (await gathering.ask(oracle, 60)).result == {"a"}
                    clock.now = 60.0
                    assert (await gathering.ask(oracle, 60)).result == {"a", "b"}
            assert len(asked) == 2

        asyncio.run(scenario())

    def test_what_two_want_is_wanted_until_both_have_left(self) -> None:
        gathering = Gathering[int](Clock())
        with gathering.wanting(["a"]):
            with gathering.wanting(["a"]):
                pass
            assert gathering.wanted == {"a"}
        assert gathering.wanted == frozenset()

    def test_what_it_remembers_is_made_once_and_goes_with_it(self) -> None:
        async def scenario() -> None:
            gathering = shared_gathering("replies")
            memory = gathering.memory(list)
            memory.append(1)
            assert shared_gathering("replies").memory(list) == [1]
            del gathering
            assert shared_gathering("replies").memory(list) == []

        asyncio.run(scenario())
