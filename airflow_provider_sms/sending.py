"""The send: claim a batch in the ledger, post it to the platform, settle it. Knows no Airflow.

Whatever happens to this process, the ledger says of every batch whether it may have left. Batches go out in
threads of their own, so that what interrupts the caller (Airflow's time-out, a signal) does not interrupt a
request on its way: the request ends, is settled, and then the caller is told.

    sending ─▶ send_waits      between the rounds: for others, for evidence, for hours, for refusals that pass
            ─▶ send_settling   what an answer means for a batch and for the others
            ─▶ send_balance    enough points, before the first request
            ─▶ send_judging    how it has ended
            ─▶ send_progress   how far it is
    all of them stand on send_times (when texts may go out), send_steps (the ledger may be away), send_patience
    (waiting, in place or outside the process) and send_course (whether it goes on, what has gone wrong)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_sms.gateway import times
from airflow_provider_sms.gateway.errors import Outcome, SmsError
from airflow_provider_sms.guarding import cap_of
from airflow_provider_sms.guards import Guards
from airflow_provider_sms.ledger import reports
from airflow_provider_sms.ledger.claims import Claim, ClaimLostError
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerError
from airflow_provider_sms.ledger.outbox import Outbox
from airflow_provider_sms.ledger.owners import new_claimant, own_name
from airflow_provider_sms.ledger.schema import BatchState
from airflow_provider_sms.observing import NO_OBSERVER, Observer
from airflow_provider_sms.send_balance import BalanceCheck
from airflow_provider_sms.send_course import Course, Round, Worker
from airflow_provider_sms.send_judging import Judge
from airflow_provider_sms.send_patience import Patience
from airflow_provider_sms.send_progress import Progress
from airflow_provider_sms.send_settling import Settler
from airflow_provider_sms.send_steps import Steps
from airflow_provider_sms.send_times import Timetable, TooLateError
from airflow_provider_sms.send_waits import Waits

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.client import SmsClient
    from airflow_provider_sms.ledger.campaigns import Campaign
    from airflow_provider_sms.ledger.reports import Report
    from airflow_provider_sms.planning import Log
    from airflow_provider_sms.policy import Policy

LEASE_MARGIN = 30.0
TELL_INTERVAL = 0.5


class Sender:
    """Sends one planned campaign, as far as it goes.

    :param client: the platform.
    :param campaign: its plan, see `planning.Planner`.
    :param pause: waits the given seconds; None for the real thing.
    :param defer: leaves the process for the given seconds, by raising, and is told how long this try has waited by
        then; None to wait in the process.
    :param waited: seconds that this try has waited already.
    :param guards: what keeps it from going out as it is; None for what suits its category.
    :param default_account: tells the App ID of `sms_default`, if that is to be had: see `evidence.look`.
    :param observer: is told what becomes of texts, and how long requests take.
    :param settle_limit: seconds for which a step is repeated that the ledger does not take; None for 300.
    """

    def __init__(
        self,
        ledger: Ledger,
        client: SmsClient,
        campaign: Campaign,
        policy: Policy,
        log: Log,
        *,
        pause: Callable[[float], object] | None = None,
        defer: Callable[[float, float], None] | None = None,
        waited: float = 0.0,
        guards: Guards | None = None,
        default_account: Callable[[], str | None] = lambda: None,
        observer: Observer = NO_OBSERVER,
        settle_limit: float | None = None,
        now: Callable[[], datetime] = times.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        guards, pause = guards or Guards(), pause or time.sleep
        self._ledger = ledger
        self._client = client
        self._campaign = campaign
        self._log = log
        self._observer = observer
        self._clock = clock
        self._cap = cap_of(guards)
        self._in_flight = policy.max_in_flight
        self._outbox = Outbox(ledger, own_name(), campaign, observer=observer)
        self._course = Course(log)
        self._steps = Steps(campaign.name, self._course, log, pause=pause, clock=clock, limit=settle_limit)
        patience = Patience(self._course, policy.max_wait, pause, defer, waited)
        self._times = Timetable(campaign, policy, guards, self._course, self._steps, log, now)
        self._settler = Settler(policy, self._course, self._steps, patience, log, now)
        self._judge = Judge(campaign.name, policy, self._course, self._outbox, log)
        self._balance = BalanceCheck(
            ledger, client, campaign, guards, self._course, patience, self._judge, log, observer
        )
        self._waits = Waits(
            ledger,
            client.account,
            campaign,
            policy,
            self._course,
            self._steps,
            patience,
            self._times,
            self._outbox,
            log,
            default_account=default_account,
            observer=observer,
        )

    def stop(self) -> None:
        """Claim nothing more; what is under way ends. May be called from a signal handler."""
        self._course.stop()

    def send(self, on_accepted: Callable[[Report], None] | None = None) -> Report:
        """Send what is left, and wait for what passes.

        :param on_accepted: called with the counts and all taskIds so far, at a bounded pace, and at the end.
        :returns: what became of the phones, if none is left over, in doubt or refused without being singled out.
        :raises CampaignError: otherwise.
        :raises MinBalanceError: too few points would be left; nothing was sent by this.
        :raises LedgerUnreachableError: nothing is known to have left that the ledger does not know of.
        """
        progress = Progress(self._ledger, self._campaign, self._log, self._clock, on_accepted)
        progress.begin()
        self._outbox.overtake()
        while True:
            try:
                self._send_planned(progress)
            finally:
                progress.tell_task_ids()
            if not self._waits.go_on():
                break
        try:
            report = reports.report_of_what_stands(self._ledger, self._campaign.id)
        except LedgerError:
            if not self._course.unsettled:
                raise
            raise self._judge.error(None, str(self._course.problem), final=True) from None
        # Another process, or a receipt, may have settled something since the last round.
        progress.tell_new(report)
        self._judge.judge(report)
        return report

    def _send_planned(self, progress: Progress) -> None:
        """One round: threads that claim until nothing is left, or something is in the way."""
        if self._balance.is_due and self._times.opens_at() is None:
            self._balance.take()
        this = Round()
        workers = [
            Worker(this, Outbox(self._ledger, new_claimant(), self._campaign, self._cap, self._observer))
            for _ in range(self._in_flight)
        ]
        threads = [
            threading.Thread(target=self._work, args=(worker,), name=f"sms-send-{number}")
            for number, worker in enumerate(workers, 1)
        ]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                this.ended.wait(TELL_INTERVAL)
                this.ended.clear()
                progress.tell()
        except BaseException as error:
            # Airflow's time-out, or a signal. A request under way is bounded by its own deadline.
            self.stop()
            self._log.warning("%s: nothing more is sent; a request under way ends first.", type(error).__name__)
            raise
        finally:
            _end(this, workers)
        self._waits.after(this)

    def _work(self, worker: Worker) -> None:
        this = worker.round
        # First, so that whoever ends the round sees it, or it sees that the round is over.
        worker.is_at_work = True
        try:
            with self._ledger.holding():
                while not this.over.is_set() and not self._course.is_stopped:
                    if self._steps.are_steady() and not self._send_one(worker):
                        return
        except Exception as error:  # noqa: BLE001 - whatever it is, the campaign ends with it
            self._course.end(error)
        finally:
            this.over.set()
            worker.is_at_work = False
            this.ended.set()

    def _send_one(self, worker: Worker) -> bool:
        """Send the next batch; False if there is none."""
        try:
            send_time = self._times.send_time()
        except TooLateError as late:
            message = str(late)
            self._steps.steadily(lambda: worker.outbox.expire(message))
            return False
        if send_time is None and self._times.is_closed():
            if not self._steps.steadily(worker.outbox.states).get(BatchState.PLANNED):
                return False
            if not self._times.is_scheduled_outside:
                self._times.close(worker)
                return False
            send_time = self._times.schedule(worker.outbox)
        claim = self._claim(worker.outbox, send_time)
        if claim is None:
            return False
        # The ledger may have been away for a while.
        if self._course.is_stopped or (send_time is None and self._times.is_closed()):
            self._settler.release(worker, claim)
        else:
            self._post(worker, claim, send_time)
        return True

    def _claim(self, outbox: Outbox, send_time: datetime | None) -> Claim | None:
        account = self._client.account
        lease = account.timeout + LEASE_MARGIN
        return self._steps.claim(outbox, lambda: outbox.claim(account.app_id, lease, send_time))

    def _post(self, worker: Worker, claim: Claim, send_time: datetime | None) -> None:
        has_left = False

        def leaving(seconds: float) -> None:
            nonlocal has_left
            worker.outbox.check(claim, seconds)
            has_left = True

        began = self._clock()
        try:
            acceptance = self._client.send(claim.phones, claim.content, send_time, leaving=leaving)
        except SmsError as problem:
            seconds = self._clock() - began
            self._settler.settle(worker, claim, problem)
            # Not before: nothing may come between an answer and its settling.
            if problem.outcome is not Outcome.UNSENT:
                self._observer.answered(seconds, problem.outcome.name.lower())
        except (ClaimLostError, LedgerError) as error:
            # Proven unsent: the look came before the first byte.
            self._settler.hold_back(worker, claim, error)
        except BaseException as error:
            if has_left:
                self._settler.interrupt(worker, claim, error)
            else:
                self._settler.release(worker, claim)
            raise
        else:
            seconds = self._clock() - began
            self._settler.accept(worker, claim, acceptance)
            self._observer.answered(seconds, BatchState.ACCEPTED.value)
            if acceptance.remain_point is not None:
                self._observer.balance(acceptance.remain_point)


def _end(this: Round, workers: list[Worker]) -> None:
    """Wait until nobody is at work any more, however often that is interrupted.

    Not by joining threads: before Python 3.13 one whose joining was interrupted is taken for ended.
    """
    interruption: BaseException | None = None
    while True:
        try:
            this.over.set()
            while any(worker.is_at_work for worker in workers):
                this.ended.wait(TELL_INTERVAL)
                this.ended.clear()
        except BaseException as error:  # noqa: BLE001 - it is raised when the requests under way have ended
            interruption = error
        else:
            break
    if interruption is not None:
        raise interruption
