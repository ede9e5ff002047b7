"""One try of a task, as a worker's process runs it: what it is given, where it is cut, how it ended. Only data."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

TEXT = "【云通信】您好"


def own_text(phone: str) -> str:
    """The text of one phone, where each has its own; some have the same."""
    return f"{TEXT},{phone[-1:]}号客户"


@dataclass(frozen=True)
class HandedIn:
    """What one task instance was given to send to.

    :param items: as of now.
    :param before: as of earlier tries, if that was something else.
    """

    items: tuple[str, ...] = field(repr=False)
    before: tuple[str, ...] | None = field(default=None, repr=False)

    @property
    def phones(self) -> set[str]:
        """Those of the items that are phones."""
        return _phones(self.items)

    @property
    def ever(self) -> set[str]:
        """The same, and those of earlier tries."""
        return self.phones | _phones(self.before or ())


def _phones(items: Iterable[str]) -> set[str]:
    return {item for item in items if re.fullmatch(r"1\d{10}", item)}


@dataclass(frozen=True)
class Cut:
    """Where a process is killed or stopped.

    :param kind: of the step; empty for a moment by the clock.
    :param count: the how many-th step of that kind.
    :param after: seconds from its start, for a moment by the clock.
    """

    kind: str
    count: int = 1
    after: float = 0.0
    by: signal.Signals = signal.SIGKILL

    @property
    def verb(self) -> str:
        return {signal.SIGKILL: "killed", signal.SIGSTOP: "stopped"}.get(self.by, "told to end")

    def __str__(self) -> str:
        return f"{self.verb} {self.kind} ({self.count})" if self.kind else f"{self.verb} after {self.after:.3f} s"


@dataclass(frozen=True)
class FullDisk:
    """From which step on no file can grow.

    :param kind: of the step; at the first of that kind.
    :param pauses: how often the try pauses before there is space again; None: never.
    """

    kind: str
    pauses: int | None

    def __str__(self) -> str:
        return f"disk full {self.kind}, {'for ever' if self.pauses is None else f'for {self.pauses} pauses'}"


@dataclass(frozen=True)
class Try:
    """One try.

    :param environment: what differs from this process's own, such as connections and the ledger's address.
    :param lease: how long a claim holds, in seconds; None for what the code says.
    :param draft_lease: how long a half plan holds, in seconds; None for what the code says.
    :param patience: how long to wait for a lock in SQLite, in seconds; None for what the code says.
    :param sabotage: which promise the code is made to break, see `sabotage`.
    :param has_own_texts: whether each phone gets its own, see `own_text`.
    :param lists_steps: whether it tells every step that it reaches.
    """

    run_id: str
    phones: tuple[str, ...] = field(repr=False)
    number: int = 1
    map_index: int = -1
    batch_size: int = 5
    max_in_flight: int = 1
    sms_conn_id: str = "sms_default"
    timeout: float = 10.0
    lease: float | None = None
    draft_lease: float | None = None
    patience: float | None = None
    cut: Cut | None = None
    full_disk: FullDisk | None = None
    sabotage: str | None = None
    has_own_texts: bool = False
    lists_steps: bool = False
    environment: dict[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        parts = [f"try {self.number}", f"batches of {self.batch_size}", f"{self.max_in_flight} in flight"]
        parts += [f"map index {self.map_index}"] if self.map_index >= 0 else []
        parts += [self.sms_conn_id] if self.sms_conn_id != "sms_default" else []
        parts += [f"lease {self.lease} s"] if self.lease is not None else []
        parts += ["own texts"] if self.has_own_texts else []
        parts += [str(self.full_disk)] if self.full_disk is not None else []
        return ", ".join(parts)


SUCCEEDED, FAILED, RETRY, KILLED = "succeeded", "failed for good", "to be retried", "killed"


@dataclass
class Ended:
    """How a try ended.

    :param outcome: one of the four above.
    :param cut_at: the step where it was killed or stopped, if at one.
    :param pushed: the last XCom `taskId`.
    :param began: when it began and ended, by the machine's monotonic clock.
    :param left: requests that left whole; `leaving`, those of which that may be so.
    :param steps: every step that it reached, if it was to tell them.
    """

    outcome: str = KILLED
    message: str = ""
    cut_at: str = ""
    summary: dict[str, Any] | None = None
    pushed: list[str] | None = None
    left: int = 0
    leaving: int = 0
    steps: list[str] = field(default_factory=list)
    began: float = 0.0
    at: float = 0.0

    @property
    def seconds(self) -> float:
        return self.at - self.began

    def __str__(self) -> str:
        where = f" at {self.cut_at}" if self.cut_at else ""
        first_line = self.message.splitlines()[0] if self.message else ""
        return f"{self.outcome}{where}{': ' if first_line else ''}{first_line} ({self.seconds:.2f} s)"
