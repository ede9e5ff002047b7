"""What can be counted while texts are sent and pushes come, and whom to tell: nobody, unless somebody is handed in.

Knows neither Airflow nor SQL nor the wire: gateway's and ledger's users tell an `Observer`, and `metrics` is one.
"""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Whoever is told. What it does costs next to nothing, and it never raises.

    Each is told after the ledger has it for good, never within a transaction.
    """

    def accepted(self, phones: int) -> None:
        """The platform has taken the text to so many phones: it, a receipt or a person says so."""

    def refused(self, phones: int, reason: str) -> None:
        """The platform has said no for good.

        :param reason: the class of the error, see `gateway.errors`.
        """

    def put_in_doubt(self, phones: int) -> None:
        """A request left, and nothing says what became of it."""

    def delivered(self, phones: int) -> None:
        """So many phones have a receipt that says they got their text."""

    def failed(self, phones: int, cause: str) -> None:
        """So many phones have a receipt that says they did not.

        :param cause: see `gateway.receipts.CAUSES`.
        """

    def balance(self, points: int) -> None:
        """So many points are on the account."""

    def answered(self, seconds: float, outcome: str) -> None:
        """A request to send has ended.

        :param seconds: from its begin.
        :param outcome: `accepted`, `refused` or `in_doubt`.
        """

    def stored(self, receipts: int, replies: int) -> None:
        """So many pushes are stored, and answered 200."""

    def turned_away(self, pushes: int, status: int) -> None:
        """So many pushes are not.

        :param status: what they were answered, such as 403.
        """


class NoObserver:
    """Counts nothing."""

    def accepted(self, phones: int) -> None:
        """See `Observer`; so are the others."""

    def refused(self, phones: int, reason: str) -> None: ...
    def put_in_doubt(self, phones: int) -> None: ...
    def delivered(self, phones: int) -> None: ...
    def failed(self, phones: int, cause: str) -> None: ...
    def balance(self, points: int) -> None: ...
    def answered(self, seconds: float, outcome: str) -> None: ...
    def stored(self, receipts: int, replies: int) -> None: ...
    def turned_away(self, pushes: int, status: int) -> None: ...


NO_OBSERVER = NoObserver()
