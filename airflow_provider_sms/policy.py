"""What the user wants done where nobody else can decide. Imports nothing of ours: DAG files come by here."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

Choice = TypeVar("Choice", bound=StrEnum)

MOST_IN_FLIGHT = 32
VALID_FOR = timedelta(hours=24)
MAX_WAIT = timedelta(minutes=5)
ONE_OF_THEM = "phones, messages: hand in one of them: phones that all get the same text, or messages."


class OnInDoubt(StrEnum):
    """What to do about batches that left and were not answered."""

    FAIL = "fail"
    WAIT = "wait"
    ASSUME_SENT = "assume_sent"
    RESEND = "resend"


class OnChanged(StrEnum):
    """What to do if a campaign that has begun is handed in with another text, category or time."""

    FAIL = "fail"
    RESUME = "resume"


class OnPhoneRefused(StrEnum):
    """What to do if the platform refuses a batch because of one of its phones."""

    SPLIT = "split"
    FAIL = "fail"


class OnNoPhones(StrEnum):
    """What to do about a task that has nobody to send to."""

    FAIL = "fail"
    SKIP = "skip"


class OnExpired(StrEnum):
    """What to do with texts that are too late."""

    FAIL = "fail"
    SEND_NOW = "send_now"


_CHOICES: dict[str, type[StrEnum]] = {
    "on_in_doubt": OnInDoubt,
    "on_changed": OnChanged,
    "on_phone_refused": OnPhoneRefused,
    "on_expired": OnExpired,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """One campaign's choices; each may be given as text.

    :param on_in_doubt: `fail` (for good, so that no retry repeats them), `wait` for receipts, `assume_sent`, `resend`.
    :param on_changed: `fail`, or `resume` with the stored plan.
    :param on_phone_refused: `split` the batch until the phone stands alone, or `fail`.
    :param on_expired: `fail`, or `send_now`.
    :param valid_for: how long after the plan, or after `send_time`, texts may still go out.
    :param max_in_flight: batches under way at once, 1 to 32.
    :param max_wait: how long one try waits in all for a refusal to pass, or for receipts.
    :raises ValueError: a choice is none of these; the message names it.
    """

    on_in_doubt: OnInDoubt = OnInDoubt.FAIL
    on_changed: OnChanged = OnChanged.FAIL
    on_phone_refused: OnPhoneRefused = OnPhoneRefused.SPLIT
    on_expired: OnExpired = OnExpired.FAIL
    valid_for: timedelta = VALID_FOR
    max_in_flight: int = 1
    max_wait: timedelta = MAX_WAIT

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in _CHOICES:
                object.__setattr__(self, each.name, read_choice(each.name, _CHOICES[each.name], value))
            elif isinstance(each.default, timedelta) and not isinstance(value, timedelta):
                raise ValueError(f"{each.name}: expected a timedelta, got {type(value).__name__}.")
        if self.valid_for <= timedelta():
            raise ValueError("valid_for: must be longer than nothing, such as timedelta(hours=24).")
        if self.max_wait < timedelta():
            raise ValueError("max_wait: must not be negative; timedelta(0) is not to wait at all.")
        if isinstance(self.max_in_flight, bool) or not isinstance(self.max_in_flight, int):
            raise ValueError(f"max_in_flight: expected a whole number, got {type(self.max_in_flight).__name__}.")
        if not 1 <= self.max_in_flight <= MOST_IN_FLIGHT:
            raise ValueError(f"max_in_flight: {self.max_in_flight} is not between 1 and {MOST_IN_FLIGHT}.")


def read_switch(name: str, value: object) -> bool:
    """Read an argument that is on or off: a text such as `False` would be taken for on.

    :param name: the argument's.
    :raises ValueError: it is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected True or False, got {type(value).__name__}; it is no template.")
    return value


def read_choice(name: str, choices: type[Choice], value: object) -> Choice:
    """Read one of an argument's choices.

    :param name: the argument's.
    :raises ValueError: it is none of them; the message names them.
    """
    try:
        return choices(str(value))
    except ValueError:
        raise ValueError(f"{name}: {value!r} is none of {', '.join(repr(each.value) for each in choices)}.") from None
