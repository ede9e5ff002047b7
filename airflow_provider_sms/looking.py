"""One look at what a sensor waits for, from a worker: what has come is matched first. Joins settings and ledger.

Knows no Airflow but its settings. A trigger looks by `triggers.reading`, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_sms import metrics, settings
from airflow_provider_sms.gateway.opt_outs import OptOutWords
from airflow_provider_sms.ledger import deliveries, hearing, matching, reply_counts, targets
from airflow_provider_sms.opening import open_ledger
from airflow_provider_sms.waiting import Goal, Total, Verdict

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.reply_counts import Answered
    from airflow_provider_sms.ledger.targets import Target
    from airflow_provider_sms.planning import Log

SETTLE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class DeliveryLook:
    """How far the deliveries are.

    :param verdict: not `waiting` once it is over, in one way or the other.
    :param is_late: the deadline is over: what has not come is unknown.
    :param again_in: seconds until something is decided by time alone.
    """

    target: Target
    counts: Total
    verdict: Verdict
    is_late: bool
    again_in: float


@dataclass(frozen=True, slots=True)
class ReplyLook:
    """Which replies have come."""

    target: Target
    replies: tuple[Answered, ...]


@contextmanager
def caught_up(log: Log) -> Iterator[Ledger]:
    """Open the ledger for the block, with what was pushed until now matched to its batches.

    :raises LedgerDeafError: nothing can have been pushed, ever.
    :raises LedgerError: it can not be used.
    :raises SettingsError: an option is not usable.
    """
    ledger = open_ledger(log)
    try:
        hearing.check(ledger)
        words = OptOutWords(settings.opt_out_words())
        matching.settle(ledger, words.are_in, SETTLE_SECONDS, metrics.AirflowStats())
        yield ledger
    finally:
        ledger.close()


def at_deliveries(
    log: Log, *, campaign: str | None, taskids: Sequence[str], goal: Goal, deadline: timedelta, first_push: timedelta
) -> DeliveryLook:
    """Look at how far the deliveries of a campaign or of batches are.

    :param deadline: how long after the last text went out a receipt is waited for.
    :param first_push: how long after it the very first push into this ledger may take.
    :raises LedgerDeafError: no push ever came, and none is to be expected.
    :raises LedgerUsageError: there is no such campaign or batch.
    """
    with caught_up(log) as ledger:
        target = _find(ledger, campaign, taskids)
        counts = _counts(ledger, target)
    until = target.deadline(deadline)
    verdict = goal.judge(counts) if target.is_planned else Verdict.WAITING
    is_late = verdict is Verdict.WAITING and target.now >= until
    if is_late:
        verdict = Verdict.HOPELESS if goal.is_demanding else Verdict.REACHED
    if verdict is Verdict.WAITING:
        until = min(until, target.check_heard(first_push) or until)
    return DeliveryLook(target, counts, verdict, is_late, _seconds(until, target.now))


def at_replies(log: Log, *, campaign: str | None, taskids: Sequence[str], pattern: str | None) -> ReplyLook:
    """Look for replies to a campaign or to batches that match a pattern.

    :raises LedgerDeafError: no push can have come, ever.
    :raises LedgerUsageError: there is no such campaign or batch, or the pattern is none.
    """
    from airflow_provider_sms.ledger.replies import check_pattern

    check_pattern(pattern)
    with caught_up(log) as ledger:
        target = _find(ledger, campaign, taskids)
        wanted = reply_counts.ReplyWanted(target.campaign_id, target.taskids, pattern)
        return ReplyLook(target, tuple(reply_counts.find(ledger, wanted)))


def _find(ledger: Ledger, campaign: str | None, taskids: Sequence[str]) -> Target:
    if campaign is not None:
        return targets.campaign(ledger, campaign, settings.namespace())
    return targets.batches(ledger, taskids)


def _counts(ledger: Ledger, target: Target) -> Total:
    if target.campaign_id is not None:
        return Total.of(deliveries.of_campaigns(ledger, [target.campaign_id]).values())
    return Total.of(deliveries.of_batches(ledger, target.batch_ids).values())


def _seconds(until: datetime, now: datetime) -> float:
    return max(0.0, (until - now).total_seconds())
