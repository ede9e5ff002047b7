"""One question for many waiters: asked once, answered to all who wait in the same event loop. Knows no SMS."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What came of asking: a result, or the error that came instead.

    :param at: when it came, in seconds by the question's clock.
    :param result: None if there was an error.
    :param error: None if there was a result.
    """

    at: float
    result: T | None = None
    error: Exception | None = None


class SharedQuestion(Generic[T]):
    """A question that many wait for: whoever finds the last answer too old asks, all others share what comes.

    :param clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: Answer[T] | None = None
        self._asking: asyncio.Task[Answer[T]] | None = None

    async def ask(self, question: Callable[[], Awaitable[T]], max_age: float) -> Answer[T]:
        """Return the last answer if it is young enough; else ask, once for all who wait.

        :param question: asks; what it raises is an answer too.
        :param max_age: seconds.
        """
        if self._last is not None and self.seconds_left(self._last, max_age) > 0:
            return self._last
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(question))
        # A waiter that is cancelled must not take the answer away from the others.
        return await asyncio.shield(self._asking)

    def seconds_left(self, answer: Answer[T], max_age: float) -> float:
        """Tell how long an answer stays young enough.

        :param answer: the answer.
        :param max_age: seconds.
        """
        return answer.at + max_age - self._clock()

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> Answer[T]:
        try:
            result, error = await question(), None
        except Exception as raised:  # noqa: BLE001 - whatever it raises is the answer
            result, error = None, raised
        finally:
            self._asking = None
        self._last = Answer(self._clock(), result, error)
        return self._last


class Waiter(Generic[T]):
    """One who waits, and is told only of what concerns it: ten thousand that have no news cost next to nothing.

    :param wants: of what.
    :param interval: seconds between two questions, at most.
    """

    def __init__(self, wants: Iterable[Hashable], interval: float) -> None:
        self.wants = frozenset(wants)
        self.interval = interval
        self._told: Answer[Mapping[Any, T]] | None = None
        self._has_news = asyncio.Event()

    async def news(self, seconds: float) -> Answer[Mapping[Any, T]] | None:
        """Wait for an answer that differs from the last one in what this one wants, or for an error.

        :param seconds: for no longer than that.
        :returns: None if there was none.
        """
        try:
            await asyncio.wait_for(self._has_news.wait(), seconds)
        except TimeoutError:
            return None
        self._has_news.clear()
        return self._told

    def tell(self, answer: Answer[Mapping[Any, T]]) -> None:
        """Say what came; only the last word counts."""
        self._told = answer
        self._has_news.set()


class Gathering(Generic[T]):
    """One question for whatever its waiters want, asked again and again as long as there are any.

    Who comes after it was asked waits for the next time, so that a thousand newcomers do not cause a thousand
    questions.

    :param question: asks for all of it: what is not in its answer, nothing is known of.
    :param clock: seconds, monotonic.
    """

    def __init__(
        self,
        question: Callable[[frozenset[Any]], Awaitable[Mapping[Any, T]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._question = question
        self._clock = clock
        self._waiters: dict[Hashable, set[Waiter[T]]] = {}
        self._everybody: set[Waiter[T]] = set()
        # Those who have heard nothing yet: to them what is old is news.
        self._newcomers: set[Waiter[T]] = set()
        self._last: Answer[Mapping[Any, T]] | None = None
        self._interval = math.inf
        self._hurry = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None

    @contextmanager
    def waiting(self, wants: Iterable[Hashable], interval: float) -> Iterator[Waiter[T]]:
        """Have the question ask for these too, for as long as the block lasts.

        :param interval: seconds between two questions, at most; the shortest of all counts for all.
        """
        waiter: Waiter[T] = Waiter(wants, interval)
        self._everybody.add(waiter)
        for want in waiter.wants:
            self._waiters.setdefault(want, set()).add(waiter)
        if self._last is not None and self._is_young(waiter, self._last) and _holds(self._last, waiter):
            waiter.tell(self._last)
        else:
            self._newcomers.add(waiter)
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask_on())
        elif interval < self._interval:
            self._hurry.set()
        try:
            yield waiter
        finally:
            self._everybody.discard(waiter)
            self._newcomers.discard(waiter)
            for want in waiter.wants:
                self._waiters[want].discard(waiter)
                if not self._waiters[want]:
                    del self._waiters[want]
            if not self._everybody and self._asking is not None:
                self._asking.cancel()
                self._asking = None

    @property
    def wanted(self) -> frozenset[Any]:
        """What all who wait now want."""
        return frozenset(self._waiters)

    def _is_young(self, waiter: Waiter[T], answer: Answer[Mapping[Any, T]]) -> bool:
        return self._clock() - answer.at < waiter.interval

    async def _ask_on(self) -> None:
        while True:
            answer = await self._ask()
            self._tell(answer, self._last)
            self._last = answer
            await self._rest(answer.at)

    async def _ask(self) -> Answer[Mapping[Any, T]]:
        try:
            result = await self._question(self.wanted)
        except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
            return Answer(self._clock(), None, error)
        return Answer(self._clock(), result)

    def _tell(self, answer: Answer[Mapping[Any, T]], last: Answer[Mapping[Any, T]] | None) -> None:
        if answer.result is None or (last is not None and last.result is None):
            # An error concerns all, and so does its end.
            concerned = set(self._everybody)
        else:
            known = {} if last is None or last.result is None else last.result
            news = (want for want, found in answer.result.items() if want not in known or known[want] != found)
            concerned = {waiter for want in news for waiter in self._waiters.get(want, ())}
            heard = {waiter for waiter in self._newcomers if _holds(answer, waiter)}
            self._newcomers -= heard
            concerned |= heard
        for waiter in concerned:
            waiter.tell(answer)

    async def _rest(self, since: float) -> None:
        """Wait until it is time to ask again; somebody may come meanwhile who is in a greater hurry."""
        while True:
            self._hurry.clear()
            self._interval = min((waiter.interval for waiter in self._everybody), default=0.0)
            left = since + self._interval - self._clock()
            if left <= 0:
                return
            try:
                await asyncio.wait_for(self._hurry.wait(), left)
            except TimeoutError:
                return


def _holds(answer: Answer[Mapping[Any, T]], waiter: Waiter[T]) -> bool:
    return answer.result is not None and all(want in answer.result for want in waiter.wants)


_questions: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[Hashable, Any]]
_questions = WeakKeyDictionary()


def shared_question(key: Hashable) -> SharedQuestion[Any]:
    """Return the question of this name in the running event loop; it lives as long as somebody holds it.

    :param key: what is asked, and of whom.
    """
    return _shared(key, SharedQuestion)


def shared_gathering(
    key: Hashable, make: Callable[[], Callable[[frozenset[Any]], Awaitable[Mapping[Any, Any]]]]
) -> Gathering[Any]:
    """Return the gathering of this name in the running event loop; it lives as long as somebody holds it.

    :param key: what is asked, and of whom.
    :param make: makes its question, which may remember something from one time to the next.
    """
    return _shared(key, lambda: Gathering(make()))


def _shared(key: Hashable, make: Callable[[], Any]) -> Any:
    questions = _questions.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    question = questions.get(key)
    if question is None:
        question = questions[key] = make()
    return question
