"""A plan while it is being stored, in small transactions that keep nobody waiting. Knows nothing of other plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, update

from airflow_provider_sms.ledger.campaigns import Terms
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.recipients import store_recipients
from airflow_provider_sms.ledger.schema import BatchState, batch_table, campaign_table
from airflow_provider_sms.ledger.texts import OwnText, store_texts

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

DRAFT_LEASE = timedelta(minutes=10)


class Draft:
    """A plan while it is being stored.

    :param owner: the process that stores it.
    :param terms: say how many phones are in one request, and what one costs.
    """

    def __init__(self, ledger: Ledger, owner: str, key: CampaignKey, id: int, terms: Terms) -> None:  # noqa: A002
        self.key = key
        self.id = id
        self.included = 0
        self.points = 0
        self._ledger = ledger
        self._owner = owner
        self._batch_size = terms.batch_size
        self._segments = terms.segments
        self._handed_in = 0
        self._batches = 0
        # Positions of phones that no batch has yet, fewer than a batch, and which text they get.
        self._open: list[int] = []
        self._text: OwnText | None = None

    def add(
        self, phones: Sequence[str], excluded: Mapping[int, str], texts: Sequence[OwnText | None] | None = None
    ) -> None:
        """Store the next items, and the batches that they fill.

        :param phones: one for each item.
        :param excluded: which of them are left out, by place in `phones`, and why.
        :param texts: which text each gets, those with the same text one after the other; None: the campaign's.
        """
        first = self._handed_in + 1
        included = [place for place in range(len(phones)) if place not in excluded]
        runs = _runs(included, first, texts)
        batches: list[dict[str, Any]] = []
        open_, text = self._open, self._text
        points = 0
        for own, places in runs:
            if own != text and open_:
                batches += self._cut(open_, text, len(batches))
                open_ = []
            text = own
            waiting = open_ + places
            whole = len(waiting) - len(waiting) % self._batch_size
            batches += self._cut(waiting[:whole], text, len(batches))
            open_ = waiting[whole:]
            points += len(places) * (self._segments if text is None else text.segments)
        with self._ledger.writing() as connection:
            store_recipients(self._ledger, connection, self.id, first, phones, excluded)
            store_texts(self._ledger, connection, self.id, [own for own, _ in runs if own is not None])
            self._store_batches(connection, batches)
            self.hold(connection)
        # Only now: a step that failed is repeated as it was.
        self._handed_in += len(phones)
        self.included += len(included)
        self.points += points
        self._batches += len(batches)
        self._open, self._text = open_, text

    def finish(self) -> None:
        """Store the last batch, which may be smaller."""
        if not self._open:
            return
        batches = self._cut(self._open, self._text, 0)
        with self._ledger.writing() as connection:
            self._store_batches(connection, batches)
            self.hold(connection)
        self._batches += len(batches)
        self._open = []

    def hold(self, connection: Connection) -> None:
        """Renew the lease, and see that nobody has taken the draft away while this process stood still.

        :raises LedgerUnreachableError: somebody has; whatever this transaction has stored must not stay.
        """
        table = campaign_table
        held = connection.execute(
            update(table)
            .where(table.c.id == self.id, table.c.key_hash.is_(None), table.c.owner == self._owner)
            .values(lease_until=self._ledger.now(connection) + DRAFT_LEASE)
        )
        if not held.rowcount:
            raise LedgerUnreachableError(
                f"Campaign {self.key.name!r}: this try stood still while it was planning, and another one has removed "
                "its half plan. Nothing was sent by this try."
            )

    def _cut(self, places: Sequence[int], text: OwnText | None, before: int) -> list[dict[str, Any]]:
        size = self._batch_size
        cuts = [places[start : start + size] for start in range(0, len(places), size)]
        return [
            {
                "campaign_id": self.id,
                "number": number,
                "first_position": cut[0],
                "last_position": cut[-1],
                "phones": len(cut),
                "state": BatchState.PLANNED,
                "attempt": 0,
                "resends": 0,
                "accepted": 0,
                "text_number": None if text is None else text.number,
                "segments": None if text is None else text.segments,
            }
            for number, cut in enumerate(cuts, self._batches + before + 1)
        ]

    def _store_batches(self, connection: Connection, batches: Sequence[dict[str, Any]]) -> None:
        # A commit that was not heard of may have stored them.
        numbers = [batch["number"] for batch in batches]
        if not numbers:
            return
        table = batch_table
        connection.execute(
            delete(table).where(table.c.campaign_id == self.id, table.c.number.between(numbers[0], numbers[-1]))
        )
        connection.execute(insert(table), list(batches))


def _runs(
    included: Sequence[int], first: int, texts: Sequence[OwnText | None] | None
) -> list[tuple[OwnText | None, list[int]]]:
    """Which positions get the same text, by text in their order.

    :param included: places in `texts`.
    :param first: the position of the first place.
    """
    if texts is None:
        return [(None, [first + place for place in included])]
    runs = groupby(included, key=lambda place: texts[place])
    return [(text, [first + place for place in places]) for text, places in runs]
