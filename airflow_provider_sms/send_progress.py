"""Says how far a campaign is, at a bounded pace, and which taskIds there are. Reads the ledger, changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_provider_sms.ledger import reports
from airflow_provider_sms.ledger.errors import LedgerError
from airflow_provider_sms.planning import PROGRESS_INTERVAL

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.campaigns import Campaign
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.reports import Report
    from airflow_provider_sms.planning import Log


class Progress:
    """One try's progress.

    :param clock: gives seconds.
    :param on_accepted: called with the counts and all taskIds so far; None if nobody wants them.
    """

    def __init__(
        self,
        ledger: Ledger,
        campaign: Campaign,
        log: Log,
        clock: Callable[[], float],
        on_accepted: Callable[[Report], None] | None,
    ) -> None:
        self._ledger = ledger
        self._campaign = campaign
        self._log = log
        self._clock = clock
        self._on_accepted = on_accepted
        self._began = self._said = 0.0
        self._done_before: int | None = None
        self._told = 0

    def begin(self) -> None:
        """Note how far earlier tries have come: the rate is that of this one."""
        self._said = self._clock()
        report = self._look()
        if report is not None:
            self._measure_from(report)

    def tell(self) -> None:
        """Say it if it is time to."""
        now = self._clock()
        if now - self._said < PROGRESS_INTERVAL and (self._told or self._on_accepted is None):
            return
        report = self._look()
        if report is None:
            return
        self.tell_new(report)
        if self._done_before is None:
            self._measure_from(report)
        elif now - self._said >= PROGRESS_INTERVAL:
            self._said = now
            done = _done(report)
            rate = (done - self._done_before) / (now - self._began)
            self._log.info(
                "Progress: %d of %d phones (%s), %s a second, %s left; %s points on the account.",
                done,
                report.phones,
                report,
                f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}",
                f"{report.not_sent / rate:.0f} s" if rate else "unknown time",
                "unknown" if report.remain_point is None else report.remain_point,
            )

    def tell_task_ids(self) -> None:
        """Say which taskIds there are so far, if there are new ones."""
        report = self._look()
        if report is not None:
            self.tell_new(report)

    def tell_new(self, report: Report) -> None:
        """Say which taskIds there are, if these are more than were told."""
        if self._on_accepted is not None and len(report.task_ids) > self._told:
            self._on_accepted(report)
            self._told = len(report.task_ids)

    def _look(self) -> Report | None:
        try:
            return reports.report(self._ledger, self._campaign.id)
        except LedgerError:
            return None  # those that send say so

    def _measure_from(self, report: Report) -> None:
        self._began = self._clock()
        self._done_before = _done(report)


def _done(report: Report) -> int:
    return report.phones - report.not_sent
