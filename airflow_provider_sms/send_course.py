"""The course of a send, as its threads share it: whether it goes on, and what has come in its way.

Claims, posts and settles nothing; knows of the ledger only what a thread holds in its hands.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.errors import SmsError
    from airflow_provider_sms.ledger.outbox import Outbox
    from airflow_provider_sms.planning import Log

TRIES_TO_REACH = 4
FAILURES_IN_A_ROW = 3


class Course:
    """Whether more is sent, and what has gone wrong so far.

    :ivar problem: the first thing that went wrong.
    :ivar unsettled: the commands that write down what could not be written down.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        # Not an Event: a signal handler that sets one may wait for the lock that it has interrupted.
        self.is_stopped = False
        self.problem: Exception | None = None
        self.unsettled: list[str] = []
        self._failures = 0

    def stop(self) -> None:
        """Claim nothing more; what is under way ends. May be called from a signal handler."""
        self.is_stopped = True

    def succeed(self) -> None:
        """Note that a batch was accepted."""
        self._failures = 0

    def fail(self, number: int, problem: SmsError) -> None:
        """Note that a batch failed; the others still go out, unless several in a row fail."""
        self._log.error("Batch %d: %s", number, problem)
        self.problem = self.problem or problem
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            self._log.error("Failed in a row: %d batches. Nothing more is sent.", self._failures)
            self.stop()

    def end(self, error: Exception) -> None:
        """Note what no other batch can fare better with: nothing more is sent."""
        self._log.error("Nothing more is sent: %s", error)
        self.problem = self.problem or error
        self.stop()


@dataclass(frozen=True, slots=True)
class Wait:
    """Something that passes: no batch is claimed until then."""

    seconds: float
    problem: SmsError


@dataclass(slots=True)
class Round:
    """What the threads of one round share.

    :param over: nobody claims anything more in it.
    :param ended: one of them has ended.
    :param wait: the longest wait that any of them has met.
    :param opens_at: when the sending hours begin, if they are over.
    """

    over: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    wait: Wait | None = None
    opens_at: datetime | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put_off(self, seconds: float, problem: SmsError) -> None:
        """End it, to go on in so many seconds."""
        with self._lock:
            if self.wait is None or self.wait.seconds < seconds:
                self.wait = Wait(seconds, problem)
        self.over.set()

    def close(self, opens_at: datetime) -> bool:
        """End it until the sending hours begin.

        :returns: whether this is the first to say so.
        """
        with self._lock:
            is_first = self.opens_at is None
            self.opens_at = opens_at
        self.over.set()
        return is_first


@dataclass(slots=True)
class Worker:
    """What one thread has to itself.

    :param unreached: requests in a row that did not get out.
    :param is_at_work: whether it may claim, or has something to settle.
    """

    round: Round
    outbox: Outbox
    unreached: int = 0
    is_at_work: bool = False

    def is_out_of_reach(self) -> bool:
        """Note that a request did not get out.

        :returns: whether that is enough of them.
        """
        self.unreached += 1
        return self.unreached >= TRIES_TO_REACH
