"""What the receiver's thread works with: the ledger that `[sms]` names, its inbox, and what is done between commits.

Joins settings, ledger and inbox. Every call may block; none is made on an event loop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_sms import settings
from airflow_provider_sms.gateway.opt_outs import OptOutWords
from airflow_provider_sms.ledger import sqlite_file, versions
from airflow_provider_sms.ledger.database import Ledger, Limits
from airflow_provider_sms.ledger.inbox import Inbox
from airflow_provider_sms.ledger.matching import Matcher
from airflow_provider_sms.opening import find_url, refuse_sqlite

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.pushes import Heard, Unreadable

# A push is answered after five seconds, whatever the ledger does.
LIMITS = Limits(connect=5, lock=4.0, statement=5.0, silence=5, transaction=8.0)
# Matching is caught up with as soon as nothing comes, after so many pushes, or after so many seconds.
_LOOKED_AT_ONCE = 1_000
_LOOK_EVERY = 1.0
_IDLE_GAP = 0.05
_REVISIT_EVERY = 5.0
_NOTE_EVERY = 3600.0
_SAY_AGAIN = 300.0

log = logging.getLogger("airflow_provider_sms.receiver")


class LedgerDesk:
    """An open ledger, and the work on it.

    :raises LedgerError: it can not be used; the message says what to do.
    :raises SettingsError: an option is not usable.
    """

    def __init__(self) -> None:
        words = OptOutWords(settings.opt_out_words())
        url = find_url()
        if url.get_backend_name() == "sqlite":
            refuse_sqlite()
            path = Path(url.database or "")
            # Only now: whatever takes the file away later must not find an empty one in its place.
            if sqlite_file.make(path):
                log.info("Made the ledger, a SQLite file for this machine alone: %s.", path)
        self._ledger = Ledger(url, LIMITS)
        self._holding = self._ledger.holding()
        self._holding.__enter__()
        self._inbox = Inbox(self._ledger, words.are_in)
        self._matcher = Matcher(self._ledger, words.are_in)
        self._unmatched = 1
        self._looked_at = self._revisited_at = 0.0
        self._noted_at: float | None = None
        self._said_at = -_SAY_AGAIN

    def check(self) -> None:
        """See that the ledger is there and fits.

        :raises LedgerError: it does not.
        """
        versions.check(self._ledger)

    def store(self, items: Sequence[Heard | Unreadable]) -> None:
        """Store what was pushed, see `Inbox.store`."""
        self._inbox.store(items)
        self._unmatched += len(items)

    def work(self, *, is_idle: bool) -> None:
        """Do a slice of what is to be done beside storing: what fails here fails no push."""
        now = time.monotonic()
        try:
            if self._noted_at is None or now - self._noted_at >= _NOTE_EVERY:
                self._noted_at = now
                self._inbox.note_receiver()
            self._match(now, is_idle)
        except Exception as error:  # noqa: BLE001 - matching is done again; a push is not
            if now - self._said_at >= _SAY_AGAIN:
                self._said_at = now
                log.warning("Receipts and replies are stored, but not matched for now: %s", type(error).__name__)

    def close(self) -> None:
        """Close the ledger."""
        self._holding.__exit__(None, None, None)
        self._ledger.close()

    def _match(self, now: float, is_idle: bool) -> None:
        gap = now - self._looked_at
        if (
            self._unmatched >= _LOOKED_AT_ONCE
            or gap >= _LOOK_EVERY
            or (is_idle and self._unmatched and gap >= _IDLE_GAP)
        ):
            looked = self._matcher.look(_LOOKED_AT_ONCE)
            # Somebody else may be matching: then there is nothing left to hurry for.
            self._unmatched = max(0, self._unmatched - looked) if looked == _LOOKED_AT_ONCE else 0
            self._looked_at = time.monotonic()
        elif now - self._revisited_at >= _REVISIT_EVERY:
            self._matcher.revisit()
            self._revisited_at = time.monotonic()
