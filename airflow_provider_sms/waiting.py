"""When a wait for receipts is over: pure decisions on counts. Knows neither SQL nor Airflow: triggers share it."""

from __future__ import annotations

import ast
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from airflow_provider_sms.gateway.errors import InputError
from airflow_provider_sms.gateway.receipts import CAUSES

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.deliveries import Progress


class Counts(Protocol):
    """As much of `ledger.deliveries.Deliveries` as a decision takes."""

    @property
    def accepted(self) -> int: ...
    @property
    def delivered(self) -> int: ...
    @property
    def failed(self) -> Mapping[str, int]: ...
    @property
    def unknown(self) -> int: ...
    @property
    def contradicted(self) -> int: ...
    @property
    def open(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Total:
    """The counts of all that one sensor waits for, in phones.

    :param open: in batches that are still to be sent, or are being sent.
    """

    accepted: int = 0
    delivered: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    unknown: int = 0
    contradicted: int = 0
    open: int = 0

    @classmethod
    def of(cls, parts: Iterable[Counts]) -> Total:
        """Add up."""
        total, failed = Counter[str](), Counter[str]()
        for part in parts:
            total.update({name: getattr(part, name) for name in _PLAIN})
            failed.update(part.failed)
        return cls(failed=dict(failed), **total)

    @classmethod
    def of_progress(cls, parts: Iterable[Progress]) -> Total:
        """Add up what triggers read (`ledger.deliveries.Progress`), which does not tell failures apart."""
        accepted = delivered = failed = still_open = 0
        for part in parts:
            accepted += part.accepted
            delivered += part.delivered
            failed += part.failed
            still_open += part.open
        return cls(accepted, delivered, {"": failed}, open=still_open)


_PLAIN = tuple(each.name for each in fields(Total) if each.name != "failed")


class Verdict(StrEnum):
    """What a look at the counts says."""

    WAITING = "waiting"
    REACHED = "reached"
    HOPELESS = "hopeless"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many phones: a number, or a share of the accepted ones.

    :param written: as the user wrote it, in text.
    """

    written: str
    number: int | None = None
    share: Fraction | None = None

    @classmethod
    def read(cls, name: str, value: object) -> Wanted | None:
        """Read an argument: a whole number of phones, or a share above 0 and up to 1.0.

        :param name: the argument's.
        :param value: a number or its text, also `95%`; None for none.
        :raises InputError: it is neither.
        """
        text = "" if value is None else str(value).strip()
        if text in ("", "None"):
            return None
        wrong = f"{name}: expected a number of phones such as 100, or a share such as 0.95 or 95%, got {value!r}."
        try:
            if text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0:
                return cls(text, number=int(text))
            share = Fraction(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except (ValueError, ZeroDivisionError):
            raise InputError(wrong) from None
        if isinstance(value, bool) or not 0 < share <= 1:
            raise InputError(wrong)
        return cls(text, share=share)

    def phones(self, total: int) -> int:
        """How many phones that are: at least one, since nothing is no share of nothing.

        :param total: of so many.
        """
        if self.number is not None:
            return self.number
        assert self.share is not None  # noqa: S101 - one of the two is there
        return max(1, math.ceil(self.share * total))


@dataclass(frozen=True, slots=True)
class Goal:
    """What is waited for; nothing: until every accepted phone's receipt is final.

    :param delivered: so many delivered.
    :param final: so many with a final receipt, delivered or failed.
    """

    delivered: Wanted | None = None
    final: Wanted | None = None

    def judge(self, counts: Counts) -> Verdict:
        """Decide by the counts alone, without regard to time.

        Phones that may still be accepted count as if they were going to be: what is decided stays decided.
        """
        total = counts.accepted + counts.open
        failed = sum(counts.failed.values())
        final = counts.delivered + failed
        if self.delivered is None and self.final is None:
            is_over = counts.open == 0 and final >= counts.accepted
            return Verdict.REACHED if is_over else Verdict.WAITING
        possible = max(counts.delivered, total - failed)
        if self.delivered is not None and possible < self.delivered.phones(total):
            return Verdict.HOPELESS
        if self.final is not None and max(final, total) < self.final.phones(total):
            return Verdict.HOPELESS
        reached = [
            wanted is None or so_far >= wanted.phones(total)
            for wanted, so_far in ((self.delivered, counts.delivered), (self.final, final))
        ]
        return Verdict.REACHED if all(reached) else Verdict.WAITING

    @property
    def is_demanding(self) -> bool:
        """Whether too few are a failure."""
        return self.delivered is not None or self.final is not None

    def shortfall(self, counts: Counts) -> str:
        """Say that too few have arrived, and why, in counts."""
        total = counts.accepted + counts.open
        final = counts.delivered + sum(counts.failed.values())
        wants = [
            f"{name} wants {wanted.phones(total)} ({wanted.written}), {so_far} are"
            for name, wanted, so_far in (
                ("min_delivered", self.delivered, counts.delivered),
                ("min_final", self.final, final),
            )
            if wanted is not None and so_far < wanted.phones(total)
        ]
        return f"Too few: {'; '.join(wants)}. {described(counts)}."


def described(counts: Counts) -> str:
    """The counts in a line for people."""
    causes = ", ".join(f"{CAUSES.get(cause, cause)}: {phones}" for cause, phones in sorted(counts.failed.items()))
    failed = f"{sum(counts.failed.values())} failed" + (f" ({causes})" if causes else "")
    parts = [f"{counts.accepted} accepted", f"{counts.delivered} delivered", failed, f"{_unknown(counts)} unknown"]
    parts += [f"{counts.open} not accepted yet"] if counts.open else []
    parts += [f"{counts.contradicted} contradicted"] if counts.contradicted else []
    return ", ".join(parts)


def summary(counts: Counts) -> dict[str, object]:
    """The counts as JSON data, in phones.

    :returns: `accepted, delivered, failed, failedByCause, unknown, missing, contradicted`; unknown are all accepted
        phones without a final receipt, missing those of them without any.
    """
    failed = Counter[str]()
    for cause, phones in sorted(counts.failed.items()):
        failed[cause or "other"] += phones
    unknown = _unknown(counts)
    return {
        "accepted": counts.accepted,
        "delivered": counts.delivered,
        "failed": sum(failed.values()),
        "failedByCause": dict(failed),
        "unknown": unknown,
        "missing": max(0, unknown - counts.unknown),
        "contradicted": counts.contradicted,
    }


def _unknown(counts: Counts) -> int:
    # The platform may count fewer phones than it sends receipts for.
    return max(0, counts.accepted - counts.delivered - sum(counts.failed.values()))


def read_batch_ids(value: object) -> tuple[str, ...]:
    """Read what `send.output["taskId"]` may hand on: a text, a number that was one, or a list of these.

    A template makes one text of a list.

    :raises InputError: it is none of them, or empty.
    """
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            raise InputError(f"batch_id: expected the platform's taskId or a list of them, got {value!r}.") from None
    items = [value] if isinstance(value, str | int) else value
    if not isinstance(items, Iterable) or isinstance(items, Mapping | bytes):
        items = []
    ids = [str(each).strip() for each in items if isinstance(each, str | int) and not isinstance(each, bool)]
    ids = [each for each in ids if each not in ("", "None")]
    if not ids:
        raise InputError(
            "batch_id: there is none. A send pushes XCom `taskId` once the platform has accepted; has it accepted any?"
        )
    return tuple(dict.fromkeys(ids))
