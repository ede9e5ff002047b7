"""What the platform's answer means for a batch, for the others, and for the try; written down before anything else.

Posts nothing and waits for nothing that passes: that is put off to the end of the round.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_sms.gateway.errors import (
    AccountDailyCapError,
    HttpTooManyError,
    InDoubtError,
    PhoneDailyCapError,
    PhoneRefusedError,
    PhoneTooOftenError,
    RefusedError,
    SendTimeError,
    SmsError,
    UnlistedRefusalError,
    UnsentError,
)
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.ledger.claims import Claim
from airflow_provider_sms.ledger.outbox import SettledOtherwiseError
from airflow_provider_sms.ledger.settling import Answer
from airflow_provider_sms.policy import OnPhoneRefused, Policy
from airflow_provider_sms.send_steps import NOT_SENT, UNKNOWN

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.answers import Acceptance
    from airflow_provider_sms.planning import Log
    from airflow_provider_sms.send_course import Course, Worker
    from airflow_provider_sms.send_patience import Patience
    from airflow_provider_sms.send_steps import Steps

ONE_MINUTE = 60.0


class Settler:
    """Settles the batches of one campaign, in any of its threads.

    :param now: gives the time, aware.
    """

    def __init__(
        self,
        policy: Policy,
        course: Course,
        steps: Steps,
        patience: Patience,
        log: Log,
        now: Callable[[], datetime],
    ) -> None:
        self._policy = policy
        self._course = course
        self._steps = steps
        self._patience = patience
        self._log = log
        self._now = now

    def accept(self, worker: Worker, claim: Claim, acceptance: Acceptance) -> None:
        """Write down that the platform has taken it."""
        total = len(claim.phones)
        counted = total if acceptance.success_count is None else max(0, min(acceptance.success_count, total))
        if counted != total:
            self._log.warning(
                "Batch %d (taskId %s): the platform counts %d of %d phones and does not say which it left out; "
                "they are not sent again.",
                claim.number,
                acceptance.task_id,
                counted,
                total,
            )
        answer = Answer(acceptance.task_id, counted, acceptance.remain_point)
        outcome = f"--sent {shlex.quote(acceptance.task_id)}"
        try:
            self._steps.settle(claim, lambda: worker.outbox.accept(claim, answer), outcome)
        except SettledOtherwiseError as error:
            self._log.error("%s", error)
        self._course.succeed()
        worker.unreached = 0

    def interrupt(self, worker: Worker, claim: Claim, error: BaseException) -> None:
        """Write down that a request has begun to leave, and that nobody knows how far it has come."""
        kind = type(error).__name__
        self._steps.settle(claim, lambda: worker.outbox.doubt(claim, kind, "Interrupted while sending."), UNKNOWN)

    def hold_back(self, worker: Worker, claim: Claim, error: Exception) -> None:
        """Write down that it was stopped before its first byte."""
        self._log.warning("%s Nothing of batch %d was sent.", error, claim.number)
        self.release(worker, claim)
        if worker.is_out_of_reach():
            # Whatever holds it up each time, this process does not come to send within a lease.
            self._course.end(error)

    def release(self, worker: Worker, claim: Claim) -> None:
        """Give it back: nothing of it was sent."""
        self._steps.settle(claim, lambda: worker.outbox.release(claim), NOT_SENT)

    def settle(self, worker: Worker, claim: Claim, problem: SmsError) -> None:
        """Write down what a failed request means for its phones, and what it means for the other batches."""
        kind, message = type(problem).__name__, problem.what
        singled_out = len(claim.phones) == 1
        match problem:
            case UnsentError():
                self._steps.settle(claim, lambda: worker.outbox.release(claim, kind, message), NOT_SENT)
                self._try_to_reach(worker, claim, problem)
            case SendTimeError():
                # Too soon since the claim: what then, the next claim says.
                self.hold_back(worker, claim, problem)
            case InDoubtError():
                self._steps.settle(claim, lambda: worker.outbox.doubt(claim, kind, message), UNKNOWN)
                self._course.fail(claim.number, problem)
            case PhoneTooOftenError() if claim.may_have_gone_out:
                # The phones were texted within the last minute: most likely by the attempt before this one.
                self._steps.settle(claim, lambda: worker.outbox.doubt(claim, kind, message), UNKNOWN)
                self._course.fail(claim.number, problem)
            case PhoneTooOftenError():
                self._put_off(worker, claim, ONE_MINUTE, problem)
            case PhoneDailyCapError() if singled_out and self._patience.is_enough_for(self._until_midnight()):
                self._put_off(worker, claim, self._until_midnight(), problem)
            case PhoneRefusedError() if singled_out or self._policy.on_phone_refused is OnPhoneRefused.FAIL:
                self._steps.settle(claim, lambda: worker.outbox.refuse(claim, kind, message), NOT_SENT)
                self._log.warning("Batch %d, phones: %d: %s", claim.number, len(claim.phones), problem)
            case PhoneRefusedError():
                self._log.info("Batch %d: %s Halving it to find the phone.", claim.number, message)
                self._steps.settle(claim, lambda: worker.outbox.split(claim, kind, message), NOT_SENT)
            case AccountDailyCapError():
                self._put_off(worker, claim, self._until_midnight(), problem)
            case HttpTooManyError():
                self._put_off(worker, claim, ONE_MINUTE, problem)
            case RefusedError():
                self._steps.settle(claim, lambda: worker.outbox.refuse(claim, kind, message), NOT_SENT)
                if isinstance(problem, UnlistedRefusalError):
                    self._course.fail(claim.number, problem)
                else:
                    self._course.end(problem)
            case _:
                self._steps.settle(claim, lambda: worker.outbox.release(claim, kind, message), NOT_SENT)
                self._course.end(problem)

    def _try_to_reach(self, worker: Worker, claim: Claim, problem: SmsError) -> None:
        """Give the platform a moment; the batch is claimed anew, so that no lease covers more than one request."""
        if worker.is_out_of_reach():
            self._course.end(problem)
        elif not self._course.is_stopped:
            self._log.warning("Batch %d: %s Trying again (%d).", claim.number, problem, worker.unreached)
            self._patience.pause(float(2**worker.unreached))

    def _put_off(self, worker: Worker, claim: Claim, seconds: float, problem: SmsError) -> None:
        kind, message = type(problem).__name__, problem.what
        self._steps.settle(claim, lambda: worker.outbox.release(claim, kind, message), NOT_SENT)
        worker.round.put_off(seconds, problem)

    def _until_midnight(self) -> float:
        now = self._now().astimezone(BEIJING)
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return (midnight - now).total_seconds() + ONE_MINUTE
