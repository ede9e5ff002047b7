"""What triggers ask about replies, for all who wait at once. Reads the ledger, changes nothing.

Texts are read only where a pattern asks for them and something has changed: quiet rounds are one query on indexes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, literal, null, or_, select, text, union_all
from sqlalchemy.types import BigInteger

from airflow_provider_sms.gateway import times
from airflow_provider_sms.ledger import lists
from airflow_provider_sms.ledger.database import Ledger, naive
from airflow_provider_sms.ledger.parts import in_parts
from airflow_provider_sms.ledger.replies import Interest, fits, open_to
from airflow_provider_sms.ledger.schema import reply_claim_table, reply_table

# SQLite joins no more selects into one.
_SELECTS_AT_ONCE = 400


@dataclass(frozen=True, slots=True)
class ReplyWanted:
    """A reply that somebody waits for.

    :param campaign_id: to which campaign; None: to `taskids`.
    :param taskids: to which of the platform's batches.
    :param pattern: see `replies.fits`.
    """

    campaign_id: int | None
    taskids: tuple[str, ...] = ()
    pattern: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A reply that was waited for.

    :param phone: whole, or as it came.
    """

    id: int
    phone: str


def find(ledger: Ledger, wanted: ReplyWanted) -> list[Answered]:
    """Find the replies that fit, oldest first."""
    with ledger.reading() as connection:
        rows = _read(ledger, connection, [wanted])
    return [
        Answered(row.id, row.phone or row.mobile)
        for row in rows
        if _is_to(row, wanted) and fits(wanted.pattern, row.content)
    ]


class ReplyCounter:
    """Counts for each of many who wait how many replies fit; remembers what did not, and does not read it again."""

    def __init__(self) -> None:
        self._misses: dict[ReplyWanted, int] = {}

    def count(self, ledger: Ledger, wanted: Collection[ReplyWanted]) -> dict[ReplyWanted, int]:
        """Count them; above zero is all that matters to whoever waits.

        :returns: for each; of those with a pattern, those that fit it.
        """
        reply = reply_table
        query = select(reply.c.campaign_id, reply.c.taskid, func.count().label("replies")).where(
            _to_any(ledger, wanted)
        )
        with ledger.reading() as connection:
            rows = connection.execute(query.group_by(reply.c.campaign_id, reply.c.taskid)).all()
            by_campaign: Counter[int] = Counter()
            by_taskid: Counter[str] = Counter()
            for row in rows:
                by_campaign[row.campaign_id] += row.replies
                by_taskid[row.taskid] += row.replies
            counts = {
                each: by_campaign[each.campaign_id]
                if each.campaign_id is not None
                else sum(by_taskid[taskid] for taskid in each.taskids)
                for each in wanted
            }
            changed = [
                each
                for each in wanted
                if each.pattern is not None and counts[each] and counts[each] != self._misses.get(each)
            ]
            texts = _read(ledger, connection, changed) if changed else []
        self._misses = {each: counts[each] for each in wanted if each.pattern is not None and counts[each]}
        for each in wanted:
            if each.pattern is not None:
                counts[each] = 0
        for each in changed:
            fitting = sum(_is_to(row, each) and fits(each.pattern, row.content) for row in texts)
            if fitting:
                counts[each] = fitting
                del self._misses[each]
        return counts


@dataclass(frozen=True, slots=True)
class Unhandled:
    """What a consumer has not handled, and nobody works on.

    :param replies: how many.
    :param newest: the highest id of them.
    """

    replies: int = 0
    newest: int = 0


class UnhandledCounter:
    """Counts for each consumer what it has not handled; remembers what does not concern it, and reads it once."""

    def __init__(self) -> None:
        self._misses: dict[Interest, set[int]] = {}

    def count(self, ledger: Ledger, interests: Collection[Interest]) -> dict[Interest, Unhandled]:
        """Count for all of them in one query, and a second one where new texts have to be compared with a pattern."""
        wanted = list(interests)
        now = naive(times.now())
        assert now is not None  # noqa: S101 - for the types
        reply, claim = reply_table, reply_claim_table
        free = or_(claim.c.reply_id.is_(None), claim.c.lease_until <= ledger.clock)
        selects = []
        for number, interest in enumerate(wanted):
            source, where = open_to(interest, now)
            if interest.pattern is None:
                columns = [func.count(reply.c.id).label("replies"), func.max(reply.c.id).label("id")]
            else:
                columns = [literal(1, BigInteger).label("replies"), reply.c.id.label("id")]
            query = select(literal(number, BigInteger).label("number"), *columns)
            selects.append(query.select_from(source).where(where, free))
        ids: dict[Interest, set[int]] = {}
        found: dict[Interest, Unhandled] = {}
        with ledger.reading() as connection:
            for some in in_parts(selects, _SELECTS_AT_ONCE):
                for row in connection.execute(union_all(*some)):
                    interest = wanted[row.number]
                    if interest.pattern is None:
                        found[interest] = Unhandled(row.replies, row.id or 0)
                    else:
                        ids.setdefault(interest, set()).add(row.id)
            misses = {interest: ids[interest] & self._misses.get(interest, set()) for interest in ids}
            unread = set().union(*(ids[interest] - misses[interest] for interest in ids))
            texts = dict(_texts(connection, sorted(unread)))
        for interest in wanted:
            if interest.pattern is None:
                continue
            fitting = {
                each
                for each in ids.get(interest, set()) - misses.get(interest, set())
                if each in texts and fits(interest.pattern, texts[each])
            }
            found[interest] = Unhandled(len(fitting), max(fitting, default=0))
            misses[interest] = ids.get(interest, set()) - fitting
        self._misses = misses
        return found


def _is_to(row: Any, wanted: ReplyWanted) -> bool:
    if wanted.campaign_id is not None:
        return bool(row.campaign_id == wanted.campaign_id)
    return row.taskid in wanted.taskids


def _to_any(ledger: Ledger, wanted: Iterable[ReplyWanted]) -> Any:
    """Matched replies to any of them; a reply from a phone that was not texted is nobody's answer."""
    reply = reply_table
    campaigns = {each.campaign_id for each in wanted if each.campaign_id is not None}
    taskids = {taskid for each in wanted if each.campaign_id is None for taskid in each.taskids}
    either: list[Any] = []
    if campaigns or not taskids:
        them, value = lists.one_of(ledger.kind, "campaigns", campaigns)
        either.append(text(f"sms_reply.campaign_id {them}").bindparams(**value))
    if taskids:
        either.append(and_(reply.c.taskid.in_(sorted(taskids)), reply.c.campaign_id.is_not(None)))
    return or_(*either)


def _read(ledger: Ledger, connection: Any, wanted: Collection[ReplyWanted]) -> Sequence[Any]:
    reply = reply_table
    columns = (reply.c[name] for name in ("id", "campaign_id", "taskid", "mobile", "phone"))
    content = reply.c.content if any(each.pattern is not None for each in wanted) else null().label("content")
    query = select(*columns, content).where(_to_any(ledger, wanted)).order_by(reply.c.id)
    return connection.execute(query).all()


def _texts(connection: Any, ids: Sequence[int]) -> Iterable[tuple[int, str | None]]:
    for some in in_parts(ids):
        query = select(reply_table.c.id, reply_table.c.content).where(reply_table.c.id.in_(some))
        yield from (tuple(row) for row in connection.execute(query))
