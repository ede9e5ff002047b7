"""What pushes mean: which batch and which phone each is about, counted once whatever dies in between.

Pushes are stored first and looked at afterwards, in passes of one transaction; at most one process is in a pass. A
commit that was not heard of may be repeated. Knows no wire and no Airflow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from airflow_provider_sms.gateway.receipts import DELIVERED, FAILED, cause, outcome
from airflow_provider_sms.ledger import matching_sql as sql
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.matching_sql import NewPush
from airflow_provider_sms.ledger.ownership import alone, bring_in, strays
from airflow_provider_sms.ledger.phonebook import NOBODY, Batch, Key, Phonebook
from airflow_provider_sms.ledger.schema import Matching, batch_table, receipt_table, reply_table
from airflow_provider_sms.ledger.tally import Phone, Tally
from airflow_provider_sms.observing import NO_OBSERVER, Observer

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

RECEIPTS, REPLIES = receipt_table.name, reply_table.name
PASS = 2000
_REPLIES_AT_ONCE = 500
# Batches that a pass reads the phones of while it keeps other writers waiting.
_READ_IN_PLACE = 20
# How long a transaction that settles a batch, or one that looks at pushes, may take to commit.
_LATELY = timedelta(minutes=5)
_SWEPT_AT_ONCE = 20_000
_SWEEP_SECONDS = 0.5
_PAUSE = 0.05
OptsOut = Callable[[str], bool]


class Matcher:
    """Looks at pushes that nobody has looked at.

    :param opts_out: whether a reply's content says that its sender wants no marketing any more; None to leave replies
        to those who know.
    :param observer: is told how many phones have got their text, or have not, once for each pass.
    """

    def __init__(self, ledger: Ledger, opts_out: OptsOut | None, observer: Observer = NO_OBSERVER) -> None:
        self._ledger = ledger
        self._observer = observer
        self._opts_out = opts_out
        self._phonebook = Phonebook()
        # The last receipt looked at: before it an index is full of what it has held.
        self._after = 0
        # Up to when batches were looked at that were settled lately, and which batch is the next of those before.
        self._seen: datetime | None = None
        self._swept: int | None = 0

    def look(self, most: int = PASS) -> int:
        """Look at some of the new receipts and replies.

        :param most: receipts, at most.
        :returns: how many it has looked at; 0 if nothing is new, or another process is at it.
        :raises LedgerUnreachableError: nobody knows whether it held; repeat it.
        """
        looked = 0
        with self._ledger.reading() as connection:
            are_receipts, are_replies = self._are_new(connection)
        for is_new, step in ((are_receipts, self._look_at_receipts), (are_replies, self._look_at_replies)):
            if not is_new:
                continue
            done, unread = step(most)
            if unread:
                # Beside all others, not in their way.
                with self._ledger.reading() as connection:
                    sql.use_indexes(self._ledger.kind, connection)
                    self._phonebook.read(self._ledger.kind, connection, unread)
                done += step(most)[0]
            looked += done
        return looked

    def is_anything_new(self) -> bool:
        """Whether there is a push that nobody has looked at."""
        with self._ledger.reading() as connection:
            return any(self._are_new(connection))

    def _are_new(self, connection: Connection) -> tuple[bool, bool]:
        kind = self._ledger.kind
        replies = self._opts_out is not None and sql.is_anything_new(kind, connection, REPLIES, 0)
        return sql.is_anything_new(kind, connection, RECEIPTS, self._after), replies

    def revisit(self) -> int:
        """Let pushes be looked at again that came before their taskId had an owner.

        The first calls go through all batches, in turns of a bounded time; later ones through those settled lately.

        :returns: how many pushes.
        """
        # A batch settled at this very moment may not be seen yet, nor what a pass under way marks; both are soon.
        with self._ledger.reading() as connection:
            now = self._ledger.now(connection)
            lately = batch_table.c.settled_at >= (self._seen or now) - _LATELY
            taskids = strays(connection, lately)
            swept, found = self._sweep(connection)
            taskids |= found
        revisited = 0
        if taskids:
            with alone(self._ledger) as only:
                if only is None:
                    return 0
                revisited = sum(bring_in(only, taskid) for taskid in sorted(taskids))
        # Not before: what could not be brought in is found again.
        self._seen, self._swept = now, swept
        return revisited

    def _sweep(self, connection: Connection) -> tuple[int | None, set[str]]:
        """Go through batches, for a bounded time.

        :returns: which is the next one, None after the last; and taskIds that pushes have come for.
        """
        began, taskids, swept = time.monotonic(), set[str](), self._swept
        if swept is None:
            return None, taskids
        last = connection.execute(select(func.max(batch_table.c.id))).scalar() or 0
        while swept <= last:
            if time.monotonic() - began >= _SWEEP_SECONDS:
                return swept, taskids
            taskids |= strays(connection, batch_table.c.id.between(swept, swept + _SWEPT_AT_ONCE - 1))
            swept += _SWEPT_AT_ONCE
        return None, taskids

    def _look_at_receipts(self, most: int) -> tuple[int, list[Key]]:
        """One pass.

        :returns: how many receipts, and the batches whose phones have to be read before it can look at others.
        """
        with alone(self._ledger) as connection:
            if connection is None:
                return 0, []
            kind = self._ledger.kind
            sql.use_indexes(kind, connection)
            rows = sql.new_pushes(kind, connection, RECEIPTS, self._after, most)
            if not rows and self._after:
                rows = sql.new_pushes(kind, connection, RECEIPTS, 0, most)
            unread = self._read_phones(connection, rows)
            marks, found = self._find(rows, self._purged(connection, rows))
            tally = Tally(sql.verdicts(kind, connection, {phone for *_, phone in found}))
            for row, batch_id, phone in found:
                said = outcome(row[2])
                mark = tally.take(row[0], batch_id, phone, said, cause(row[3]) if said == FAILED else "")
                marks.setdefault(mark, []).append(row[0])
            sql.write_verdicts(kind, connection, tally.changed)
            sql.count(kind, connection, tally.counts)
            sql.mark_receipts(kind, connection, marks)
        self._tell(tally)
        looked = sum(map(len, marks.values()))
        # With fewer than it asked for it has come to the end: next time also for what was committed late.
        self._after = rows[-1][0] if looked >= most and not unread else 0
        return looked, unread

    def _tell(self, tally: Tally) -> None:
        delivered, failed = 0, dict[str, int]()
        for (_, _, said, why), phones in tally.counts.items():
            if said == DELIVERED:
                delivered += phones
            elif said == FAILED:
                failed[why] = failed.get(why, 0) + phones
        if delivered:
            self._observer.delivered(delivered)
        for why, phones in failed.items():
            self._observer.failed(phones, why)

    def _purged(self, connection: Connection, rows: Sequence[Any]) -> set[int]:
        # A batch's phones may be remembered from before.
        campaign_ids = {row[5] for row in rows if row[4] is not None}
        return sql.purged(self._ledger.kind, connection, campaign_ids) if campaign_ids else set()

    def _find(self, rows: Sequence[Any], purged: set[int]) -> tuple[dict[str, list[int]], list[tuple[Any, int, Phone]]]:
        """Find whom receipts are about; what has no phone here is marked at once, what has no batch read is left."""
        marks: dict[str, list[int]] = {}
        found: list[tuple[Any, int, Phone]] = []
        no_phone, unowned = Matching.NO_PHONE.value, Matching.UNOWNED.value
        get = self._phonebook.get
        at, end = 0, len(rows)
        while at < end:
            row = rows[at]
            at += 1
            number, batch_id = row[0], row[4]
            if at < end and rows[at][0] == number:
                # Two batches have its taskId: a person's mistake.
                same = [NewPush._make(row)]
                while at < end and rows[at][0] == number:
                    same.append(NewPush._make(rows[at]))
                    at += 1
                row = self._rightful(same, purged)
                batch_id = row[4]
            if batch_id is None:
                marks.setdefault(unowned, []).append(number)
                continue
            batch = NOBODY if row[5] in purged else get((batch_id, row[6]))
            if batch is None:
                continue
            position = batch.find(row[1])
            if position is None:
                marks.setdefault(no_phone, []).append(number)
            else:
                found.append((row, batch_id, (row[5], position)))
        return marks, found

    def _rightful(self, rows: Sequence[NewPush], purged: set[int]) -> NewPush:
        """Of several batches with one taskId the one that has the phone; of several such, its account's, the oldest."""

        def rank(row: NewPush) -> tuple[bool, bool, int]:
            batch = self._batch(row, purged)
            return batch is None or batch.find(row.mobile) is None, not row.is_account_s, row.batch_id or 0

        owners = [row for row in rows if row.batch_id is not None] or rows
        unread = [row for row in owners if self._batch(row, purged) is None]
        return unread[0] if unread else min(owners, key=rank)

    def _batch(self, row: NewPush, purged: set[int]) -> Batch | None:
        if row.batch_id is None or row.attempt is None:
            return None
        return NOBODY if row.campaign_id in purged else self._phonebook.get((row.batch_id, row.attempt))

    def _read_phones(self, connection: Connection, rows: Sequence[Any]) -> list[Key]:
        """Read the phones of a few batches; of many later.

        :returns: the batches that it has not read.
        """
        get = self._phonebook.get
        keys: dict[Key, None] = dict.fromkeys((row[4], row[6]) for row in rows if row[4] is not None)
        unread = [key for key in keys if get(key) is None]
        if 0 < len(unread) <= _READ_IN_PLACE:
            self._phonebook.read(self._ledger.kind, connection, unread)
            return [key for key in unread if get(key) is None]
        return unread

    def _look_at_replies(self, most: int) -> tuple[int, list[Key]]:
        opts_out = self._opts_out
        assert opts_out is not None, "it has looked for replies"  # noqa: S101
        with alone(self._ledger) as connection:
            if connection is None:
                return 0, []
            sql.use_indexes(self._ledger.kind, connection)
            rows = sql.new_pushes(self._ledger.kind, connection, REPLIES, 0, min(most, _REPLIES_AT_ONCE))
            unread = self._read_phones(connection, rows)
            purged = self._purged(connection, rows)
            values: list[dict[str, Any]] = []
            for number, same in groupby(map(NewPush._make, rows), key=itemgetter(0)):
                row = self._rightful(list(same), purged)
                batch = self._batch(row, purged)
                if batch is None and row.batch_id is not None:
                    continue
                phone = None if batch is None else batch.phone(row.mobile)
                mark = Matching.MATCHED if phone else Matching.UNOWNED if batch is None else Matching.NO_PHONE
                campaign_id = row.campaign_id if phone else None
                values.append({"id": number, "matching": mark.value, "campaign_id": campaign_id, "phone": phone})
                if phone is not None and "*" in row.mobile and opts_out(row.says or ""):
                    # One that shows the whole phone was put on the list when it came.
                    _opt_out(connection, self._ledger, row, phone)
            sql.mark_replies(connection, values)
        return len(values), unread


def _opt_out(connection: Connection, ledger: Ledger, row: NewPush, phone: str) -> None:
    from airflow_provider_sms.ledger import opt_outs

    opt_outs.add(connection, ledger, phone, source="reply", account=row.hint, reply_id=row.id)


def settle(ledger: Ledger, opts_out: OptsOut | None, seconds: float = 30.0, observer: Observer = NO_OBSERVER) -> None:
    """Look at pushes until nothing is new, or the time is over.

    :param opts_out: see `Matcher`; so is `observer`.
    """
    deadline = time.monotonic() + seconds
    matcher = Matcher(ledger, opts_out, observer)
    with ledger.holding():
        matcher.revisit()
        while time.monotonic() < deadline:
            if matcher.look():
                continue
            if not matcher.is_anything_new():
                return
            # Another process is at it.
            time.sleep(_PAUSE)
