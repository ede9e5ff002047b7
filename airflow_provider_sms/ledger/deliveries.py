"""How many phones of a campaign or a batch have got their text, read from counts alone. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import func, select, text

from airflow_provider_sms.ledger import lists
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.parts import in_parts
from airflow_provider_sms.ledger.schema import BatchState, Outcome, batch_table

_AT_ONCE = 500
_CAMPAIGN, _BATCH = 1, 2
_OPEN = "open"


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What became of the texts to some phones, in counts of phones.

    :param phones: planned to be sent to.
    :param accepted: taken by the platform.
    :param delivered: it has a receipt that says so.
    :param failed: it has a receipt that says so, by class of cause, see `gateway.receipts.CAUSES`.
    :param unknown: it has a receipt that says neither; another one may follow.
    :param contradicted: of those delivered or failed, it has a later receipt that says otherwise.
    :param open: of a campaign's, in batches that are still to be sent, or are being sent.
    """

    phones: int = 0
    accepted: int = 0
    delivered: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    unknown: int = 0
    contradicted: int = 0
    open: int = 0

    @property
    def failed_total(self) -> int:
        """Phones whose text has failed, whatever the cause."""
        return sum(self.failed.values())

    @property
    def final(self) -> int:
        """Phones that no further receipt is to be expected for."""
        return self.delivered + self.failed_total

    @property
    def missing(self) -> int:
        """Accepted phones that have no receipt at all yet."""
        # A phone that the platform did not count as accepted may get a receipt all the same.
        return max(0, self.accepted - self.final - self.unknown)


def of_campaigns(ledger: Ledger, ids: Iterable[int]) -> dict[int, Deliveries]:
    """Count the phones of campaigns.

    :returns: by id; one that has no batch is not in it.
    """
    return read(ledger, list(ids), ())[0]


def of_batches(ledger: Ledger, batch_ids: Iterable[int]) -> dict[int, Deliveries]:
    """Count the phones of batches.

    :returns: by id; one that is not there is not in it.
    """
    return read(ledger, (), list(batch_ids))[1]


class Progress(NamedTuple):
    """How far some phones are, in counts: as much as a decision takes, for those who ask again and again."""

    phones: int = 0
    accepted: int = 0
    open: int = 0
    delivered: int = 0
    failed: int = 0


def progress(
    ledger: Ledger, campaign_ids: Collection[int], batch_ids: Collection[int]
) -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]]:
    """Count as `read` does, with one row for each campaign or batch, whatever its causes.

    :returns: campaigns by id, batches by id, each as the numbers of a `Progress`; one that has no batch, or is not
        there, is not in it. Plain tuples, since Python's garbage collector goes through all others again and again,
        and an event loop with thousands that wait stands still for as long.
    """
    union, values = _union(ledger.kind, campaign_ids, batch_ids)
    found: dict[int, dict[int, tuple[int, ...]]] = {_CAMPAIGN: {}, _BATCH: {}}
    if not union:
        return found[_CAMPAIGN], found[_BATCH]
    query = text(f"SELECT kind, number, {_SUMS} FROM ({union}) counted GROUP BY kind, number")  # noqa: S608 - our own
    with ledger.reading() as connection:
        for kind, number, *counts in connection.execute(query, values):
            # Sums are decimal numbers on MySQL and PostgreSQL.
            if counts[0]:
                found[kind][number] = tuple(map(int, counts))
    return found[_CAMPAIGN], found[_BATCH]


