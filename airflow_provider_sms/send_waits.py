"""Between the rounds: what passes by itself is waited for. Posts nothing; what may be posted again is planned again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_sms.ledger import evidence
from airflow_provider_sms.ledger.schema import BatchState
from airflow_provider_sms.policy import OnInDoubt, Policy

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.account import Account
    from airflow_provider_sms.ledger.campaigns import Campaign
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.outbox import Held, Outbox
    from airflow_provider_sms.observing import Observer
    from airflow_provider_sms.planning import Log
    from airflow_provider_sms.send_course import Course, Round, Wait
    from airflow_provider_sms.send_patience import Patience
    from airflow_provider_sms.send_steps import Steps
    from airflow_provider_sms.send_times import Timetable

MOST_RESENDS = 3
EVIDENCE_INTERVAL = 120.0

Result = TypeVar("Result")


class Waits:
    """What one campaign waits for, in the main thread.

    :param default_account: tells the App ID of `sms_default`, if that is to be had: see `evidence.look`.
    """

    def __init__(
        self,
        ledger: Ledger,
        account: Account,
        campaign: Campaign,
        policy: Policy,
        course: Course,
        steps: Steps,
        patience: Patience,
        times: Timetable,
        outbox: Outbox,
        log: Log,
        *,
        default_account: Callable[[], str | None],
        observer: Observer,
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._campaign = campaign
        self._policy = policy
        self._course = course
        self._steps = steps
        self._patience = patience
        self._times = times
        self._outbox = outbox
        self._log = log
        self._default_account = default_account
        self._observer = observer
        self._resent: set[int] = set()

    def after(self, this: Round) -> None:
        """Wait for what has ended a round."""
        if this.wait is not None:
            self._for_refusal(this.wait)
        elif this.opens_at is not None:
            self._for_hours(this.opens_at)

    def go_on(self) -> bool:
        """Wait for what may leave something to send.

        :returns: whether there may be.
        """
        if self._course.is_stopped:
            return False
        held = self._steadily(self._outbox.overtake)
        states = self._steadily(self._outbox.states)
        if states.get(BatchState.PLANNED):
            return True
        if held:
            return self._for_others(held)
        if not states.get(BatchState.IN_DOUBT) or not self._is_still_in_doubt():
            return False
        match self._policy.on_in_doubt:
            case OnInDoubt.RESEND:
                return self._to_resend()
            case OnInDoubt.WAIT:
                return self._for_evidence()
        return False

    def _for_refusal(self, wait: Wait) -> None:
        if self._course.is_stopped:
            return
        if not self._patience.is_enough_for(wait.seconds):
            self._course.end(wait.problem)
            return
        self._log.info("%s Waiting %.0f s.", wait.problem, wait.seconds)
        self._patience.wait(wait.seconds)

    def _for_hours(self, opens_at: datetime) -> None:
        """Wait until the sending hours begin, however long that is: it is no failure, and uses up no time to send."""
        if self._course.is_stopped or not self._times.waits_outside:
            return
        # The clock may be put right meanwhile, or the machine sleep.
        self._patience.sleep_uncounted(
            self._times.put_off(self._outbox, opens_at), until=lambda: not self._times.is_closed()
        )

    def _for_others(self, held: list[Held]) -> bool:
        latest = max(each.lease_until for each in held)
        seconds = max(1.0, (latest - self._steadily(self._outbox.database_time)).total_seconds())
        self._log.info(
            "Another process (%s) is sending batch %d%s; waiting for it, %.0f s at most, until its lease ends.",
            held[0].owner,
            held[0].number,
            f" and {len(held) - 1} more" if len(held) > 1 else "",
            seconds,
        )
        numbers = {each.number for each in held}
        self._patience.sleep(seconds, until=lambda: self._numbers_held() != numbers)
        return True

    def _numbers_held(self) -> set[int]:
        return {each.number for each in self._steadily(self._outbox.overtake)}

    def _to_resend(self) -> bool:
        in_doubt = self._steadily(self._outbox.in_doubt)
        due = [row for row in in_doubt if row.id not in self._resent and row.resends < MOST_RESENDS]
        # What may not go out any more stays in doubt: as planned it would expire, and be taken for unsent.
        if not due or self._times.is_too_late():
            return False
        latest = max(row.lease_until for row in due).replace(tzinfo=UTC)
        seconds = (latest - self._steadily(self._outbox.database_time)).total_seconds()
        if seconds > 0:
            self._log.info("In doubt: %d batches; sending them again in %.0f s (on_in_doubt).", len(due), seconds)
            self._patience.sleep(seconds)
        if self._course.is_stopped or self._times.is_too_late():
            return False
        if (opens_at := self._times.opens_at()) is not None:
            # Until then they stay in doubt, for everybody to see.
            self._for_hours(opens_at)
            return not self._course.is_stopped and not self._times.is_closed()
        self._resent.update(row.id for row in due)
        self._steadily(lambda: self._outbox.renew([row.id for row in due]))
        return True

    def _is_still_in_doubt(self) -> bool:
        if not self._account.exclusive_account:
            return True
        account = self._default_account()
        for found in self._steadily(lambda: evidence.adopt(self._ledger, self._campaign.id, account, self._observer)):
            self._log.info("Batch %d was sent: a receipt or reply names it, taskId %s.", found.number, found.taskid)
        return bool(self._steadily(self._outbox.in_doubt))

    def _for_evidence(self) -> bool:
        if not self._patience.is_enough_for(EVIDENCE_INTERVAL):
            return False
        self._log.info("In doubt: waiting for receipts, looking again in %.0f s.", EVIDENCE_INTERVAL)
        self._patience.wait(EVIDENCE_INTERVAL)
        return True

    def _steadily(self, step: Callable[[], Result]) -> Result:
        return self._steps.steadily(step, until=lambda: self._course.is_stopped)
