"""What receipts make of phones: each phone counts once, and what is final stays. Plain Python; knows no SQL."""

from __future__ import annotations

from typing import NamedTuple

from airflow_provider_sms.ledger.schema import CONTRADICTED, Matching, Outcome

# Compared a million times: as plain texts, without a look-up in the enum.
_MATCHED = Matching.MATCHED.value
_CONTRADICTION = Matching.CONTRADICTION.value
_UNKNOWN = Outcome.UNKNOWN.value

Phone = tuple[int, int]
"""A recipient: campaign id and position."""


class Verdict(NamedTuple):
    """What is known of the text to one phone.

    :param outcome: see `schema.Outcome`.
    :param cause: of a failure, see `gateway.receipts`; empty if there is none.
    :param receipt_id: the receipt that says so.
    :param contradicted_by: a later one that says otherwise.
    """

    batch_id: int
    outcome: str
    cause: str
    receipt_id: int
    contradicted_by: int | None = None


class Tally:
    """Takes receipts in the order in which they came.

    :param known: what is known of the phones that they are about; one that nothing is known of is not in it.
    """

    def __init__(self, known: dict[Phone, Verdict]) -> None:
        self._known = known
        self.changed: dict[Phone, Verdict] = {}
        # By campaign, batch, outcome and cause: how many phones more, or fewer.
        self.counts: dict[tuple[int, int, str, str], int] = {}

    def take(self, receipt_id: int, batch_id: int, phone: Phone, outcome: str, cause: str) -> str:
        """Take one receipt.

        :returns: what it is to be marked with, see `schema.Matching`.
        """
        before = self._known.get(phone)
        if before is None:
            self._put(phone, Verdict(batch_id, outcome, cause, receipt_id))
            self._count(phone[0], batch_id, outcome, cause, 1)
            return _MATCHED
        if before.outcome == outcome or outcome == _UNKNOWN:
            return _MATCHED
        if before.outcome == _UNKNOWN:
            self._put(phone, Verdict(batch_id, outcome, cause, receipt_id))
            self._count(phone[0], before.batch_id, before.outcome, before.cause, -1)
            self._count(phone[0], batch_id, outcome, cause, 1)
            return _MATCHED
        if before.contradicted_by is None:
            self._put(phone, before._replace(contradicted_by=receipt_id))
            self._count(phone[0], before.batch_id, CONTRADICTED, "", 1)
        return _CONTRADICTION

    def _put(self, phone: Phone, verdict: Verdict) -> None:
        self._known[phone] = self.changed[phone] = verdict

    def _count(self, campaign_id: int, batch_id: int, outcome: str, cause: str, phones: int) -> None:
        which = (campaign_id, batch_id, outcome, cause)
        self.counts[which] = self.counts.get(which, 0) + phones
