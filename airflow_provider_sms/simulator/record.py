"""What was asked of the simulator: counters and the last requests, phones masked, keys and texts not at all.

Knows nothing of rules or HTTP.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_sms.simulator.document import beijing_time

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_REMEMBERED = 5000


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as a bystander may see it."""

    at: float
    method: str
    path: str
    interface: str | None
    status: int | None
    outcome: str
    phones: int = 0
    first_phone: str | None = None
    task_id: str | None = None
    fault: str | None = None
    answered: bool = True

    def as_json(self) -> dict[str, object]:
        return {
            "at": beijing_time(self.at),
            "method": self.method,
            "path": self.path,
            "interface": self.interface,
            "status": self.status,
            "outcome": self.outcome,
            "phones": self.phones,
            "firstPhone": self.first_phone,
            "taskId": self.task_id,
            "fault": self.fault,
            "answered": self.answered,
        }


class Tally:
    """What was seen from one reset to the next: counts, and the last few thousand requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_flight = 0
        self._most_in_flight = 0
        self._counters: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._requests: deque[Seen] = deque(maxlen=_MOST_REMEMBERED)

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Around a request to one of the platform's interfaces."""
        with self._lock:
            self._in_flight += 1
            self._most_in_flight = max(self._most_in_flight, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1

    def connected(self) -> None:
        with self._lock:
            self._counters["connections"] += 1

    def add(self, seen: Seen, phones_accepted: int = 0) -> None:
        with self._lock:
            self._requests.append(seen)
            self._outcomes[seen.outcome] += 1
            self._counters[seen.interface or "other"] += 1
            self._counters["faults"] += seen.fault is not None
            self._counters["batchesAccepted"] += seen.task_id is not None
            self._counters["phonesAccepted"] += phones_accepted

    def as_json(self) -> dict[str, object]:
        with self._lock:
            names = ("send", "balance", "other", "faults", "batchesAccepted", "phonesAccepted", "connections")
            return {
                "counters": {
                    **{name: self._counters[name] for name in names},
                    "inFlight": self._in_flight,
                    "mostInFlight": self._most_in_flight,
                },
                "outcomes": dict(self._outcomes),
                "requests": [each.as_json() for each in self._requests],
            }


class Record:
    """The tally of now. Who asked before a reset and is answered after it belongs to the tally of before."""

    def __init__(self) -> None:
        self.tally = Tally()

    def reset(self) -> None:
        self.tally = Tally()
