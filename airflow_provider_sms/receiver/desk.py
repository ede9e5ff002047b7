"""What the receiver's thread works with: the ledger that `[sms]` names, its inbox, and who sees to what is stored.

Joins settings, ledger, inbox and clerk. Every call may block; none is made on an event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_sms import settings
from airflow_provider_sms.gateway.opt_outs import OptOutWords
from airflow_provider_sms.gateway.pushes import Heard, Reply
from airflow_provider_sms.ledger import sqlite_file, versions
from airflow_provider_sms.ledger.database import Ledger, Limits
from airflow_provider_sms.ledger.inbox import Inbox
from airflow_provider_sms.observing import NO_OBSERVER
from airflow_provider_sms.opening import find_url, refuse_sqlite
from airflow_provider_sms.receiver.clerk import Beside, Clerk, Steps

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.pushes import Unreadable
    from airflow_provider_sms.observing import Observer

# A push is answered after five seconds, whatever the ledger does.
LIMITS = Limits(connect=5, lock=4.0, statement=5.0, silence=5, transaction=8.0)

log = logging.getLogger("airflow_provider_sms.receiver")


class LedgerDesk:
    """An open ledger, and the work on it.

    :param observer: is told what is stored, and what it says.
    :raises LedgerError: it can not be used; the message says what to do.
    :raises SettingsError: an option is not usable.
    """

    def __init__(self, observer: Observer = NO_OBSERVER) -> None:
        self._observer = observer
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
        self._clerk: Clerk
        if self._ledger.kind == "postgresql":
            self._clerk = Beside(Ledger(url, LIMITS), words, observer)
        else:
            # SQLite has one writer at a time; MySQL's locks would meet.
            self._clerk = Steps(self._ledger, words, observer)

    def check(self) -> None:
        """See that the ledger is there and fits.

        :raises LedgerError: it does not.
        """
        versions.check(self._ledger)

    def store(self, items: Sequence[Heard | Unreadable]) -> None:
        """Store what was pushed, see `Inbox.store`."""
        self._inbox.store(items)
        self._clerk.tell(len(items))
        pushes = [each.push for each in items if isinstance(each, Heard)]
        replies = sum(isinstance(each, Reply) for each in pushes)
        self._observer.stored(len(pushes) - replies, replies)

    def work(self, *, is_quiet: bool) -> bool:
        """Let the clerk do a slice, see `Clerk.work`."""
        return self._clerk.work(is_quiet=is_quiet)

    def close(self) -> None:
        """Close the ledger."""
        self._clerk.close()
        self._holding.__exit__(None, None, None)
        self._ledger.close()
