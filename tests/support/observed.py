"""An observer for tests: it remembers what it was told."""

from __future__ import annotations

from collections import Counter

from airflow_provider_sms.observing import NoObserver


class Observed(NoObserver):
    """Sums of all that was told, by what it was; requests and balances as they came."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.requests: list[str] = []
        self.balances: list[int] = []

    def accepted(self, phones: int) -> None:
        self.sums["accepted"] += phones

    def refused(self, phones: int, reason: str) -> None:
        self.sums[f"refused {reason}"] += phones

    def put_in_doubt(self, phones: int) -> None:
        self.sums["in doubt"] += phones

    def delivered(self, phones: int) -> None:
        self.sums["delivered"] += phones

    def failed(self, phones: int, cause: str) -> None:
        self.sums[f"failed {cause}".strip()] += phones

    def balance(self, points: int) -> None:
        self.balances.append(points)

    def answered(self, seconds: float, outcome: str) -> None:
        assert seconds >= 0
        self.requests.append(outcome)

    def stored(self, receipts: int, replies: int) -> None:
        self.sums["receipts"] += receipts
        self.sums["replies"] += replies

    def turned_away(self, pushes: int, status: int) -> None:
        self.sums[f"turned away {status}"] += pushes
