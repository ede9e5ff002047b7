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


class Board:
    """What a gathering asks about; notes what it was asked for, and may fail."""

    def __init__(self, **values: int) -> None:
        self.values: dict[str, int] = values
        self.asked: list[frozenset[str]] = []
        self.error: Exception | None = None

    async def __call__(self, wanted: frozenset[str]) -> dict[str, int]:
        self.asked.append(wanted)
        if self.error is not None:
            raise self.error
        return {want: self.values[want] for want in wanted}


class TestGathering:
    def test_ten_thousand_are_told_by_one_question(self) -> None:
        async def scenario() -> None:
            board = Board(a=1, b=2)
            gathering = Gathering[int](board)

            async def wait(want: str) -> int:
                with gathering.waiting([want], 60) as waiter:
                    answer = await waiter.news(30)
                    assert answer is not None
                    assert answer.result is not None
                    return answer.result[want]

            found = await asyncio.gather(*[wait("ab"[number % 2]) for number in range(10_000)])
            assert found == [1, 2] * 5_000
            assert board.asked == [{"a", "b"}]
            assert gathering.wanted == frozenset()

        asyncio.run(scenario())

    def test_only_whom_it_concerns_is_told_of_a_change(self) -> None:
        async def scenario() -> None:
            board = Board(a=1, b=1)
            gathering = Gathering[int](board)
            with gathering.waiting(["a"], 0.01) as first, gathering.waiting(["b"], 0.01) as second:
                await first.news(30)
                await second.news(30)
                board.values["b"] = 2
                answer = await second.news(30)
                assert answer is not None
                assert answer.result == {"a": 1, "b": 2}
                assert await first.news(0.1) is None
                assert len(board.asked) > 3

        asyncio.run(scenario())

    def test_a_newcomer_waits_for_the_next_time(self) -> None:
        async def scenario() -> None:
            clock, board = Clock(), Board(a=1, b=1)
            gathering = Gathering[int](board, clock)
            with gathering.waiting(["a"], 0.2) as first:
                await first.news(30)
                with gathering.waiting(["b"], 0.2) as second:
                    await asyncio.sleep(0)
                    assert board.asked == [{"a"}]
                    clock.now = 0.2
                    await second.news(30)
                    assert board.asked == [{"a"}, {"a", "b"}]

        asyncio.run(scenario())

    def test_unless_what_it_wants_is_known(self) -> None:
        async def scenario() -> None:
            board = Board(a=1)
            gathering = Gathering[int](board, Clock())
            with gathering.waiting(["a"], 60) as first:
                await first.news(30)
                with gathering.waiting(["a"], 60) as second:
                    assert await second.news(30) is not None
            assert len(board.asked) == 1

        asyncio.run(scenario())

    def test_what_is_known_for_long_is_told_a_newcomer_although_nothing_changes(self) -> None:
        async def scenario() -> None:
            clock, board = Clock(), Board(a=1)
            gathering = Gathering[int](board, clock)
            with gathering.waiting(["a"], 60) as first:
                await first.news(30)
                clock.now = 30.0
                with gathering.waiting(["a"], 5) as second:
                    answer = await second.news(30)
                    assert answer is not None
                    assert answer.result == {"a": 1}
                    assert await first.news(0.05) is None
            assert len(board.asked) >= 2

        asyncio.run(scenario())

    def test_the_shortest_interval_counts_for_all(self) -> None:
        async def scenario() -> None:
            board = Board(a=1, b=1)
            gathering = Gathering[int](board)
            with gathering.waiting(["a"], 3600) as first:
                await first.news(30)
                with gathering.waiting(["b"], 0.01) as second:
                    assert await second.news(30) is not None

        asyncio.run(scenario())

    def test_an_error_concerns_all_and_is_paced_like_an_answer(self) -> None:
        async def scenario() -> None:
            board = Board(a=1, b=1)
            gathering = Gathering[int](board)
            with gathering.waiting(["a"], 0.05) as first, gathering.waiting(["b"], 0.05) as second:
                await first.news(30)
                await second.news(30)
                board.error = ConnectionError("away")
                start, before = asyncio.get_running_loop().time(), len(board.asked)
                for _ in range(3):
                    for waiter in (first, second):
                        answer = await waiter.news(30)
                        assert answer is not None
                        assert isinstance(answer.error, ConnectionError)
                assert len(board.asked) - before <= (asyncio.get_running_loop().time() - start) / 0.05 + 1
                board.error = None
                answer = await first.news(30)
                while answer is not None and answer.error is not None:
                    answer = await first.news(30)
                # Nothing has changed, but that it is over is news.
                assert answer is not None
                assert answer.result == {"a": 1, "b": 1}

        asyncio.run(scenario())

    def test_what_two_want_is_wanted_until_both_have_left_and_then_nothing_is_asked(self) -> None:
        async def scenario() -> None:
            board = Board(a=1)
            gathering = Gathering[int](board)
            with gathering.waiting(["a"], 0.01):
                with gathering.waiting(["a"], 0.01):
                    pass
                assert gathering.wanted == {"a"}
            assert gathering.wanted == frozenset()
            before = len(board.asked)
            await asyncio.sleep(0.05)
            assert len(board.asked) == before
            # It begins again with the next one.
            with gathering.waiting(["a"], 0.01) as again:
                assert await again.news(30) is not None

        asyncio.run(scenario())

    def test_its_question_is_made_once_and_goes_with_it(self) -> None:
        async def scenario() -> None:
            made: list[Board] = []

            def make() -> Board:
                made.append(Board())
                return made[-1]

            gathering = shared_gathering("replies", make)
            assert shared_gathering("replies", make) is gathering
            assert len(made) == 1
            del gathering
            shared_gathering("replies", make)
            assert len(made) == 2

        asyncio.run(scenario())
