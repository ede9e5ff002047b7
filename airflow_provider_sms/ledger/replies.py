"""Replies taken to act on: claimed row by row, handled or given back. Each consumer sees every reply by itself.

There is no cursor: a row that commits late, under a lower id, is found like any other. Knows no Airflow.
"""

from __future__ import annotations

import random
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import and_, delete, func, or_, select, update

from airflow_provider_sms.ledger.database import Ledger, aware
from airflow_provider_sms.ledger.errors import LedgerUnreachableError, LedgerUsageError
from airflow_provider_sms.ledger.owners import is_provably_dead, new_claimant
from airflow_provider_sms.ledger.parts import in_parts
from airflow_provider_sms.ledger.schema import Matching, campaign_table, reply_claim_table, reply_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

LONGEST_CONSUMER = 140
OWNERLESS_FOR = timedelta(minutes=1)
_AT_ONCE = 500
_OLD_ONES_LOOKED_AT = 10_000
_TRIES = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Interest:
    """Which replies a consumer acts on, and under what name it claims them.

    :param consumer: tells those apart who each want to see every reply.
    :param namespace: `[sms] namespace`: replies to another installation's campaigns are that one's.
    :param campaign: the name or key of the campaign; None for all, and for replies to no campaign.
    :param pattern: a regular expression that the text has to match somewhere; None for any text.
    :param since: how far back.
    :raises LedgerUsageError: the consumer's name can not be kept, or the pattern is none.
    """

    consumer: str
    namespace: str = ""
    campaign: str | None = None
    pattern: str | None = None
    since: timedelta = timedelta(days=7)

    def __post_init__(self) -> None:
        if not self.consumer.strip() or not self.consumer.isprintable() or len(self.consumer) > LONGEST_CONSUMER:
            raise LedgerUsageError(f"consumer: expected 1 to {LONGEST_CONSUMER} characters that can be shown.")
        if self.since <= timedelta(0):
            raise LedgerUsageError("since: expected a time span above zero.")
        check_pattern(self.pattern)

    @property
    def name(self) -> str:
        """The consumer as the ledger keeps it: installations that share a ledger may name theirs alike."""
        return f"{self.namespace}/{self.consumer}" if self.namespace else self.consumer


@dataclass(frozen=True, slots=True)
class IncomingReply:
    """What a person answered. Interface document: 2.回执/回复推送接口.

    :param id: the ledger's; the same when a reply is handed on again, so that it can be acted on once.
    :param phone: whole if the push was, or if its campaign tells; else as it came, with stars.
    :param content: the text as it came.
    :param received_at: when it reached us, aware.
    :param campaign: the name of the campaign that it answers; None if that is not known.
    :param taskid: the platform's batch id.
    :param account: the account id in the address that was pushed to; None: `sms_default`.
    """

    id: str
    phone: str = field(repr=False)
    content: str = field(repr=False)
    received_at: datetime
    campaign: str | None
    taskid: str
    account: str | None


def check_pattern(pattern: str | None) -> None:
    """See that a regular expression is one.

    :raises LedgerUsageError: it is not.
    """
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise LedgerUsageError(f"pattern: not a regular expression: {error}.") from None


def fits(pattern: str | None, content: str | None) -> bool:
    """Whether a text matches, as it came or as a person with another keyboard would have typed it.

    :param pattern: searched for; None fits every text.
    """
    if pattern is None:
        return True
    text = content or ""
    usual = unicodedata.normalize("NFKC", text).strip()
    return re.search(pattern, text) is not None or re.search(pattern, usual) is not None


def open_to(interest: Interest, now: datetime) -> tuple[Any, Any]:
    """Which replies a consumer has not handled: what to select from, and where.

    :param now: UTC without saying so; a clock that is some seconds off does not matter.
    """
    reply, claim, campaign = reply_table, reply_claim_table, campaign_table
    source = reply.outerjoin(claim, and_(claim.c.consumer == interest.name, claim.c.reply_id == reply.c.id)).outerjoin(
        campaign, campaign.c.id == reply.c.campaign_id
    )
    where = and_(
        reply.c.received_at >= now - interest.since,
        _is_looked_at(now),
        _is_ours(interest),
        or_(claim.c.reply_id.is_(None), claim.c.handled_at.is_(None)),
    )
    return source, where


