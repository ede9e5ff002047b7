"""Which receipt and which reply is due when: what is drawn by lot, what comes twice, in which order.

Pure: no threads, no HTTP, no clock; the caller says what time it is. Not safe for several threads by itself.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_sms.simulator.document import beijing_time
from airflow_provider_sms.simulator.phones import masked_as_pushed
from airflow_provider_sms.simulator.platform import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_sms.simulator.settings import Settings

# Batches are unfolded into pushes only a few at a time: a million receipts must not lie about in memory.
_MOST_READY = 2000

RECEIPT = "receipt"
REPLY = "reply"


@dataclass(frozen=True, slots=True)
class Push:
    """One receipt or reply as it goes out: the document's fields in the document's order."""

    kind: str
    fields: tuple[tuple[str, str], ...]
    attempt: int = 1


@dataclass(frozen=True)
class _Reply:
    phone: str
    task_id: str
    content: str


_Job = Batch | Push | tuple[_Reply, ...]


@dataclass(order=True)
class _Due:
    at: float
    number: int
    job: _Job = field(compare=False)


class Schedule:
    """Batches, replies and repeats go in; pushes come out when they are due. `dropped`: had no address."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self.clear()

    def clear(self) -> None:
        self._heap: list[_Due] = []
        self._ready: deque[Push] = deque()
        self._number = 0
        self._pending = 0
        self.dropped = 0
        self._order = random.Random(f"{self._seed}/order")

    def add_batch(self, batch: Batch, settings: Settings) -> None:
        """The receipts of `batch`: after the time it goes out, its review and the receipts' delay."""
        self._add(batch.goes_out_at + settings.review_delay + settings.receipt_delay, batch)

    def add_reply(self, phone: str, task_id: str, content: str, due: float) -> None:
        self._add(due, (_Reply(phone, task_id, content),))

    def add_repeat(self, push: Push, due: float) -> None:
        self._add(due, push)

    def take(self, now: float, settings: Settings) -> Push | None:
        """The next push that is due, if any."""
        if not self._ready:
            self._make_ready(now, settings)
        if not self._ready:
            return None
        self._pending -= 1
        return self._ready.popleft()

    def next_due(self) -> float | None:
        """When to ask again; None as long as nothing is waiting."""
        return self._heap[0].at if self._heap else None

    def pending(self) -> int:
        """Pushes still to come, duplicates and replies of batches that are not due yet not counted."""
        return self._pending

    def _add(self, due: float, job: _Job) -> None:
        self._number += 1
        self._pending += _size(job)
        heapq.heappush(self._heap, _Due(due, self._number, job))

    def _make_ready(self, now: float, settings: Settings) -> None:
        made: list[Push] = []
        while self._heap and self._heap[0].at <= now and len(made) < _MOST_READY:
            job = heapq.heappop(self._heap).job
            pushes = self._unfolded(job, now, settings)
            self._pending += len(pushes) - _size(job)
            made.extend(pushes)
        if settings.receipt_order == "shuffled":
            self._order.shuffle(made)
        self._ready.extend(made)

    def _unfolded(self, job: _Job, now: float, settings: Settings) -> Sequence[Push]:
        if isinstance(job, Batch):
            # Not unfolded for nobody: that would cost more than to accept the batch did.
            if settings.address_of_receipts is None and settings.address_of_replies is None:
                self.dropped += _size(job)
                return ()
            return self._receipts(job, now, settings)
        if isinstance(job, Push):
            return (job,)
        return [_reply_push(reply, now, settings) for reply in job]

    def _receipts(self, batch: Batch, now: float, settings: Settings) -> list[Push]:
        # A lot per batch, and four numbers per phone whatever the switches say: with a seed, neither the
        # order of threads nor one switch changes what another one draws.
        lot = random.Random(f"{self._seed}/{batch.ordinal}")
        time = beijing_time(now)
        pushes: list[Push] = []
        replies: list[_Reply] = []
        for phone in batch.phones:
            fails, missing, twice, answers = (lot.random() for _ in range(4))
            failed = fails < settings.fail_share
            if not failed and answers < settings.reply_share:
                replies.append(_Reply(phone, batch.task_id, settings.reply_text))
            if missing < settings.missing_share:
                continue
            push = Push(
                RECEIPT,
                (
                    ("mobile", _mobile(phone, settings)),
                    ("taskid", batch.task_id),
                    ("status", "0" if failed else "1"),
                    ("code", settings.failure_code if failed else settings.success_code),
                    ("receivetime", time),
                ),
            )
            pushes.append(push)
            if twice < settings.duplicate_share:
                pushes.append(push)
        if replies:
            self._add(now + settings.reply_delay, tuple(replies))
        return pushes


def _size(job: _Job) -> int:
    if isinstance(job, Batch):
        return job.joined_phones.count(",") + 1 if job.joined_phones else 0
    return 1 if isinstance(job, Push) else len(job)


def _reply_push(reply: _Reply, now: float, settings: Settings) -> Push:
    return Push(
        REPLY,
        (
            ("mobile", _mobile(reply.phone, settings)),
            ("taskid", reply.task_id),
            ("content", reply.content),
            ("receivetime", beijing_time(now)),
        ),
    )


def _mobile(phone: str, settings: Settings) -> str:
    return masked_as_pushed(phone) if settings.masked_mobiles else phone
