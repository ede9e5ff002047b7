"""The ledger as alarms use it: open for the next one, as in a storm it comes soon, and not waited for for long.

Joins opening and ledger; knows no alarm.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from airflow_provider_sms import opening
from airflow_provider_sms.ledger.database import Ledger, Limits

if TYPE_CHECKING:
    from airflow_provider_sms.planning import Log

LIMITS = Limits(connect=5, lock=15.0, statement=15.0, silence=15, transaction=20.0)
"""An alarm does not wait long for a ledger that hangs; five hundred at once may have to wait for each other."""


class KeptLedger:
    """The ledger that this process has used last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ledger: Ledger | None = None
        self._pid = 0

    def open(self, log: Log) -> Ledger:
        """Open the ledger that `[sms]` names, unless it is open.

        :raises LedgerError: see `opening.open_ledger`.
        :raises SettingsError: likewise.
        """
        url = opening.find_url()
        kept = self._kept()
        if kept is not None and kept.url == url:
            if kept.kind == "sqlite":
                opening.refuse_sqlite()
            return kept
        ledger = opening.open_ledger(log, limits=LIMITS)
        with self._lock:
            # A child leaves alone what its parent has open.
            is_ours = self._pid == os.getpid()
            before, self._ledger, self._pid = self._ledger, ledger, os.getpid()
            if is_ours and before is not None and before.url == url:
                # Another thread was quicker.
                self._ledger, before = before, ledger
            kept = self._ledger
        if is_ours and before is not None:
            before.close()
        return kept

    def discard(self, ledger: Ledger) -> None:
        """Open it anew next time: something went wrong with it."""
        with self._lock:
            if self._ledger is ledger:
                self._ledger = None
        ledger.close()

    def _kept(self) -> Ledger | None:
        with self._lock:
            return self._ledger if self._pid == os.getpid() else None


KEPT = KeptLedger()
"""This process's."""
