"""The guards as plan and send see to them: pure checks on numbers and times, in words for people.

Joins guards and ledger; knows neither wire nor Airflow.
"""

from __future__ import annotations

from datetime import datetime

from airflow_provider_sms.gateway.errors import HoursError, MaxPointsError, MinBalanceError
from airflow_provider_sms.gateway.hours import Hours
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.guards import Guards
from airflow_provider_sms.ledger import frequency


def cap_of(guards: Guards) -> frequency.Cap | None:
    """How many texts a phone may get; None for any number."""
    return None if guards.max_per_phone is None else frequency.Cap(guards.max_per_phone, guards.per)


def check_points(points: int, most: int | None) -> None:
    """See that a plan costs no more than it may.

    :param most: in points; None for any number.
    :raises MaxPointsError: it does.
    """
    if most is not None and points > most:
        raise MaxPointsError(
            f"max_points: the plan costs {points} points, and it may cost {most}. Nothing was sent. Text fewer "
            "phones, shorten the text, or raise max_points."
        )


def check_points_again(points: int, most: int | None) -> None:
    """See that a plan of which something is left costs no more than it may now.

    :param points: of the whole plan.
    :param most: in points; None for any number.
    :raises MaxPointsError: it does.
    """
    if most is not None and points > most:
        raise MaxPointsError(
            f"max_points: the plan costs {points} points, and it may cost {most}. Nothing was sent by this try. To "
            "send what is left, raise max_points."
        )


def check_balance(balance: int, points: int, least: int) -> None:
    """See that enough points are left once everything is sent.

    :param points: what is left to send costs.
    :raises MinBalanceError: they are not; the message says all three numbers.
    """
    if balance - points < least:
        raise MinBalanceError(
            f"min_balance_after: the account has {balance} points and what is left to send costs {points}: "
            f"{balance - points} would be left, and {least} shall be. Nothing was sent now."
        )


def outside(hours: Hours, now: datetime) -> HoursError:
    """Say that it is outside the sending hours.

    :param now: aware.
    """
    return HoursError(
        f"sending_hours: it is {now.astimezone(BEIJING):%H:%M} Beijing time, outside {hours}, and outside_hours "
        "is 'fail'. Send in those hours, or set outside_hours to 'wait' or 'schedule'."
    )
