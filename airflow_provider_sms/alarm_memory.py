"""What this process has texted as alarms, for when no ledger can be asked. Bounded; knows neither SQL nor Airflow."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Collection, Hashable
from dataclasses import dataclass

MOST = 10_000


@dataclass(frozen=True, slots=True)
class Admitted:
    """What this process may do about an alarm.

    :param others: by phone that may be texted now, how many others its text counts.
    :param held: phones that have had their texts.
    """

    others: dict[str, int]
    held: int


class AlarmMemory:
    """Remembers alarms by their keys, and of each phone its last texts and how many were held back."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        # Whether it was sent without the ledger, which then knows nothing of it.
        self._done: OrderedDict[Hashable, bool] = OrderedDict()
        self._texted: OrderedDict[str, deque[float]] = OrderedDict()
        self._held: dict[str, int] = defaultdict(int)

    def knows(self, key: Hashable) -> bool:
        """Whether this alarm was sent without the ledger, or is being sent so."""
        with self._lock:
            return self._done.get(key, False)

    def note(self, key: Hashable) -> None:
        """Remember an alarm that was sent by the ledger."""
        with self._lock:
            if key not in self._done:
                self._remember(key, is_unknown_to_ledger=False)

    def note_alone(self, key: Hashable) -> None:
        """Remember an alarm that was sent, of which the ledger could not be told."""
        with self._lock:
            self._remember(key, is_unknown_to_ledger=True)

    def admit(
        self, key: Hashable | None, phones: Collection[str], limit: int, seconds: float, now: float
    ) -> Admitted | None:
        """Take a place for an alarm among each phone's texts.

        :param key: what makes it the same alarm; None if nothing does.
        :param limit: texts that a phone gets within `seconds`, at most.
        :param now: seconds, by a clock that never goes back.
        :returns: None if this alarm was sent, or is being sent.
        """
        with self._lock:
            if key is not None:
                if key in self._done:
                    return None
                self._remember(key, is_unknown_to_ledger=True)
            others: dict[str, int] = {}
            for phone in phones:
                texted = self._texts_of(phone)
                while texted and texted[0] <= now - seconds:
                    texted.popleft()
                if len(texted) < limit:
                    texted.append(now)
                    others[phone] = self._held.pop(phone, 0)
                else:
                    self._held[phone] += 1
            return Admitted(others, len(phones) - len(others))

    def forget(self, key: Hashable | None, others: dict[str, int]) -> None:
        """Take back what was admitted: nothing of it was sent."""
        with self._lock:
            self._done.pop(key, None)
            for phone, count in others.items():
                texted = self._texts_of(phone)
                if texted:
                    texted.pop()
                if count:
                    self._held[phone] += count

    def hold_back(self, others: dict[str, int]) -> None:
        """Take back what was admitted for some of an alarm's phones, as it was not sent: their next text counts it."""
        with self._lock:
            for phone, count in others.items():
                texted = self._texts_of(phone)
                if texted:
                    texted.pop()
                self._held[phone] += count + 1

    def clear(self) -> None:
        """Remember nothing."""
        with self._lock:
            self._done.clear()
            self._texted.clear()
            self._held.clear()

    def _remember(self, key: Hashable, *, is_unknown_to_ledger: bool) -> None:
        self._done[key] = is_unknown_to_ledger
        self._done.move_to_end(key)
        if len(self._done) > self._most:
            self._done.popitem(last=False)

    def _texts_of(self, phone: str) -> deque[float]:
        texted = self._texted.setdefault(phone, deque())
        self._texted.move_to_end(phone)
        if len(self._texted) > self._most:
            oldest, _ = self._texted.popitem(last=False)
            self._held.pop(oldest, None)
        return texted


MEMORY = AlarmMemory()
"""This process's."""
