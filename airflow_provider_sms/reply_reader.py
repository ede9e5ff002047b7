"""Replies handed to a task, so that none is lost and none is worked on by two. Joins settings and ledger.

At least once: a reply is handled when the block that reads it ends well. What raises, or dies, gives all of it back.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_sms import settings
from airflow_provider_sms.ledger.errors import LedgerError, LedgerUsageError
from airflow_provider_sms.ledger.keys import TaskInstanceKey
from airflow_provider_sms.ledger.replies import Claims, IncomingReply, Interest
from airflow_provider_sms.looking import caught_up

if TYPE_CHECKING:
    from airflow_provider_sms.planning import Log

LEASE = timedelta(minutes=15)
MOST = 1000


class ClaimedReplies(Sequence[IncomingReply]):
    """The replies that this run has, oldest first; nobody else of the same consumer has them."""

    def __init__(self, claims: Claims, replies: Sequence[IncomingReply], lease: timedelta) -> None:
        self._claims = claims
        self._replies = replies
        self._renew_after = lease.total_seconds() / 3
        self._renewed = time.monotonic()

    def __len__(self) -> int:
        return len(self._replies)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._replies[index]

    def __iter__(self) -> Iterator[IncomingReply]:
        for reply in self._replies:
            if time.monotonic() - self._renewed >= self._renew_after:
                self.renew()
            yield reply

    def __repr__(self) -> str:
        return f"{len(self)} replies"

    def renew(self) -> None:
        """Hold them for another lease; a loop over them does it by itself."""
        self._claims.renew()
        self._renewed = time.monotonic()

    def handled(self, reply: IncomingReply) -> None:
        """Mark one as handled at once, whatever becomes of the others.

        :param reply: one of these.
        """
        self._claims.handle([int(reply.id)])


@contextmanager
def claimed(
    log: Log, interest: Interest, sender: TaskInstanceKey | None, most: int, lease: timedelta
) -> Iterator[ClaimedReplies]:
    """Claim replies for the block.

    :param sender: the task instance that reads them; None outside a task.
    :raises LedgerError: the ledger can not be used, or no push can ever have come in.
    """
    if most < 1:
        raise LedgerUsageError(f"most: expected at least 1, got {most!r}.")
    if lease < timedelta(minutes=1):
        raise LedgerUsageError("lease: expected at least a minute.")
    with caught_up(log) as ledger:
        claims = Claims(ledger, interest, None if sender is None else _identity(sender), lease)
        try:
            replies = claims.take(most)
            if old := claims.too_old():
                log.warning(
                    "Consumer %r: replies that it has not handled and that came before the last %s are left out, at "
                    "least %d; give a longer `since` to have them.",
                    interest.consumer,
                    interest.since,
                    old,
                )
            log.info("Consumer %r: replies to act on: %d.", interest.consumer, len(replies))
            yield ClaimedReplies(claims, replies, lease)
        except BaseException as error:
            _give_back(claims, log, error)
            raise
        # Only now: if this fails, they are handed on again.
        if lost := claims.handle():
            log.warning(
                "Consumer %r: replies that took longer than their lease of %s and were handed to another run, too: %d.",
                interest.consumer,
                lease,
                lost,
            )


def interest(consumer: str, campaign: str | None, pattern: str | None, since: timedelta) -> Interest:
    """Which replies, in this installation's namespace.

    :raises LedgerUsageError: an argument is not usable.
    :raises SettingsError: the namespace is not.
    """
    return Interest(consumer, settings.namespace(), campaign, pattern, since)


def _give_back(claims: Claims, log: Log, error: BaseException) -> None:
    try:
        given_back = claims.release()
    except LedgerError as problem:
        log.warning("Replies could not be given back (%s); this task's next try takes them anyway.", problem)
        return
    if given_back:
        log.warning("%s: not handled, and handed on again: %d replies.", type(error).__name__, given_back)


def _identity(sender: TaskInstanceKey) -> str:
    place = "\n".join((sender.dag_id, sender.run_id, sender.task_id, str(sender.map_index)))
    return hashlib.sha256(place.encode()).hexdigest()[:32]
