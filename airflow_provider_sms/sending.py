"""The send: claim a batch in the ledger, post it to the platform, settle it. Knows no Airflow.

Whatever happens to this process, the ledger says of every batch whether it may have left. Batches go out in
threads of their own, so that what interrupts the caller (Airflow's time-out, a signal) does not interrupt a
request on its way: the request ends, is settled, and then the caller is told.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_sms.gateway import times
from airflow_provider_sms.gateway.categories import read_category
from airflow_provider_sms.gateway.errors import (
    AccountDailyCapError,
    HttpTooManyError,
    InDoubtError,
    Outcome,
    PhoneDailyCapError,
    PhoneRefusedError,
    PhoneTooOftenError,
    RefusedError,
    SendTimeError,
    SmsError,
    UnlistedRefusalError,
    UnsentError,
)
from airflow_provider_sms.guards import Guards, OutsideHours
from airflow_provider_sms.ledger import evidence, reports
from airflow_provider_sms.ledger.claims import Claim, ClaimLostError
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerError, LedgerUnreachableError
from airflow_provider_sms.ledger.outbox import Held, Outbox, SettledOtherwiseError
from airflow_provider_sms.ledger.owners import new_claimant, own_name
from airflow_provider_sms.ledger.reports import Report
from airflow_provider_sms.ledger.schema import BatchState
from airflow_provider_sms.ledger.settling import Answer
from airflow_provider_sms.observing import NO_OBSERVER, Observer
from airflow_provider_sms.planning import PROGRESS_INTERVAL, Log, cap_of, check_balance, outside
from airflow_provider_sms.policy import OnExpired, OnInDoubt, OnPhoneRefused, Policy

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.answers import Acceptance
    from airflow_provider_sms.gateway.client import SmsClient
    from airflow_provider_sms.ledger.campaigns import Campaign

TRIES_TO_REACH = 4
FAILURES_IN_A_ROW = 3
LEASE_MARGIN = 30.0
SETTLE_LIMIT = 300.0
IN_PLACE = 60.0
MOST_RESENDS = 3
EVIDENCE_INTERVAL = 120.0
ONE_MINUTE = 60.0
TELL_INTERVAL = 0.5
_NOT_SENT = "--not-sent"
_UNKNOWN = "--sent|--not-sent"
_LOOK_INTERVAL = 2.0


Result = TypeVar("Result")


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


@dataclass(slots=True)
class _Wait:
    """Something that passes: no batch is claimed until then."""

    seconds: float
    problem: SmsError


@dataclass(slots=True)
class _Round:
    """What the threads of one round share."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    wait: _Wait | None = None
    opens_at: datetime | None = None


