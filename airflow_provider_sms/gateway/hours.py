"""Hours of the day, Beijing time, in which texts may go out. Pure functions, the clock is handed in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from airflow_provider_sms.gateway.times import BEIJING, SHORTEST_DELAY

_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_MIDNIGHT = re.compile(r"24:00", re.ASCII)
_RANGE = re.compile(r"\s*([0-9:]+)\s*[-\u2013\u2014~\uff5e]\s*([0-9:]+)\s*", re.ASCII)
# Between the claim of a batch, which the time to send at is chosen for, and the look of whoever posts it.
_MARGIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Hours:
    """From one time of the day, which belongs to them, to another, which does not.

    :param begin: Beijing time.
    :param end: Beijing time; earlier than `begin` is on the next day, 00:00 is midnight.
    """

    begin: time
    end: time

    @classmethod
    def read(cls, name: str, value: object) -> Hours:
        """Read hours as people write them.

        :param name: what to call them in an error.
        :param value: `("08:00", "21:00")`, a list of the two, or `08:00-21:00`; 24:00 is midnight.
        :raises ValueError: these are none.
        """
        parts: object = value
        if isinstance(value, str) and (match := _RANGE.fullmatch(value)):
            parts = match.groups()
        if isinstance(parts, list | tuple) and len(parts) == 2:
            begin, end = map(_read_time, parts)
            if begin is not None and end is not None and begin != end and parts[0] != "24:00":
                return cls(begin, end)
        raise ValueError(
            f"{name}: expected two different times of the day, Beijing time, such as 08:00-21:00, got {value!r}."
        )

    def __str__(self) -> str:
        return f"{self.begin:%H:%M}-{'24:00' if self.end == time() else f'{self.end:%H:%M}'}"

    def contain(self, when: datetime) -> bool:
        """Tell whether they are on.

        :param when: aware.
        """
        now = when.astimezone(BEIJING).time()
        if self.begin < self.end:
            return self.begin <= now < self.end
        return now >= self.begin or now < self.end

    def next_open(self, when: datetime) -> datetime:
        """The first moment in them that is no earlier than this one.

        :param when: aware.
        :returns: aware, Beijing time.
        """
        local = when.astimezone(BEIJING)
        if self.contain(local):
            return local
        today = datetime.combine(local.date(), self.begin, BEIJING)
        return today if today >= local else today + timedelta(days=1)

    def next_send_time(self, now: datetime) -> datetime:
        """The first moment in them that the platform takes for a time to send at.

        :param now: aware.
        :returns: aware, Beijing time, in whole minutes.

        Interface document: 1.发送接口, `sendTime`; the sample's comment asks for more than 30 minutes.
        """
        soonest = now.astimezone(BEIJING) + SHORTEST_DELAY + _MARGIN
        whole = soonest.replace(second=0, microsecond=0)
        return self.next_open(whole if whole == soonest else whole + timedelta(minutes=1))


def _read_time(text: object) -> time | None:
    if isinstance(text, time):
        return text.replace(tzinfo=None, microsecond=0) if text.tzinfo is None else None
    if not isinstance(text, str):
        return None
    if _MIDNIGHT.fullmatch(text.strip()):
        return time()
    match = _TIME.fullmatch(text.strip())
    return None if match is None else time(int(match[1]), int(match[2]))
