"""What must hold after a run, whatever was killed in it. Each promise that is broken is told in a sentence."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Row

from airflow_provider_sms.ledger.campaigns import AFTER_PLAN, IN_ANOTHER_INSTANCE
from airflow_provider_sms.ledger.schema import BatchState
from tests.crash.books import Batch, Books, Platform
from tests.crash.tries import SUCCEEDED, TEXT, Ended, HandedIn

_MALFORMED = "malformed"

Sent = dict[str, list[tuple[str, str]]]


def sent(platforms: Sequence[Platform]) -> Sent:
    """Which batches a phone was accepted in: account and taskId."""
    found: Sent = defaultdict(list)
    for platform in platforms:
        for batch in platform.accepted():
            for phone in batch["phones"]:
                found[phone].append((batch["appId"], batch["taskId"]))
    return found


def wrong_texts(platforms: Sequence[Platform], own_text: Callable[[str], str] | None) -> list[str]:
    """Find phones that were sent another text than theirs.

    :param own_text: tells a phone's; None: all have the same.
    """
    wrong = sum(
        batch["content"] != (TEXT if own_text is None else own_text(phone))
        for platform in platforms
        for batch in platform.accepted()
        for phone in batch["phones"]
    )
    return [f"{wrong} phones got the text of another"] if wrong else []


def broken(books: Books, accepted: Sent, handed_in: Mapping[int, HandedIn], last: Mapping[int, Ended]) -> list[str]:
    """Find the promises that are broken.

    :param accepted: what the platforms accepted, see `sent`.
    :param handed_in: by map index.
    :param last: how the last try ended, by map index.
    """
    return [
        *_twice(accepted),
        *_nobody_else(accepted, handed_in),
        *_every_phone_once(books, handed_in),
        *_ledger_and_platform_agree(books, accepted),
        *_nothing_left_over(books, last),
        *_task_ids_are_told(books, last),
        *_no_phone_is_named(handed_in, last),
    ]


def still_to_do(
    books: Books,
    accepted: Sent,
    last: Mapping[int, Ended],
    refused: Collection[str] = frozenset(),
) -> list[str]:
    """Find what is missing although everything in doubt was settled and everything was cleared once more.

    :param refused: phones that the platforms do not take.
    """
    everybody = {row.phone for rows in books.recipients.values() for row in rows if row.reason is None}
    missing = everybody - accepted.keys() - set(refused)
    found = [f"{len(missing)} phones were never texted"] if missing else []
    found += [f"the last clear {ended}" for ended in last.values() if ended.outcome != SUCCEEDED]
    states = {batch.state for batch in books.batches} - {BatchState.ACCEPTED, BatchState.REFUSED}
    found += [f"batches are still {', '.join(sorted(states))}"] if states else []
    if books.phones_in(BatchState.REFUSED) != everybody & set(refused):
        found += [f"{len(books.phones_in(BatchState.REFUSED))} phones are refused, {len(refused)} are to be"]
    found += [f"{books.drafts} half plans are left"] if books.drafts else []
    found += [f"{books.strays} rows belong to no campaign"] if books.strays else []
    return found


def _twice(accepted: Sent) -> Iterator[str]:
    twice = [phone for phone, batches in accepted.items() if len(batches) > 1]
    if twice:
        yield f"{len(twice)} phones were texted more than once"


def _nobody_else(accepted: Sent, handed_in: Mapping[int, HandedIn]) -> Iterator[str]:
    strangers = accepted.keys() - set().union(*(handed.ever for handed in handed_in.values()))
    if strangers:
        yield f"{len(strangers)} phones were texted that nobody handed in"


def _every_phone_once(books: Books, handed_in: Mapping[int, HandedIn]) -> Iterator[str]:
    for map_index, handed in handed_in.items():
        plan = books.plans.get(map_index)
        if plan is None:
            yield f"no plan is stored (map index {map_index})"
            continue
        rows = books.recipients[plan.id]
        planned = [row for row in rows if row.reason != AFTER_PLAN]
        stored = HandedIn(tuple(row.phone for row in planned if row.reason != _MALFORMED))
        if not any(_is_stored(items, planned) for items in (handed.items, handed.before) if items is not None):
            yield f"{len(handed.items)} items were handed in, {len(planned)} others are stored"
        added = Counter(row.phone for row in rows if row.reason == AFTER_PLAN)
        if not handed.phones <= stored.phones | added.keys() or max(added.values(), default=1) > 1:
            yield "phones that were added later are not in the ledger once each"
        if [row.position for row in rows] != list(range(1, len(rows) + 1)):
            yield "positions are missing"
        included = Counter(row.phone for row in planned if row.reason is None)
        elsewhere = {row.phone for row in planned if row.reason == IN_ANOTHER_INSTANCE}
        in_both = included.keys() & elsewhere or [phone for phone, times in included.items() if times > 1]
        if included.keys() | elsewhere != stored.phones or in_both:
            yield "a phone is neither to be sent to nor left out with a reason, or both"
        batches = books.batches_of(map_index)
        if Counter(phone for batch in batches for phone in batch.phones) != included:
            yield "the batches do not hold each phone once"
        for batch in batches:
            if batch.counted != len(batch.phones):
                yield f"batch {batch.number} counts {batch.counted} phones and holds {len(batch.phones)}"
        others = {phone for batch in books.batches if batch.campaign_id != plan.id for phone in batch.phones}
        if elsewhere - others:
            yield "a phone was left out for another instance, and is in none"


def _is_stored(items: Sequence[str], rows: Sequence[Row[Any]]) -> bool:
    phones = Counter(item for item in items if item in HandedIn(tuple(items)).phones)
    return len(rows) == len(items) and Counter(row.phone for row in rows if row.reason != _MALFORMED) == phones


def _ledger_and_platform_agree(books: Books, accepted: Sent) -> Iterator[str]:
    for batch in books.batches:
        if batch.state is BatchState.ACCEPTED:
            if any((batch.account, batch.taskid) not in accepted.get(phone, []) for phone in batch.phones):
                yield f"batch {batch.number} is accepted in the ledger, and not by the platform under that taskId"
            if batch.accepted != len(batch.phones):
                yield f"batch {batch.number} was accepted whole, and counts {batch.accepted}"
    unknown = accepted.keys() - books.phones_in(BatchState.ACCEPTED, BatchState.IN_DOUBT)
    if unknown:
        yield f"{len(unknown)} phones were texted, and the ledger says neither so nor that they are in doubt"


def _nothing_left_over(books: Books, last: Mapping[int, Ended]) -> Iterator[str]:
    for map_index, ended in last.items():
        states = Counter(batch.state for batch in books.batches_of(map_index))
        if states[BatchState.SENDING]:
            yield f"{states[BatchState.SENDING]} batches are being sent by nobody"
        if states[BatchState.PLANNED] and not _says_not_sent(ended):
            yield f"{states[BatchState.PLANNED]} batches are planned, and the end did not say so: {ended}"
        if states[BatchState.IN_DOUBT] and ended.outcome == SUCCEEDED:
            yield "the task succeeded with phones in doubt"


def _says_not_sent(ended: Ended) -> bool:
    return bool(re.search(r"[1-9]\d* not sent", ended.message))


def _task_ids_are_told(books: Books, last: Mapping[int, Ended]) -> Iterator[str]:
    for map_index, ended in last.items():
        told = set(ended.pushed or ())
        known = {batch.taskid for batch in books.batches_of(map_index) if batch.state is BatchState.ACCEPTED}
        if told != known:
            missing, others = len(known - told), len(told - known)
            yield f"of {len(known)} taskIds in the ledger, the last XCom lacks {missing}, and has {others} others"


def _no_phone_is_named(handed_in: Mapping[int, HandedIn], last: Mapping[int, Ended]) -> Iterator[str]:
    for map_index, ended in last.items():
        if any(phone in f"{ended.message} {ended.summary}" for phone in handed_in[map_index].ever):
            yield "a phone is named in what the task says"


def who_was_texted(batch: Batch, platforms: Sequence[Platform]) -> str | None:
    """Ask the platforms for an accepted batch of exactly these phones: its taskId, or None."""
    for platform in platforms:
        for accepted in platform.accepted():
            if platform.app_id == batch.account and tuple(accepted["phones"]) == batch.phones:
                return str(accepted["taskId"])
    return None