def read(
    ledger: Ledger, campaign_ids: Collection[int], batch_ids: Collection[int]
) -> tuple[dict[int, Deliveries], dict[int, Deliveries]]:
    """Count the phones of campaigns and of batches, however many, in one query.

    :returns: campaigns by id, batches by id; one that has no batch, or is not there, is not in it.
    """
    union, values = _union(ledger.kind, campaign_ids, batch_ids)
    if not union:
        return {}, {}
    with ledger.reading() as connection:
        rows = connection.execute(text(union), values).all()
    found: dict[int, dict[int, dict[str, Any]]] = {_CAMPAIGN: {}, _BATCH: {}}
    for kind, number, outcome, cause, phones, accepted in rows:
        counts = found[kind].setdefault(number, {"failed": {}})
        # Sums are decimal numbers on MySQL.
        if not outcome:
            counts |= {"phones": int(phones), "accepted": int(accepted)}
        elif outcome != Outcome.FAILED:
            counts[outcome] = int(phones)
        elif phones:
            counts["failed"][cause] = int(phones)
    campaigns, batches = (
        {each: Deliveries(**of[each]) for each in of if "phones" in of[each]} for of in found.values()
    )
    return campaigns, batches


def _union(kind: str, campaign_ids: Collection[int], batch_ids: Collection[int]) -> tuple[str, dict[str, str]]:
    """The counts of all of them, and the query's parameters; empty if there are none."""
    parts: list[str] = []
    values: dict[str, str] = {}
    if campaign_ids:
        them, value = lists.one_of(kind, "campaigns", campaign_ids)
        parts.append(_OF_CAMPAIGNS.format(them=them))
        values |= value
    if batch_ids:
        them, value = lists.one_of(kind, "batches", batch_ids)
        parts.append(_OF_BATCHES.format(them=them))
        values |= value
    return " UNION ALL ".join(parts), values


_SUMS = ", ".join(
    [f"sum(CASE WHEN outcome = '' THEN {column} ELSE 0 END)" for column in ("phones", "accepted")]
    + [
        f"sum(CASE WHEN outcome = '{outcome}' THEN phones ELSE 0 END)"
        for outcome in (_OPEN, Outcome.DELIVERED.value, Outcome.FAILED.value)
    ]
)
# Where a receipt's counts are is known by campaign and batch, so a batch's are found by way of its campaign.
_OF_CAMPAIGNS = f"""
SELECT {_CAMPAIGN} AS kind, campaign_id AS number, '' AS outcome, '' AS cause,
       sum(phones) AS phones, sum(accepted) AS accepted
FROM sms_batch WHERE campaign_id {{them}} GROUP BY campaign_id
UNION ALL
SELECT {_CAMPAIGN}, campaign_id, '{_OPEN}', '', sum(phones), 0
FROM sms_batch WHERE campaign_id {{them}} AND state IN ('planned', 'sending') GROUP BY campaign_id
UNION ALL
SELECT {_CAMPAIGN}, campaign_id, outcome, cause, sum(phones), 0
FROM sms_delivery_count WHERE campaign_id {{them}} GROUP BY campaign_id, outcome, cause
"""  # noqa: S608 - numbers of our own
_OF_BATCHES = f"""
SELECT {_BATCH} AS kind, id AS number, '' AS outcome, '' AS cause, phones, accepted
FROM sms_batch WHERE id {{them}}
UNION ALL
SELECT {_BATCH}, batch.id, counted.outcome, counted.cause, counted.phones, 0
FROM sms_batch batch
JOIN sms_delivery_count counted ON counted.campaign_id = batch.campaign_id AND counted.batch_id = batch.id
WHERE batch.id {{them}}
"""  # noqa: S608 - numbers of our own


def find_batches(ledger: Ledger, taskids: Iterable[str]) -> dict[str, int]:
    """Find the batches that the platform calls by these ids (下发批次ID).

    :returns: a batch's id by taskId; one that no accepted batch has is not in it. Where two batches have one, the
        older one, which its receipts are counted for.
    """
    table = batch_table
    wanted = list(dict.fromkeys(taskids))
    found: dict[str, int] = {}
    with ledger.reading() as connection:
        for some in in_parts(wanted, _AT_ONCE):
            query = select(table.c.taskid, func.min(table.c.id)).where(
                table.c.taskid.in_(some), table.c.state == BatchState.ACCEPTED
            )
            found.update(connection.execute(query.group_by(table.c.taskid)).all())
    return found
