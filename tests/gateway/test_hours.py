"""Hours of the day in which texts may go out, and the words by which a text says how to opt out."""

from __future__ import annotations

from datetime import UTC, datetime, time
from decimal import Decimal

import pytest

from airflow_provider_sms.gateway import prices
from airflow_provider_sms.gateway.hours import Hours
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.gateway.wording import says_how_to_opt_out, with_opt_out

DAY = Hours(time(8), time(21))
NIGHT = Hours(time(22), time(6))


def at(clock: str, day: int = 31) -> datetime:
    """A time in January 2030, Beijing, as seen in London."""
    hour, minute = map(int, clock.split(":"))
    return datetime(2030, 1, day, hour, minute, tzinfo=BEIJING).astimezone(UTC)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (("08:00", "21:00"), DAY),
        (["8:00", "21:00"], DAY),
        ("08:00-21:00", DAY),
        (" 08:00 – 21:00 ", DAY),
        ((time(8), time(21)), DAY),
        (("00:00", "24:00"), None),
        (("09:30", "24:00"), Hours(time(9, 30), time())),
        (("22:00", "06:00"), NIGHT),
        ("all day", None),
        (("08:00",), None),
        (("25:00", "26:00"), None),
        (("24:00", "06:00"), None),
        (("08:00", "08:00"), None),
        (8, None),
    ],
)
def test_hours_as_people_write_them(written: object, read: Hours | None) -> None:
    if read is None:
        with pytest.raises(ValueError, match=r"^sending_hours: expected two different times"):
            Hours.read("sending_hours", written)
    else:
        assert Hours.read("sending_hours", written) == read


@pytest.mark.parametrize(
    ("hours", "now", "opens"),
    [
        (DAY, at("08:00"), at("08:00")),
        (DAY, at("20:59"), at("20:59")),
        (DAY, at("21:00", 30), at("08:00", 31)),
        (DAY, at("03:00"), at("08:00")),
        (NIGHT, at("23:30"), at("23:30")),
        (NIGHT, at("05:59"), at("05:59")),
        (NIGHT, at("06:00"), at("22:00")),
        (Hours(time(9), time()), at("23:59"), at("23:59")),
        (Hours(time(9), time()), at("00:00"), at("09:00")),
    ],
)
def test_they_begin_next(hours: Hours, now: datetime, opens: datetime) -> None:
    assert hours.contain(now) == (opens == now)
    assert hours.next_open(now) == opens
    assert hours.next_open(now).tzinfo is BEIJING


@pytest.mark.parametrize(
    ("now", "send_time"),
    [
        (at("22:00", 30), at("08:00", 31)),
        (at("07:10"), at("08:00")),
        # The platform takes no time that is less than 31 minutes away.
        (at("07:40"), at("08:12")),
        (at("07:40").replace(second=1), at("08:13")),
        (at("20:40", 30), at("08:00", 31)),
    ],
)
def test_the_first_send_time_in_them_that_the_platform_takes(now: datetime, send_time: datetime) -> None:
    assert DAY.next_send_time(now) == send_time


@pytest.mark.parametrize(
    ("content", "says_it"),
    [
        ("【云通信】五折,拒收请回复R", True),
        ("【云通信】五折 回T退订", True),
        ("【云通信】五折,回复 TD 退订", True),
        ("五折。退订回T【云通信】", True),
        ("【云通信】五折,退订请回复:td", True),
        ("【云通信】五折,拒收请回复\uff32", True),
        ("【云通信】五折,回N拒收", True),
        ("【云通信】您好", False),
        ("【云通信】退订的回复已收到", False),
        ("【云通信】拒收请回复Ready", False),
        ("【云通信】R", False),
    ],
)
def test_a_text_that_says_how_to_opt_out(content: str, says_it: bool) -> None:
    assert says_how_to_opt_out(content) is says_it


@pytest.mark.parametrize(
    ("content", "worded"),
    [
        ("【云通信】五折", "【云通信】五折拒收请回复R"),
        ("五折 【云通信】", "五折拒收请回复R【云通信】"),
    ],
)
def test_it_is_added_at_the_end_but_before_a_signature(content: str, worded: str) -> None:
    assert with_opt_out(content) == worded
    assert says_how_to_opt_out(worded)


@pytest.mark.parametrize(
    ("points", "price", "cost"),
    [(250, "0.05", "12.50"), (3, "0.0333", "0.0999"), (1_000_000, "0.045", "45000.00"), (1, "0.00001", "0.00")],
)
def test_what_points_cost(points: int, price: str, cost: str) -> None:
    assert prices.cost(points, prices.read_price(price)) == cost


def test_prices_as_people_write_them() -> None:
    assert prices.shown(prices.read_price(" 0.05 ")) == "0.05"
    assert prices.shown(Decimal("1E+1")) == "10"
    for wrong in ("-1", "cheap", "NaN", "Infinity", "", "1e9"):
        with pytest.raises(ValueError, match="not a price"):
            prices.read_price(wrong)
