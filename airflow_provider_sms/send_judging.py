"""The end of a send: what has to be said of it, and whether another try may help. Sends and changes nothing."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from airflow_provider_sms.advice import resolve_line
from airflow_provider_sms.gateway.errors import SmsError
from airflow_provider_sms.policy import OnInDoubt, Policy
from airflow_provider_sms.send_steps import UNKNOWN

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.outbox import Outbox
    from airflow_provider_sms.ledger.reports import Report
    from airflow_provider_sms.planning import Log
    from airflow_provider_sms.send_course import Course


class CampaignError(Exception):
    """A campaign that has not ended well.

    :param report: what became of its phones; None if the ledger is away and can not say.
    :param cause: why.
    :param passes_by_itself: whether another try may fare better although nobody does anything.
    :param commands: what a person can run to see or settle it.
    """

    def __init__(self, report: Report | None, cause: str, passes_by_itself: bool, commands: tuple[str, ...]) -> None:
        lines = "".join(f"\n  {command}" for command in commands)
        super().__init__(f"{cause}{_counted(report)}\nSee or settle it:{lines}")
        self.report = report
        self.cause = cause
        self.passes_by_itself = passes_by_itself
        self.commands = commands


class Judge:
    """Says how a campaign has ended.

    :param called: what the commands call it.
    """

    def __init__(self, called: str, policy: Policy, course: Course, outbox: Outbox, log: Log) -> None:
        self._called = called
        self._policy = policy
        self._course = course
        self._outbox = outbox
        self._log = log

    def judge(self, report: Report) -> None:
        """See that it has ended well.

        :raises CampaignError: it has not.
        """
        assumes_sent = self._policy.on_in_doubt is OnInDoubt.ASSUME_SENT
        problem = self._course.problem
        cause = str(problem) if problem is not None else "Told to stop."
        if self._course.unsettled:
            raise self.error(report, cause, final=True)
        if report.in_doubt and not assumes_sent:
            final = self._policy.on_in_doubt is not OnInDoubt.WAIT
            cause = cause if problem is not None else "Some phones may have been texted: no answer says so."
            raise self.error(report, cause, final=final)
        if report.not_sent or report.sending:
            raise self.error(report, cause, final=isinstance(problem, SmsError) and not problem.passes_by_itself)
        if report.expired:
            raise self.error(
                report,
                "Some texts are too late and were not sent. To send them, set on_expired='send_now'.",
                final=True,
            )
        if report.refused_batches or (report.refused and not report.accepted and not report.in_doubt):
            cause = str(problem) if problem is not None else "The platform refused phones."
            raise self.error(report, cause, final=True)
        if report.in_doubt:
            self._log.warning("In doubt, and taken for sent (on_in_doubt): %d phones.", report.in_doubt)
        if report.refused:
            self._log.warning("Refused by the platform: %d phones.", report.refused)

    def error(self, report: Report | None, cause: str, *, final: bool) -> CampaignError:
        """Put into words that it has not ended well, with what a person can run."""
        commands = [f"airflow-sms status {shlex.quote(self._called)}", *self._course.unsettled]
        if report is not None and not self._course.unsettled:
            in_doubt = self._outbox.in_doubt() if report.in_doubt else []
            commands += [resolve_line(self._called, row.number, UNKNOWN) for row in in_doubt[:3]]
        return CampaignError(report, cause, not final, tuple(commands))


def _counted(report: Report | None) -> str:
    if report is None:
        return ""
    ids = f" taskId: {', '.join(report.task_ids[:5])}{' …' if len(report.task_ids) > 5 else ''}."
    return f" Phones: {report}.{ids if report.task_ids else ''}"
