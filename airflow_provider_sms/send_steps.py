"""Steps of the ledger, repeated while it is away: nothing is claimed meanwhile, and what stays unsettled is said.

Knows neither the wire nor what a step means.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_sms.advice import resolve_line
from airflow_provider_sms.ledger.errors import LedgerError, LedgerUnreachableError

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.claims import Claim
    from airflow_provider_sms.ledger.outbox import Outbox
    from airflow_provider_sms.planning import Log
    from airflow_provider_sms.send_course import Course

SETTLE_LIMIT = 300.0
NOT_SENT = "--not-sent"
UNKNOWN = "--sent|--not-sent"

Result = TypeVar("Result")


class UnsettledError(Exception):
    """What became of a batch could not be written down."""


class Steps:
    """One campaign's steps, in any of its threads.

    :param called: what the commands call the campaign.
    :param limit: seconds for which a step is repeated that the ledger does not take; None for 300.
    """

    def __init__(
        self,
        called: str,
        course: Course,
        log: Log,
        *,
        pause: Callable[[float], object],
        clock: Callable[[], float],
        limit: float | None,
    ) -> None:
        self._called = called
        self._course = course
        self._log = log
        self._pause = pause
        self._clock = clock
        self._limit = SETTLE_LIMIT if limit is None else limit
        self._lock = threading.Lock()
        self._repeated = 0
        self._steady = threading.Event()
        self._steady.set()

    def are_steady(self) -> bool:
        """Whether no step is being repeated; if one is, after a moment."""
        if self._steady.is_set():
            return True
        self._steady.wait(1.0)
        return False

    def steadily(
        self, step: Callable[[], Result], if_this_ends: str = "", until: Callable[[], bool] = lambda: False
    ) -> Result:
        """Take a step, again and again while the ledger is away.

        :param if_this_ends: what the log shall say in case that the process ends before the ledger is back.
        :param until: whether it need not be taken any more.
        """
        began = self._clock()
        try:
            return step()
        except LedgerUnreachableError as error:
            away = error
        with self._repeating():
            seconds = 1.0
            while self._clock() - began < self._limit and not until():
                told = "%s Trying again in %.0f s; nothing new is sent until then.%s"
                self._log.warning(told, away, seconds, if_this_ends)
                self._pause(seconds)
                seconds, if_this_ends = min(seconds * 2, 15.0), ""
                try:
                    return step()
                except LedgerUnreachableError as error:
                    away = error
        raise away

    @contextmanager
    def _repeating(self) -> Iterator[None]:
        """However it ends, nothing is claimed before; another thread's step that succeeds does not count."""
        with self._lock:
            self._repeated += 1
            self._steady.clear()
        try:
            yield
        finally:
            with self._lock:
                self._repeated -= 1
                if not self._repeated:
                    self._steady.set()

    def claim(self, outbox: Outbox, step: Callable[[], Claim | None]) -> Claim | None:
        """Claim a batch; one of which nobody knows whether it is claimed is said to be unsettled."""
        try:
            # What is not known to be claimed is given back, also after a stop.
            return self.steadily(step, until=lambda: self._course.is_stopped and outbox.uncertain is None)
        except LedgerError:
            if outbox.uncertain is not None:
                self._course.unsettled.append(resolve_line(self._called, outbox.uncertain.number, NOT_SENT))
            raise

    def settle(self, claim: Claim, step: Callable[[], None], outcome: str) -> None:
        """Write down what became of a claim.

        :param outcome: what `airflow-sms resolve` has to be told if it can not be written down.
        :raises UnsettledError: it can not be written down.
        """
        line = resolve_line(self._called, claim.number, outcome)
        try:
            self.steadily(step, f" Should this process end before the ledger is back: {line}")
        except LedgerError as error:
            self._course.unsettled.append(line)
            raise UnsettledError(
                f"{error} What became of batch {claim.number} could not be written down. When the ledger is back: "
                f"{line}"
            ) from None