def _is_looked_at(now: datetime) -> Any:
    # A reply can be earlier than its taskId: it is given a moment to find its campaign.
    reply = reply_table
    return and_(
        reply.c.matching.is_not(None),
        or_(reply.c.matching != Matching.UNOWNED.value, reply.c.received_at <= now - OWNERLESS_FOR),
    )


def _is_ours(interest: Interest) -> Any:
    campaign = campaign_table
    if interest.campaign is not None:
        return and_(campaign.c.name == interest.campaign, campaign.c.namespace == interest.namespace)
    return or_(campaign.c.id.is_(None), campaign.c.namespace == interest.namespace)


class Claims:
    """The replies that one run has taken.

    :param identity: of the task instance, without blanks: its next try has the same one, and takes what this one
        has at once. None outside a task.
    :param lease: how long a claim holds; renewed while the work goes on.
    """

    def __init__(self, ledger: Ledger, interest: Interest, identity: str | None, lease: timedelta) -> None:
        self._ledger = ledger
        self._interest = interest
        self._identity = identity or "-"
        self._claimant = new_claimant()
        self._owner = f"{self._identity} {self._claimant}"
        self._lease = lease
        self._held: set[int] = set()

    @property
    def held(self) -> int:
        """How many are taken, and neither handled nor given back."""
        return len(self._held)

    def take(self, most: int) -> list[IncomingReply]:
        """Claim what nobody else works on, oldest first.

        :raises LedgerUnreachableError: what was claimed is given back by its lease, or to the next try at once.
        """
        taken: list[IncomingReply] = []
        after: tuple[datetime, int] | None = None
        was_beaten = False
        while len(taken) < most:
            page, after = _again(lambda at=after: self._page(at))  # type: ignore[misc]
            wanted = [row for row in page if fits(self._interest.pattern, row.content)][: most - len(taken)]
            ours = _again(lambda rows=wanted: self._claim(rows)) if wanted else set()  # type: ignore[misc]
            self._held |= ours
            taken += [_incoming(row) for row in wanted if row.id in ours]
            was_beaten = was_beaten or len(ours) < len(wanted)
            if after is None:
                if not was_beaten:
                    break
                # Others took these at the same moment, and there may be more than those.
                was_beaten = False
        return taken

    def renew(self) -> None:
        """Hold what is held for another lease."""
        self._update(sorted(self._held), lease_until=None)

    def handle(self, ids: Iterable[int] | None = None) -> int:
        """Mark as handled, for good.

        :param ids: of replies; None for all that are held.
        :returns: how many were not held any more: the lease had ended, and another run has taken them.
        """
        ids = sorted(self._held if ids is None else self._held.intersection(ids))
        lost = len(ids) - self._update(ids, handled_at=self._ledger.clock)
        self._held.difference_update(ids)
        return lost

    def release(self) -> int:
        """Give back what is held, for whoever comes next.

        :returns: how many.
        """
        table, ids = reply_claim_table, sorted(self._held)

        def step() -> None:
            with self._ledger.writing() as connection:
                for some in in_parts(ids):
                    connection.execute(delete(table).where(self._are_ours(some)))

        if ids:
            _again(step)
        self._held.clear()
        return len(ids)

    def too_old(self) -> int:
        """Count what nobody has handled and `since` leaves out, among the newest few thousand of these."""
        reply, claim, campaign = reply_table, reply_claim_table, campaign_table
        with self._ledger.reading() as connection:
            border = self._ledger.now(connection) - self._interest.since
            old = select(reply.c.id, reply.c.campaign_id, reply.c.content).where(reply.c.received_at < border)
            old = old.order_by(reply.c.received_at.desc()).limit(_OLD_ONES_LOOKED_AT)
            found = old.subquery("old")
            joined = found.outerjoin(
                claim, and_(claim.c.consumer == self._interest.name, claim.c.reply_id == found.c.id)
            ).outerjoin(campaign, campaign.c.id == found.c.campaign_id)
            query = select(found.c.content) if self._interest.pattern is not None else select(func.count())
            query = query.select_from(joined).where(claim.c.handled_at.is_(None), _is_ours(self._interest))
            rows = connection.execute(query).scalars().all()
        if self._interest.pattern is None:
            return int(rows[0])
        return sum(fits(self._interest.pattern, content) for content in rows)

    def _page(self, after: tuple[datetime, int] | None) -> tuple[Sequence[Any], tuple[datetime, int] | None]:
        """The next of those that may be taken, and where to go on; None at the end."""
        reply, claim, campaign = reply_table, reply_claim_table, campaign_table
        with self._ledger.reading() as connection:
            now = self._ledger.now(connection)
            source, where = open_to(self._interest, now)
            query = select(
                *(reply.c[name] for name in ("id", "mobile", "phone", "content", "received_at", "taskid", "account")),
                campaign.c.name,
                claim.c.owner,
                claim.c.lease_until,
            ).select_from(source)
            if after is not None:
                at, last = after
                where = and_(where, or_(reply.c.received_at > at, and_(reply.c.received_at == at, reply.c.id > last)))
            query = query.where(where).order_by(reply.c.received_at, reply.c.id).limit(_AT_ONCE)
            rows = connection.execute(query).all()
        page = [row for row in rows if row.owner is None or row.lease_until <= now or self._may_take(row.owner)]
        return page, (rows[-1].received_at, rows[-1].id) if len(rows) == _AT_ONCE else None

    def _may_take(self, owner: str) -> bool:
        identity, _, claimant = owner.partition(" ")
        process, ours = claimant.partition("/")[0], self._claimant.partition("/")[0]
        # An earlier try of this task instance is over; another block of this very process is not.
        is_earlier_try = identity == self._identity != "-" and process != ours
        return is_earlier_try or is_provably_dead(claimant)

    def _claim(self, rows: Sequence[Any]) -> set[int]:
        """Take them, each by a step that only one of many can win."""
        table = reply_claim_table
        with self._ledger.writing() as connection:
            until = self._ledger.now(connection) + self._lease
            ours = {"consumer": self._interest.name, "owner": self._owner, "lease_until": until}
            # In one order everywhere, so that two that take the same rows do not lock each other out.
            fresh = sorted(row.id for row in rows if row.owner is None)
            if fresh:
                connection.execute(
                    self._ledger.insert_new(reply_claim_table), [{**ours, "reply_id": each} for each in fresh]
                )
            for row in sorted((row for row in rows if row.owner is not None), key=lambda row: row.id):
                connection.execute(
                    update(table)
                    .where(
                        table.c.consumer == self._interest.name,
                        table.c.reply_id == row.id,
                        table.c.owner == row.owner,
                        table.c.lease_until == row.lease_until,
                        table.c.handled_at.is_(None),
                    )
                    .values(owner=self._owner, lease_until=until)
                )
            query = select(table.c.reply_id).where(self._are_ours([row.id for row in rows]))
            return set(connection.execute(query).scalars())

    def _update(self, ids: Sequence[int], **values: Any) -> int:
        """Change claims that still are ours; how many that are."""

        def step() -> int:
            with self._ledger.writing() as connection:
                return sum(self._set(connection, some, values) for some in in_parts(ids))

        return _again(step) if ids else 0

    def _set(self, connection: Connection, ids: Sequence[int], values: dict[str, Any]) -> int:
        if "lease_until" in values:
            values = {"lease_until": self._ledger.now(connection) + self._lease}
        return connection.execute(update(reply_claim_table).where(self._are_ours(ids)).values(**values)).rowcount

    def _are_ours(self, ids: Sequence[int]) -> Any:
        table = reply_claim_table
        return and_(
            table.c.consumer == self._interest.name,
            table.c.reply_id.in_(ids),
            table.c.owner == self._owner,
            table.c.handled_at.is_(None),
        )


def _incoming(row: Any) -> IncomingReply:
    return IncomingReply(
        str(row.id),
        row.phone or row.mobile,
        row.content or "",
        aware(row.received_at),
        row.name,
        row.taskid,
        row.account,
    )


def _again(step: Callable[[], T]) -> T:
    """Do a step that may be repeated, and repeat it where the ledger is away, full, or two are in each other's way."""
    for number in range(1, _TRIES):
        try:
            return step()
        except LedgerUnreachableError:
            time.sleep(random.uniform(0.5, 1.0) * 0.1 * 3**number)
    return step()
