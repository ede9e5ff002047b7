"""Counts what the receiver does, and tells an observer once a second, on a thread of its own.

Whoever counts adds a number and goes on: an observer that is slow, or looks for its server, keeps no push waiting.
"""

from __future__ import annotations

import threading
from collections import Counter

from airflow_provider_sms.observing import NoObserver, Observer

TELL_EVERY = 1.0
_LEAVE_WITHIN = 2.0


class Counting(NoObserver):
    """An observer that sums up for another one.

    :param observer: is told the sums.
    :param seconds: how long to sum up.
    """

    def __init__(self, observer: Observer, seconds: float = TELL_EVERY) -> None:
        self._observer = observer
        self._seconds = seconds
        self._lock = threading.Lock()
        self._sums: Counter[tuple[str, str | int]] = Counter()
        self._has_some = threading.Event()
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    def delivered(self, phones: int) -> None:
        """See `Observer`; so are the others."""
        self._add(("delivered", ""), phones)

    def failed(self, phones: int, cause: str) -> None:
        self._add(("failed", cause), phones)

    def stored(self, receipts: int, replies: int) -> None:
        self._add(("receipts", ""), receipts)
        self._add(("replies", ""), replies)

    def turned_away(self, pushes: int, status: int) -> None:
        self._add(("turned away", status), pushes)

    def close(self) -> None:
        """Tell the rest, and end; not without a bound."""
        self._leaving.set()
        self._has_some.set()
        if self._thread is not None:
            self._thread.join(_LEAVE_WITHIN)

    def _add(self, what: tuple[str, str | int], number: int) -> None:
        if not number:
            return
        with self._lock:
            self._sums[what] += number
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sms-metrics", daemon=True)
                self._thread.start()
        if not self._has_some.is_set():
            self._has_some.set()

    def _run(self) -> None:
        while not self._leaving.is_set():
            self._has_some.wait()
            self._leaving.wait(self._seconds)
            self._has_some.clear()
            self._tell()
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            sums, self._sums = self._sums, Counter()
        for (what, which), number in sums.items():
            match what:
                case "delivered":
                    self._observer.delivered(number)
                case "failed":
                    self._observer.failed(number, str(which))
                case "receipts":
                    self._observer.stored(number, 0)
                case "replies":
                    self._observer.stored(0, number)
                case _:
                    self._observer.turned_away(number, int(which))
