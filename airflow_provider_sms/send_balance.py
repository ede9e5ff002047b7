"""Sees, before the first request, that enough points would be left. Asks the platform; sends nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_sms.gateway.errors import SmsError
from airflow_provider_sms.guarding import check_balance
from airflow_provider_sms.ledger import reports
from airflow_provider_sms.send_course import TRIES_TO_REACH

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.client import SmsClient
    from airflow_provider_sms.guards import Guards
    from airflow_provider_sms.ledger.campaigns import Campaign
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.reports import Report
    from airflow_provider_sms.observing import Observer
    from airflow_provider_sms.planning import Log
    from airflow_provider_sms.send_course import Course
    from airflow_provider_sms.send_judging import Judge
    from airflow_provider_sms.send_patience import Patience


class BalanceCheck:
    """One try's look at the balance (`min_balance_after`).

    :ivar is_due: whether it is still to be taken.
    """

    def __init__(
        self,
        ledger: Ledger,
        client: SmsClient,
        campaign: Campaign,
        guards: Guards,
        course: Course,
        patience: Patience,
        judge: Judge,
        log: Log,
        observer: Observer,
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._campaign = campaign
        self._least = guards.min_balance_after
        self._course = course
        self._patience = patience
        self._judge = judge
        self._log = log
        self._observer = observer
        self.is_due = self._least is not None

    def take(self) -> None:
        """See that enough points would be left once all of what is left is sent.

        :raises MinBalanceError: they would not.
        :raises CampaignError: the balance is not known.
        """
        assert self._least is not None  # noqa: S101 - for the types
        report = reports.report_of_what_stands(self._ledger, self._campaign.id)
        if not report.not_sent:
            return
        balance = self._ask(report)
        check_balance(balance, report.points_left, self._least)
        self._log.info("The account has %d points; to send what is left costs %d.", balance, report.points_left)
        self.is_due = False

    def _ask(self, report: Report) -> int:
        for number in range(1, TRIES_TO_REACH + 1):
            try:
                balance = self._client.get_balance()
            except SmsError as error:
                if error.passes_by_itself and number < TRIES_TO_REACH and not self._course.is_stopped:
                    self._log.warning("No balance (%d of %d in a row): %s", number, TRIES_TO_REACH, error.what)
                    self._patience.pause(float(2**number))
                    continue
                cause = f"{error.what} The balance is not known (min_balance_after), so nothing was sent now."
                final = not error.passes_by_itself
                raise self._judge.error(report, f"{error} {cause}" if final else cause, final=final) from None
            self._observer.balance(balance)
            return balance
        raise AssertionError  # the last try returns or raises
