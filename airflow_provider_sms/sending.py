"""The send: plan a campaign, post its batches, settle what became of them. Knows no Airflow.

What a campaign has done is kept in memory only: a process that is killed takes it along, and the next one
plans anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_sms.gateway import phones as phone_list
from airflow_provider_sms.gateway import texts, times
from airflow_provider_sms.gateway.account import Account, check_batch_size
from airflow_provider_sms.gateway.errors import (
    InDoubtError,
    Outcome,
    PhoneRefusedError,
    PhonesError,
    SmsError,
    UnlistedRefusalError,
    UnsentError,
)

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.answers import Acceptance
    from airflow_provider_sms.gateway.client import SmsClient

MOST_PHONES = 100_000
TRIES_TO_REACH = 4
FAILURES_IN_A_ROW = 3
PROGRESS_INTERVAL = 10.0


class Log(Protocol):
    """As much of a logger as is used here: Python's own, or Airflow's."""

    def info(self, message: str, /, *args: Any) -> Any: ...
    def warning(self, message: str, /, *args: Any) -> Any: ...
    def error(self, message: str, /, *args: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be sent, checked and cut into batches; nothing has been sent yet.

    :param phones: included and excluded phones.
    :param text: the text as it goes out.
    :param send_time: aware, or None for at once.
    :param batch_size: phones in one request.
    """

    phones: phone_list.Phones
    text: texts.Text
    send_time: datetime | None
    batch_size: int

    @property
    def batches(self) -> list[tuple[str, ...]]:
        """The phones of each request."""
        included = self.phones.included
        return [included[start : start + self.batch_size] for start in range(0, len(included), self.batch_size)]

    @property
    def points(self) -> int:
        """What the whole campaign costs if every text is accepted."""
        return self.text.segments * len(self.phones.included)


class BatchState(StrEnum):
    """What is known of a batch."""

    PLANNED = "planned"
    SENDING = "sending"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    IN_DOUBT = "in doubt"