@dataclass(slots=True)
class _Worker:
    """What one thread has to itself.

    :param unreached: requests in a row that did not get out.
    """

    round: _Round
    outbox: Outbox
    unreached: int = 0


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
        self._ledger = ledger
        self._client = client
        self._campaign = campaign
        self._policy = policy
        self._log = log
        # Not an Event: a signal handler that sets one may wait for the lock that it has interrupted.
        self._is_stopped = False
        self._pause = pause or time.sleep
        self._defer = defer
        self._waited = waited
        self._default_account = default_account
        self._observer = observer
        self._settle_limit = SETTLE_LIMIT if settle_limit is None else settle_limit
        self._now = now
        self._clock = clock
        self._owner = own_name()
        self._guards = guards or Guards()
        self._hours = self._guards.hours(read_category(campaign.category))
        self._cap = cap_of(self._guards)
        self._is_balance_checked = self._guards.min_balance_after is None
        self._scheduled_for: datetime | None = None
        self._outbox = Outbox(ledger, self._owner, campaign, observer=observer)
        self._problem: Exception | None = None
        self._unsettled: list[str] = []
        self._failures = 0
        self._resent: set[int] = set()
        # Nothing is claimed while a settle is being repeated.
        self._settling = threading.Event()
        self._settling.set()

    def stop(self) -> None:
        """Claim nothing more; what is under way ends. May be called from a signal handler."""
        self._is_stopped = True

    def send(self, on_accepted: Callable[[Report], None] | None = None) -> Report:
        """Send what is left, and wait for what passes.

        :param on_accepted: called with the counts and all taskIds so far, at a bounded pace, and at the end.
        :returns: what became of the phones, if none is left over, in doubt or refused without being singled out.
        :raises CampaignError: otherwise.
        :raises MinBalanceError: too few points would be left; nothing was sent by this.
        :raises LedgerUnreachableError: nothing is known to have left that the ledger does not know of.
        """
        progress = _Progress(self._ledger, self._campaign, self._log, self._clock, on_accepted)
        progress.begin()
        while True:
            try:
                self._send_planned(progress)
            finally:
                progress.tell_task_ids()
            if not self._goes_on():
                break
        try:
            report = reports.report_of_what_stands(self._ledger, self._campaign.id)
        except LedgerError:
            if not self._unsettled:
                raise
            raise self._error(None, str(self._problem), final=True) from None
        # Another process, or a receipt, may have settled something since the last round.
        progress.tell_new(report)
        self._judge(report)
        return report

    # One round: threads that claim until nothing is left, or something is in the way.

    def _send_planned(self, progress: _Progress) -> None:
        self._outbox.overtake()
        if not self._is_balance_checked and self._opens_at() is None:
            self._check_balance()
        this = _Round()
        threads = [
            threading.Thread(target=self._work, args=(this,), name=f"sms-send-{number}")
            for number in range(1, self._policy.max_in_flight + 1)
        ]
        for thread in threads:
            thread.start()
        try:
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
            this.over.set()
            for thread in threads:
                thread.join()
        if this.wait is not None:
            self._wait(this.wait.seconds, this.wait.problem)
        elif this.opens_at is not None:
            self._wait_for_hours(this.opens_at)

    def _work(self, this: _Round) -> None:
        worker = _Worker(this, Outbox(self._ledger, new_claimant(), self._campaign, self._cap, self._observer))
        try:
            with self._ledger.holding():
                while not this.over.is_set() and not self._is_stopped:
                    if not self._settling.is_set():
                        self._settling.wait(1.0)
                    elif not self._send_one(worker):
                        return
        except Exception as error:  # noqa: BLE001 - whatever it is, the campaign ends with it
            self._end(error)
        finally:
            this.over.set()
            this.ended.set()

    def _send_one(self, worker: _Worker) -> bool:
        """Send the next batch; False if there is none."""
        try:
            send_time = self._send_time()
        except _TooLate as late:
            message = str(late)
            self._steadily(lambda: worker.outbox.expire(message))
            return False
        if send_time is None and self._is_closed():
            if not self._steadily(worker.outbox.states).get(BatchState.PLANNED):
                return False
            if self._guards.outside_hours is not OutsideHours.SCHEDULE:
                return self._close(worker)
            send_time = self._schedule(worker.outbox)
        claim = self._claim(worker.outbox, send_time)
        if claim is None:
            return False
        if self._campaign.send_time is None and self._is_closed():
            # The ledger may have been away for a while.
            if self._guards.outside_hours is not OutsideHours.SCHEDULE:
                self._settle(claim, lambda: worker.outbox.release(claim), _NOT_SENT)
                return self._close(worker)
            send_time = self._schedule(worker.outbox)
        self._post(worker, claim, send_time)
        return True

    @property
    def _lease(self) -> float:
        return self._client.account.timeout + LEASE_MARGIN

    def _send_time(self) -> datetime | None:
        """When the next batch shall go out, if it still may."""
        now, send_time, valid_until = self._now(), self._campaign.send_time, self._campaign.valid_until
        sends_late = self._policy.on_expired is OnExpired.SEND_NOW
        if valid_until is not None and now > valid_until and not sends_late:
            raise _TooLate(f"Too late since {valid_until:%Y-%m-%d %H:%M} UTC (valid_for).")
        try:
            times.wire_time(send_time, now)
        except SendTimeError as error:
            if not sends_late:
                raise _TooLate(str(error)) from None
            return None
        return send_time

    def _post(self, worker: _Worker, claim: Claim, send_time: datetime | None) -> None:
        began = self._clock()
        try:
            acceptance = self._client.send(
                claim.phones,
                claim.content,
                send_time,
                leaving=lambda seconds: worker.outbox.check(claim, seconds),
            )
        except SmsError as problem:
            seconds = self._clock() - began
            self._settle_problem(worker, claim, problem)
            # Not before: nothing may come between an answer and its settling.
            if problem.outcome is not Outcome.UNSENT:
                self._observer.answered(seconds, problem.outcome.name.lower())
        except (ClaimLostError, LedgerUnreachableError) as error:
            # Proven unsent: the look came before the first byte.
            self._log.warning("%s Nothing of batch %d was sent.", error, claim.number)
            self._settle(claim, lambda: worker.outbox.release(claim), _NOT_SENT)
            worker.unreached += 1
            if worker.unreached >= TRIES_TO_REACH:
                # Whatever holds it up each time, this process does not come to send within a lease.
                self._end(error)
        except BaseException as error:
            kind = type(error).__name__
            self._settle(claim, lambda: worker.outbox.doubt(claim, kind, "Interrupted while sending."), _UNKNOWN)
            raise
        else:
            seconds = self._clock() - began
            self._accept(worker, claim, acceptance)
            self._failures = worker.unreached = 0
            self._observer.answered(seconds, BatchState.ACCEPTED.value)
            if acceptance.remain_point is not None:
                self._observer.balance(acceptance.remain_point)

    def _accept(self, worker: _Worker, claim: Claim, acceptance: Acceptance) -> None:
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
        try:
            self._settle(
                claim, lambda: worker.outbox.accept(claim, answer), f"--sent {shlex.quote(acceptance.task_id)}"
            )
        except SettledOtherwiseError as error:
            self._log.error("%s", error)

    def _settle_problem(self, worker: _Worker, claim: Claim, problem: SmsError) -> None:
        """Write down what a failed request means for its phones, and what it means for the other batches."""
        kind, message = type(problem).__name__, problem.what
        singled_out = len(claim.phones) == 1
        match problem:
            case UnsentError():
                self._settle(claim, lambda: worker.outbox.release(claim, kind, message), _NOT_SENT)
                self._try_to_reach(worker, claim, problem)
            case InDoubtError():
                self._settle(claim, lambda: worker.outbox.doubt(claim, kind, message), _UNKNOWN)
                self._fail(claim, problem)
            case PhoneTooOftenError() if claim.may_have_gone_out:
                # The phones were texted within the last minute: most likely by the attempt before this one.
                self._settle(claim, lambda: worker.outbox.doubt(claim, kind, message), _UNKNOWN)
                self._fail(claim, problem)
            case PhoneTooOftenError():
                self._put_off(worker, claim, ONE_MINUTE, problem)
            case PhoneDailyCapError() if singled_out and self._can_wait(self._until_midnight()):
                self._put_off(worker, claim, self._until_midnight(), problem)
            case PhoneRefusedError() if singled_out or self._policy.on_phone_refused is OnPhoneRefused.FAIL:
                self._settle(claim, lambda: worker.outbox.refuse(claim, kind, message), _NOT_SENT)
                self._log.warning("Batch %d, phones: %d: %s", claim.number, len(claim.phones), problem)
            case PhoneRefusedError():
                self._log.info("Batch %d: %s Halving it to find the phone.", claim.number, message)
                self._settle(claim, lambda: worker.outbox.split(claim, kind, message), _NOT_SENT)
            case AccountDailyCapError():
                self._put_off(worker, claim, self._until_midnight(), problem)
            case HttpTooManyError():
                self._put_off(worker, claim, ONE_MINUTE, problem)
            case RefusedError():
                self._settle(claim, lambda: worker.outbox.refuse(claim, kind, message), _NOT_SENT)
                if isinstance(problem, UnlistedRefusalError):
                    self._fail(claim, problem)
                else:
                    self._end(problem)
            case _:
                self._settle(claim, lambda: worker.outbox.release(claim, kind, message), _NOT_SENT)
                self._end(problem)

    def _try_to_reach(self, worker: _Worker, claim: Claim, problem: SmsError) -> None:
        """Give the platform a moment; the batch is claimed anew, so that no lease covers more than one request."""
        worker.unreached += 1
        if worker.unreached >= TRIES_TO_REACH:
            self._end(problem)
        elif not self._is_stopped:
            self._log.warning("Batch %d: %s Trying again (%d).", claim.number, problem, worker.unreached)
            self._pause(float(2**worker.unreached))

    def _put_off(self, worker: _Worker, claim: Claim, seconds: float, problem: SmsError) -> None:
        self._settle(claim, lambda: worker.outbox.release(claim, type(problem).__name__, problem.what), _NOT_SENT)
        with worker.round.lock:
            wait = worker.round.wait
            if wait is None or wait.seconds < seconds:
                worker.round.wait = _Wait(seconds, problem)
        worker.round.over.set()

    def _fail(self, claim: Claim, problem: SmsError) -> None:
        """The other batches still go out, unless several in a row fail."""
        self._log.error("Batch %d: %s", claim.number, problem)
        self._problem = self._problem or problem
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            self._log.error("Failed in a row: %d batches. Nothing more is sent.", self._failures)
            self.stop()

    def _end(self, error: Exception) -> None:
        """No other batch can fare better."""
        self._log.error("Nothing more is sent: %s", error)
        self._problem = self._problem or error
        self.stop()

    # The guards: looked at before every claim, and before the first.

    def _is_closed(self) -> bool:
        return self._hours is not None and not self._hours.contain(self._now())

    def _opens_at(self) -> datetime | None:
        """When the sending hours begin, if nothing can be claimed before that."""
        is_scheduled = self._campaign.send_time is not None or self._guards.outside_hours is OutsideHours.SCHEDULE
        if self._hours is None or is_scheduled or not self._is_closed():
            return None
        return self._hours.next_open(self._now())

    def _close(self, worker: _Worker) -> bool:
        """The sending hours are over: nothing is claimed until they begin, or nothing more at all."""
        assert self._hours is not None  # noqa: S101 - for the types
        now = self._now()
        with worker.round.lock:
            is_first = worker.round.opens_at is None
            worker.round.opens_at = self._hours.next_open(now)
        if is_first and self._guards.outside_hours is OutsideHours.FAIL:
            self._end(outside(self._hours, now))
        worker.round.over.set()
        return False

    def _schedule(self, outbox: Outbox) -> datetime:
        """Choose a time in the sending hours for a batch that is claimed outside them."""
        assert self._hours is not None  # noqa: S101 - for the types
        send_time = self._hours.next_send_time(self._now())
        if self._scheduled_for is None or self._scheduled_for < send_time:
            self._steadily(lambda: outbox.schedule(send_time))
            self._scheduled_for = send_time
            self._log.info("Outside the sending hours, %s: sent for %s.", self._hours, _beijing(send_time))
        return send_time

    def _wait_for_hours(self, opens_at: datetime) -> None:
        """Wait until the sending hours begin, however long that is: it is no failure, and uses up no time to send."""
        if self._is_stopped or self._guards.outside_hours is OutsideHours.FAIL:
            return
        valid_until = opens_at + self._policy.valid_for
        self._steadily(lambda: self._outbox.put_off(opens_at, valid_until))
        if self._campaign.valid_until is not None and self._campaign.valid_until < valid_until:
            self._campaign = replace(self._campaign, valid_until=valid_until)
        seconds = (opens_at - self._now()).total_seconds()
        self._log.info("Outside the sending hours, %s: waiting until %s.", self._hours, _beijing(opens_at))
        if seconds > IN_PLACE and self._defer is not None:
            self._defer(seconds, self._waited)
        self._rest(seconds)

    def _check_balance(self) -> None:
        """See, before the first request, that enough points would be left once all of what is left is sent."""
        least = self._guards.min_balance_after
        assert least is not None  # noqa: S101 - for the types
        report = reports.report_of_what_stands(self._ledger, self._campaign.id)
        if not report.not_sent:
            return
        balance = self._ask_balance(report)
        check_balance(balance, report.points_left, least)
        self._log.info("The account has %d points; to send what is left costs %d.", balance, report.points_left)
        self._is_balance_checked = True

    def _ask_balance(self, report: Report) -> int:
        for number in range(1, TRIES_TO_REACH + 1):
            try:
                balance = self._client.get_balance()
            except SmsError as error:
                if error.passes_by_itself and number < TRIES_TO_REACH and not self._is_stopped:
                    self._log.warning("No balance (%d of %d in a row): %s", number, TRIES_TO_REACH, error.what)
                    self._pause(float(2**number))
                    continue
                cause = f"{error.what} The balance is not known (min_balance_after), so nothing was sent now."
                final = not error.passes_by_itself
                raise self._error(
                    report, cause if error.passes_by_itself else f"{error} {cause}", final=final
                ) from None
            self._observer.balance(balance)
            return balance
        raise AssertionError  # the last try returns or raises

    # The ledger may be away for a while: a step is repeated, and nothing is claimed meanwhile.

    def _claim(self, outbox: Outbox, send_time: datetime | None) -> Claim | None:
        try:
            return self._steadily(lambda: outbox.claim(self._client.account.app_id, self._lease, send_time))
        except LedgerError:
            if outbox.uncertain is not None:
                self._unsettled.append(self._resolve(outbox.uncertain.number, _NOT_SENT))
            raise

    def _settle(self, claim: Claim, step: Callable[[], None], outcome: str) -> None:
        try:
            self._steadily(step)
        except LedgerError as error:
            self._unsettled.append(self._resolve(claim.number, outcome))
            raise _UnsettledError(
                f"{error} What became of batch {claim.number} could not be written down. When the ledger is back: "
                f"{self._unsettled[-1]}"
            ) from None

    def _steadily(self, step: Callable[[], Result]) -> Result:
        began, seconds = self._clock(), 1.0
        while True:
            try:
                result = step()
            except LedgerUnreachableError as error:
                if self._clock() - began >= self._settle_limit:
                    raise
                self._settling.clear()
                self._log.warning("%s Trying again in %.0f s; nothing new is sent until then.", error, seconds)
                self._pause(seconds)
                seconds = min(seconds * 2, 15.0)
            else:
                self._settling.set()
                return result

    # Between the rounds: what passes by itself is waited for.

    def _goes_on(self) -> bool:
        if self._is_stopped:
            return False
        held = self._outbox.overtake()
        states = self._outbox.states()
        if states.get(BatchState.PLANNED):
            return True
        if held:
            return self._wait_for_others(held)
        if not states.get(BatchState.IN_DOUBT) or not self._is_still_in_doubt():
            return False
        match self._policy.on_in_doubt:
            case OnInDoubt.RESEND:
                return self._resend()
            case OnInDoubt.WAIT:
                return self._wait_for_evidence()
        return False

    def _wait_for_others(self, held: list[Held]) -> bool:
        latest = max(each.lease_until for each in held)
        seconds = max(1.0, (latest - self._outbox.database_time()).total_seconds())
        self._log.info(
            "Another process (%s) is sending batch %d%s; waiting for it, %.0f s at most, until its lease ends.",
            held[0].owner,
            held[0].number,
            f" and {len(held) - 1} more" if len(held) > 1 else "",
            seconds,
        )
        numbers = {each.number for each in held}
        self._sleep(seconds, until=lambda: {each.number for each in self._outbox.overtake()} != numbers)
        return True

    def _resend(self) -> bool:
        due = [row for row in self._outbox.in_doubt() if row.id not in self._resent and row.resends < MOST_RESENDS]
        if not due:
            return False
        if (opens_at := self._opens_at()) is not None:
            # Until then they stay in doubt, for everybody to see.
            self._wait_for_hours(opens_at)
            if self._is_stopped or self._is_closed():
                return False
        latest = max(row.lease_until for row in due).replace(tzinfo=UTC)
        seconds = (latest - self._outbox.database_time()).total_seconds()
        if seconds > 0:
            self._log.info("In doubt: %d batches; sending them again in %.0f s (on_in_doubt).", len(due), seconds)
            self._sleep(seconds)
        self._resent.update(row.id for row in due)
        return self._outbox.renew([row.id for row in due]) > 0

    def _is_still_in_doubt(self) -> bool:
        if not self._client.account.exclusive_account:
            return True
        for found in evidence.adopt(self._ledger, self._campaign.id, self._default_account(), self._observer):
            self._log.info("Batch %d was sent: a receipt or reply names it, taskId %s.", found.number, found.taskid)
        return bool(self._outbox.in_doubt())

    def _wait_for_evidence(self) -> bool:
        seconds = EVIDENCE_INTERVAL
        if self._waited + seconds > self._policy.max_wait.total_seconds():
            return False
        self._log.info("In doubt: waiting for receipts, looking again in %.0f s.", seconds)
        self._sleep(seconds)
        self._waited += seconds
        return True

    def _wait(self, seconds: float, problem: SmsError) -> None:
        if self._is_stopped:
            return
        if not self._can_wait(seconds):
            self._end(problem)
            return
        self._log.info("%s Waiting %.0f s.", problem, seconds)
        self._sleep(seconds)
        self._waited += seconds

    def _can_wait(self, seconds: float) -> bool:
        return self._waited + seconds <= self._policy.max_wait.total_seconds()

    def _sleep(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Wait here for up to a minute; longer only if there is no way to leave the process."""
        if seconds > IN_PLACE and self._defer is not None:
            self._defer(seconds, self._waited + seconds)
        self._rest(seconds, until)

    def _rest(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        while seconds > 0 and not self._is_stopped and not until():
            self._pause(min(seconds, _LOOK_INTERVAL))
            seconds -= _LOOK_INTERVAL

    def _until_midnight(self) -> float:
        now = self._now().astimezone(times.BEIJING)
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return (midnight - now).total_seconds() + ONE_MINUTE

    # The end: what has to be said, and whether another try may help.

    def _judge(self, report: Report) -> None:
        assumes_sent = self._policy.on_in_doubt is OnInDoubt.ASSUME_SENT
        cause = str(self._problem) if self._problem is not None else "Told to stop."
        if self._unsettled:
            raise self._error(report, cause, final=True)
        if report.in_doubt and not assumes_sent:
            final = self._policy.on_in_doubt is not OnInDoubt.WAIT
            cause = cause if self._problem is not None else "Some phones may have been texted: no answer says so."
            raise self._error(report, cause, final=final)
        if report.not_sent or report.sending:
            raise self._error(report, cause, final=isinstance(self._problem, SmsError) and not _passes(self._problem))
        if report.expired:
            raise self._error(
                report,
                "Some texts are too late and were not sent. To send them, set on_expired='send_now'.",
                final=True,
            )
        if report.refused_batches or (report.refused and not report.accepted and not report.in_doubt):
            cause = str(self._problem) if self._problem is not None else "The platform refused phones."
            raise self._error(report, cause, final=True)
        if report.in_doubt:
            self._log.warning("In doubt, and taken for sent (on_in_doubt): %d phones.", report.in_doubt)
        if report.refused:
            self._log.warning("Refused by the platform: %d phones.", report.refused)

    def _error(self, report: Report | None, cause: str, *, final: bool) -> CampaignError:
        commands = [f"airflow-sms status {shlex.quote(self._campaign.name)}", *self._unsettled]
        if report is not None and not self._unsettled:
            in_doubt = self._outbox.in_doubt() if report.in_doubt else []
            commands += [self._resolve(row.number, _UNKNOWN) for row in in_doubt[:3]]
        return CampaignError(report, cause, not final, tuple(commands))

    def _resolve(self, number: int, outcome: str) -> str:
        return f"airflow-sms resolve {shlex.quote(self._campaign.name)} --batch {number} {outcome}"


class _TooLate(Exception):
    """What is still planned may not go out any more."""


class _UnsettledError(Exception):
    """What became of a batch could not be written down."""


def _counted(report: Report | None) -> str:
    if report is None:
        return ""
    ids = f" taskId: {', '.join(report.task_ids[:5])}{' …' if len(report.task_ids) > 5 else ''}."
    return f" Phones: {report}.{ids if report.task_ids else ''}"


def _beijing(time: datetime) -> str:
    return f"{time.astimezone(times.BEIJING):%Y-%m-%d %H:%M} Beijing time"


def _passes(problem: SmsError) -> bool:
    return problem.passes_by_itself


class _Progress:
    """Says how far a campaign is, at a bounded pace."""

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
