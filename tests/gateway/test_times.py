"""The time to send at: Beijing at the wire, 31 minutes ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pendulum
import pytest

from airflow_provider_sms.gateway import times
from airflow_provider_sms.gateway.errors import SendTimeError

NOW = datetime(2030, 1, 31, 4, 0, 0, tzinfo=UTC)  # noon in Beijing


@pytest.mark.parametrize(
    "written",
    [
        "2030-01-31 14:00:00",
        "2030-01-31T14:00:00",
        "2030-01-31T14:00:00+08:00",
        "2030-01-31T06:00:00Z",
        "2030-01-31 06:00:00.999999+00:00",
        datetime(2030, 1, 31, 14, 0, 0),  # noqa: DTZ001 - naive, on purpose
        datetime(2030, 1, 31, 6, 0, 0, tzinfo=UTC),
        datetime(2030, 1, 31, 1, 0, 0, 5, tzinfo=timezone(timedelta(hours=-5))),
        pendulum.datetime(2030, 1, 31, 6),
    ],
)
def test_aware_naive_and_text_mean_one_time(written: datetime | str) -> None:
    assert times.wire_time(times.read_send_time(written), NOW) == "2030-01-31 14:00:00"


@pytest.mark.parametrize("written", [None, "", "  "])
def test_nothing_means_at_once(written: str | None) -> None:
    assert times.wire_time(times.read_send_time(written), NOW) == ""


@pytest.mark.parametrize(
    "written", ["soon", "None", "2030-01-31", "14:00", "2030-13-31 14:00:00", "P1D", "2030-W05", 7]
)
def test_what_is_no_time(written: object) -> None:
    with pytest.raises(SendTimeError, match="send_time: "):
        times.read_send_time(written)  # type: ignore[arg-type]


def test_thirty_one_minutes_are_enough() -> None:
    assert times.wire_time(NOW + timedelta(minutes=31), NOW) == "2030-01-31 12:31:00"


@pytest.mark.parametrize(
    ("ahead", "said"),
    [(-1, "is past"), (0, "is past"), (1, "less than 31 minutes"), (1859, "less than 31 minutes")],
)
def test_what_is_too_soon(ahead: int, said: str) -> None:
    with pytest.raises(SendTimeError, match=f"send_time: .*{said}"):
        times.wire_time(NOW + timedelta(seconds=ahead), NOW)
