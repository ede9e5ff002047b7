"""What a receiver does beside storing: it matches pushes, and notes that it is there. What fails here fails no push.

Knows the ledger; every call may block, none is made on an event loop.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol

from airflow_provider_sms.ledger.inbox import Inbox
from airflow_provider_sms.ledger.matching import Matcher
from airflow_provider_sms.observing import NO_OBSERVER

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.opt_outs import OptOutWords
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.observing import Observer

# Pushes are matched as soon as it is quiet, and before that so many at once, at least every so many seconds.
LOOKED_AT_ONCE = 1_000
LOOK_EVERY = 1.0
# Where one thread does both, storing gets so many times what matching has just taken.
STORING_FIRST = 3
_QUIET = 0.05
_REVISIT_EVERY = 5.0
_NOTE_EVERY = 3600.0
_SAY_AGAIN = 300.0
_LEAVE_WITHIN = 10.0

log = logging.getLogger("airflow_provider_sms.receiver")


class Clerk(Protocol):
    """Whoever sees to what is stored."""

    def tell(self, stored: int) -> None:
        """Say that so many pushes more are stored."""

    def work(self, *, is_quiet: bool) -> bool:
        """Do a slice, if there is time for one.

        :param is_quiet: whether no push has come for a moment.
        :returns: whether there is more to do as soon as it is quiet.
        """

    def close(self) -> None:
        """End."""


class Steps:
    """The work itself, slice by slice.

    :param ledger: one that this thread holds.
    :param observer: is told what receipts say.
    """

    def __init__(self, ledger: Ledger, words: OptOutWords, observer: Observer = NO_OBSERVER) -> None:
        self._inbox = Inbox(ledger, words.are_in)
        self._matcher = Matcher(ledger, words.are_in, observer)
        # At least one look, at what was there before.
        self._stored, self._looked = 1, 0
        self._looked_at = self._looking_took = self._revisited_at = 0.0
        self._noted_at: float | None = None
        self._said_at = -_SAY_AGAIN

    @property
    def left(self) -> int:
        """How many are still to be looked at, as far as is known."""
        return self._stored - self._looked

    def tell(self, stored: int) -> None:
        """See `Clerk`; it may be another thread than the one that works."""
        self._stored += stored

    def work(self, *, is_quiet: bool) -> bool:
        """See `Clerk`."""
        now = time.monotonic()
        try:
            if self._noted_at is None or now - self._noted_at >= _NOTE_EVERY:
                self._noted_at = now
                self._inbox.note_receiver()
            self._match(now, is_quiet)
        except Exception as error:  # noqa: BLE001 - matching is done again; a push is not
            if now - self._said_at >= _SAY_AGAIN:
                self._said_at = now
                log.warning("Receipts and replies are stored, but not matched for now: %s", type(error).__name__)
            return False
        return self.left > 0

    def close(self) -> None:
        """See `Clerk`."""

    def _match(self, now: float, is_quiet: bool) -> None:
        gap, stored = now - self._looked_at, self._stored
        is_due = gap >= LOOK_EVERY or stored - self._looked >= (1 if is_quiet else LOOKED_AT_ONCE)
        if is_due and (is_quiet or gap >= STORING_FIRST * self._looking_took):
            looked = self._matcher.look(LOOKED_AT_ONCE)
            # Somebody else may be matching: then there is nothing left to hurry for.
            self._looked = min(stored, self._looked + looked) if looked == LOOKED_AT_ONCE else stored
            self._looked_at = time.monotonic()
            self._looking_took = self._looked_at - now
        elif now - self._revisited_at >= _REVISIT_EVERY:
            self._matcher.revisit()
            self._revisited_at = time.monotonic()


class Beside:
    """The work on a thread of its own, for a database that lets one write beside the other.

    :param ledger: of this thread alone; it is closed in the end.
    :param observer: see `Steps`.
    """

    def __init__(self, ledger: Ledger, words: OptOutWords, observer: Observer = NO_OBSERVER) -> None:
        self._ledger = ledger
        self._steps = Steps(ledger, words, observer)
        self._leaving = threading.Event()
        self._is_called = threading.Event()
        self._thread: threading.Thread | None = None

    def tell(self, stored: int) -> None:
        """See `Clerk`."""
        self._steps.tell(stored)
        self._is_called.set()

    def work(self, *, is_quiet: bool) -> bool:
        """See `Clerk`; the thread does, from the first call on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="sms-clerk", daemon=True)
            self._thread.start()
        return False

    def close(self) -> None:
        """See `Clerk`."""
        self._leaving.set()
        self._is_called.set()
        if self._thread is not None:
            self._thread.join(_LEAVE_WITHIN)

    def _run(self) -> None:
        with self._ledger.holding():
            while not self._leaving.is_set():
                has_left = self._steps.work(is_quiet=True)
                if has_left and self._steps.left >= LOOKED_AT_ONCE:
                    continue
                if not has_left:
                    self._is_called.wait(LOOK_EVERY)
                self._is_called.clear()
                # Many at once cost less than one by one: what comes within a moment is looked at together.
                self._leaving.wait(_QUIET)
        self._ledger.close()
