"""What keeps a campaign from going out as it is: hours, caps, limits, wording. Imports nothing heavy: DAG files do.

Says what is wanted; `guarding` looks at the numbers, `planning` and `sending` see to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from airflow_provider_sms.gateway.categories import Category
from airflow_provider_sms.gateway.hours import Hours
from airflow_provider_sms.policy import read_choice

DEFAULT = "default"
"""For sending hours and opt-out wording: what suits the category."""

PER = timedelta(days=7)
MARKETING_HOURS = ("08:00", "21:00")
_LONGEST_PER = timedelta(days=366)
_LARGEST = 10**12


class OutsideHours(StrEnum):
    """What to do about a campaign outside its sending hours."""

    WAIT = "wait"
    SCHEDULE = "schedule"
    FAIL = "fail"


class OptOutWording(StrEnum):
    """What to do about a text that does not say how to opt out."""

    ADD = "add"
    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class Guards:
    """One campaign's guards; choices may be given as text.

    :param sending_hours: `("08:00", "21:00")` or `08:00-21:00`, Beijing time; None for any time; `default`: 08:00 to
        21:00 for marketing, any time for others.
    :param outside_hours: `wait` until they begin, `schedule` by the platform's send time, or `fail`.
    :param max_per_phone: texts of this category that a phone may get in any period `per`; None for any number.
    :param per: that period, up to 366 days.
    :param max_points: what the whole plan may cost, in points.
    :param min_balance_after: points that must be left on the account once everything is sent.
    :param opt_out_wording: `add` how to opt out to a text that does not say it, or `require` it; None to leave the
        text alone; `default`: `add` for marketing, None for others.
    :raises ValueError: one of them is not usable; the message names it.
    """

    sending_hours: tuple[str, str] | str | None = DEFAULT
    outside_hours: OutsideHours = OutsideHours.WAIT
    max_per_phone: int | None = None
    per: timedelta = PER
    max_points: int | None = None
    min_balance_after: int | None = None
    opt_out_wording: OptOutWording | str | None = DEFAULT

    def __post_init__(self) -> None:
        object.__setattr__(self, "outside_hours", read_choice("outside_hours", OutsideHours, self.outside_hours))
        if self.opt_out_wording not in (None, DEFAULT):
            choice = read_choice("opt_out_wording", OptOutWording, self.opt_out_wording)
            object.__setattr__(self, "opt_out_wording", choice)
        if self.sending_hours not in (None, DEFAULT):
            Hours.read("sending_hours", self.sending_hours)
        if not isinstance(self.per, timedelta):
            raise ValueError(f"per: expected a timedelta, got {type(self.per).__name__}.")
        if not timedelta() < self.per <= _LONGEST_PER:
            raise ValueError(f"per: must be longer than nothing and no longer than {_LONGEST_PER.days} days.")
        _check_whole("max_per_phone", self.max_per_phone, 1)
        _check_whole("max_points", self.max_points, 0)
        _check_whole("min_balance_after", self.min_balance_after, 0)

    def hours(self, category: Category | None) -> Hours | None:
        """When texts of a category may go out; None for any time."""
        if self.sending_hours == DEFAULT:
            return Hours.read("sending_hours", MARKETING_HOURS) if category is Category.MARKETING else None
        return None if self.sending_hours is None else Hours.read("sending_hours", self.sending_hours)

    def wording(self, category: Category | None) -> OptOutWording | None:
        """What to do about a text of a category that does not say how to opt out; None to leave it alone."""
        if self.opt_out_wording == DEFAULT:
            return OptOutWording.ADD if category is Category.MARKETING else None
        return None if self.opt_out_wording is None else OptOutWording(self.opt_out_wording)

    def told(self, category: Category | None) -> dict[str, object]:
        """Those that are on, as JSON data for the summary and the ledger."""
        hours, days = self.hours(category), self.per / timedelta(days=1)
        told: dict[str, object] = {} if category is None else {"category": category.value}
        if hours is not None:
            told |= {"sendingHours": str(hours), "outsideHours": self.outside_hours.value}
        if self.max_per_phone is not None:
            told |= {"maxPerPhone": self.max_per_phone, "perDays": int(days) if days == int(days) else round(days, 6)}
        if self.max_points is not None:
            told["maxPoints"] = self.max_points
        if self.min_balance_after is not None:
            told["minBalanceAfter"] = self.min_balance_after
        return told


def _check_whole(name: str, value: object, least: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name}: expected a whole number, got {type(value).__name__}.")
    if not least <= value <= _LARGEST:
        raise ValueError(f"{name}: {value} is not between {least} and {_LARGEST:,}.")