@dataclass(slots=True)
class Batch:
    """One request of a campaign and what became of it.

    :param number: its place in the campaign, from 1.
    :param phones: eleven digits each.
    """

    number: int
    phones: tuple[str, ...] = field(repr=False)
    state: BatchState = BatchState.PLANNED
    task_id: str | None = None
    accepted: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a campaign, in counts of phones.

    :param campaign: its name.
    :param task_ids: the platform's batch ids, in the order of acceptance.
    :param accepted: taken by the platform.
    :param refused: refused by the platform, or not counted by it in an accepted batch.
    :param in_doubt: in requests that left and were not answered.
    :param excluded: left out of the plan, by reason.
    :param not_sent: planned, but in no request that left.
    :param segments: texts that one phone is charged for.
    :param points: what the accepted phones cost.
    :param remain_point: points left, as of the last answer that said so.
    """

    campaign: str
    task_ids: tuple[str, ...]
    accepted: int
    refused: int
    in_doubt: int
    excluded: dict[str, int]
    not_sent: int
    segments: int
    points: int
    remain_point: int | None

    def summary(self) -> dict[str, Any]:
        """The report as JSON data, without a phone or a text."""
        return {
            "campaign": self.campaign,
            "taskIds": list(self.task_ids),
            "accepted": self.accepted,
            "refused": self.refused,
            "inDoubt": self.in_doubt,
            "excluded": sum(self.excluded.values()),
            "excludedByReason": self.excluded,
            "notSent": self.not_sent,
            "segments": self.segments,
            "points": self.points,
            "remainPoint": self.remain_point,
        }

    def __str__(self) -> str:
        return (
            f"{self.accepted} accepted, {self.refused} refused, {self.in_doubt} in doubt, "
            f"{self.not_sent} not sent, {sum(self.excluded.values())} excluded"
        )


class CampaignError(Exception):
    """A campaign that ended with phones refused, in doubt or not sent.

    :param report: what became of its phones.
    :param cause: the first thing that went wrong.
    """

    def __init__(self, report: Report, cause: SmsError) -> None:
        ids = f" taskId: {', '.join(report.task_ids[:5])}{' …' if len(report.task_ids) > 5 else ''}."
        super().__init__(f"{cause} Phones: {report}.{ids if report.task_ids else ''}")
        self.report = report
        self.cause = cause


def make_plan(
    account: Account,
    phones: object,
    content: str,
    send_time: datetime | str | None = None,
    batch_size: int | None = None,
    *,
    now: datetime | None = None,
) -> Plan:
    """Check everything that can be checked before the first request.

    :param account: gives the default signature and batch size.
    :param phones: comma text, or any iterable; at most 100,000.
    :param content: the text; the account's signature is added where it has none.
    :param send_time: aware, or naive or text for Beijing time, at least 31 minutes from now; None for at once.
    :param batch_size: phones in one request; None for the account's.
    :param now: the time, aware; None for the clock's.
    :raises InputError: something can not be sent; the message names it and the remedy.

    Interface document: 1.发送接口, 请求参数.
    """
    text = texts.prepare(content, account.signature)
    when = times.read_send_time(send_time)
    times.wire_time(when, now or times.now())
    size = account.batch_size if batch_size is None else batch_size
    check_batch_size(size)
    found = phone_list.read(phones)
    if len(found.included) > MOST_PHONES:
        raise PhonesError(
            f"phones: {len(found.included):,} in one task; a list may hold {MOST_PHONES:,}. "
            "Cut it into parts and map the task over them, such as .partial(…).expand(phones=parts)."
        )
    return Plan(found, text, when, size)


class Campaign:
    """One plan being sent, and how far it came.

    :param plan: what to send.
    :param name: what people call it.
    :param log: where progress goes.
    :param pause: waits the given seconds between two tries to reach the platform.
    :param clock: seconds, for the pace of the progress lines.
    """

    def __init__(
        self,
        plan: Plan,
        name: str,
        *,
        log: Log | None = None,
        pause: Callable[[float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        self.name = name
        self.batches = [Batch(number, phones) for number, phones in enumerate(plan.batches, 1)]
        self._log = log or logging.getLogger(__name__)
        self._pause = pause or time.sleep
        self._clock = clock
        self._remain_point: int | None = None

    @property
    def task_ids(self) -> list[str]:
        """The platform's batch ids so far, in the order of acceptance."""
        return [batch.task_id for batch in self.batches if batch.task_id is not None]

    @property
    def may_have_texted(self) -> bool:
        """Whether any request was accepted or is in doubt, so that sending anew could text a phone twice."""
        untouched = (BatchState.PLANNED, BatchState.REFUSED)
        return any(batch.state not in untouched for batch in self.batches)

    def send(self, client: SmsClient, on_accepted: Callable[[list[str]], None] | None = None) -> Report:
        """Post the batches one after the other.

        A batch that provably did not leave is tried again a few times. One that is in doubt is never repeated;
        the others still go out, unless several in a row fail.

        :param client: the platform.
        :param on_accepted: called with all taskIds so far, after each accepted batch.
        :returns: what became of the phones, if all were accepted or left out.
        :raises CampaignError: phones were refused, are in doubt or were not sent.
        """
        first_problem: SmsError | None = None
        failures = 0
        started = reported = self._clock()
        for batch in self.batches:
            try:
                acceptance = self._post(client, batch)
            except SmsError as problem:
                first_problem = first_problem or problem
                failures += 1
                self._log.error("Batch %d of %d: %s", batch.number, len(self.batches), problem)
                if failures >= FAILURES_IN_A_ROW or not _others_may_go(problem):
                    break
            else:
                failures = 0
                self._settle(batch, acceptance)
                if on_accepted is not None:
                    on_accepted(self.task_ids)
                now = self._clock()
                if now - reported >= PROGRESS_INTERVAL or batch.number == len(self.batches):
                    reported = now
                    self._log_progress(batch.number, now - started)
        report = self.report()
        if first_problem is not None:
            raise CampaignError(report, first_problem)
        return report

    def report(self) -> Report:
        """Count where the phones are now."""
        counted = dict.fromkeys(BatchState, 0)
        for batch in self.batches:
            counted[batch.state] += len(batch.phones)
        accepted = sum(batch.accepted for batch in self.batches)
        return Report(
            campaign=self.name,
            task_ids=tuple(self.task_ids),
            accepted=accepted,
            refused=counted[BatchState.REFUSED] + counted[BatchState.ACCEPTED] - accepted,
            in_doubt=counted[BatchState.IN_DOUBT] + counted[BatchState.SENDING],
            excluded=self.plan.phones.counted(),
            not_sent=counted[BatchState.PLANNED],
            segments=self.plan.text.segments,
            points=accepted * self.plan.text.segments,
            remain_point=self._remain_point,
        )

    def _post(self, client: SmsClient, batch: Batch) -> Acceptance:
        def leaving() -> None:
            batch.state = BatchState.SENDING

        for attempt in range(1, TRIES_TO_REACH + 1):
            try:
                return client.send(batch.phones, self.plan.text.content, self.plan.send_time, leaving=leaving)
            except UnsentError as problem:
                if attempt == TRIES_TO_REACH:
                    raise
                self._log.warning("Batch %d: %s Trying again (%d).", batch.number, problem, attempt)
                self._pause(float(2**attempt))
            except SmsError as problem:
                batch.state = _STATES[problem.outcome]
                raise
        raise AssertionError("unreachable")

    def _settle(self, batch: Batch, acceptance: Acceptance) -> None:
        batch.state = BatchState.ACCEPTED
        batch.task_id = acceptance.task_id
        batch.accepted = len(batch.phones)
        if acceptance.remain_point is not None:
            self._remain_point = acceptance.remain_point
        if acceptance.success_count is not None and acceptance.success_count != len(batch.phones):
            batch.accepted = max(0, min(acceptance.success_count, len(batch.phones)))
            self._log.warning(
                "Batch %d (taskId %s): the platform counts %d of %d phones and does not say which it left out; "
                "they are not sent again.",
                batch.number,
                acceptance.task_id,
                acceptance.success_count,
                len(batch.phones),
            )

    def _log_progress(self, done: int, seconds: float) -> None:
        phones = sum(len(batch.phones) for batch in self.batches[:done])
        total = len(self.plan.phones.included)
        rate = phones / seconds if seconds > 0 else 0.0
        self._log.info(
            "Batch %d of %d, %d of %d phones, %.0f a second, %s left; %s points on the account.",
            done,
            len(self.batches),
            phones,
            total,
            rate,
            f"{(total - phones) / rate:.0f} s" if rate else "unknown time",
            "unknown" if self._remain_point is None else self._remain_point,
        )


_STATES = {
    Outcome.UNSENT: BatchState.PLANNED,
    Outcome.REFUSED: BatchState.REFUSED,
    Outcome.IN_DOUBT: BatchState.IN_DOUBT,
}


def _others_may_go(problem: SmsError) -> bool:
    """Whether the next batch can fare better: not if the key, the account or the text is the reason."""
    return isinstance(problem, InDoubtError | PhoneRefusedError | UnlistedRefusalError)
