"""One question for many waiters: asked once, answered to all who wait in the same event loop. Knows no SMS."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

T = TypeVar("T")
M = TypeVar("M")


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


class Gathering(SharedQuestion[T]):
    """A shared question for whatever its waiters want: one that is asked once for all of it.

    Who comes after it was asked waits for the next time, so that a thousand newcomers do not cause a thousand
    questions.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._wanted: Counter[Hashable] = Counter()
        self._memory: Any = None

    @contextmanager
    def wanting(self, wants: Iterable[Hashable]) -> Iterator[None]:
        """Have the question ask for these too, for as long as the block lasts."""
        wants = tuple(wants)
        self._wanted.update(wants)
        try:
            yield
        finally:
            for want in wants:
                self._wanted[want] -= 1
                if not self._wanted[want]:
                    del self._wanted[want]

    def memory(self, make: Callable[[], M]) -> M:
        """Return what the question remembers from one time to the next; made by the first to come."""
        if self._memory is None:
            self._memory = make()
        return self._memory

    @property
    def wanted(self) -> frozenset[Any]:
        """What all who wait now want."""
        return frozenset(self._wanted)


_questions: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[Hashable, SharedQuestion[Any]]]
_questions = WeakKeyDictionary()


def shared_question(key: Hashable) -> SharedQuestion[Any]:
    """Return the question of this name in the running event loop; it lives as long as somebody holds it.

    :param key: what is asked, and of whom.
    """
    return _shared(key, SharedQuestion)


def shared_gathering(key: Hashable) -> Gathering[Any]:
    """Return the gathering of this name in the running event loop; it lives as long as somebody holds it.

    :param key: what is asked, and of whom.
    """
    return _shared(key, Gathering)


def _shared(key: Hashable, make: Callable[[], Any]) -> Any:
    questions = _questions.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    question = questions.get(key)
    if question is None:
        question = questions[key] = make()
    return question
