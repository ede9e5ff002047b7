"""Times at the wire: Beijing there, aware everywhere else. Pure functions, the clock is handed in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from airflow_provider_sms.gateway.errors import SendTimeError

BEIJING = ZoneInfo("Asia/Shanghai")
SHORTEST_DELAY = timedelta(minutes=31)
_WIRE = "%Y-%m-%d %H:%M:%S"


def now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


def read_send_time(send_time: datetime | str | None) -> datetime | None:
    """Read a time to send at as people write it.

    :param send_time: aware; or naive, which is taken for Beijing time; or text, `yyyy-MM-dd HH:mm:ss` or
        ISO 8601, with or without an offset; None or empty text for at once.
    :returns: the time, aware, or None for at once.
    :raises SendTimeError: it is no time.

    Interface document: 1.发送接口, `sendTime`. That it is Beijing time is the trade's custom, not the document's.
    """
    if send_time is None:
        return None
    if isinstance(send_time, str):
        if not send_time.strip():
            return None
        send_time = _parsed(send_time.strip())
    if not isinstance(send_time, datetime):
        raise SendTimeError(f"send_time: expected a time or text, got {type(send_time).__name__}.")
    if send_time.tzinfo is None:
        send_time = send_time.replace(tzinfo=BEIJING)
    return send_time.astimezone(BEIJING).replace(microsecond=0)


def wire_time(send_time: datetime | None, now: datetime) -> str:
    """Write a time to send at as the platform reads it, if it is late enough.

    :param send_time: aware, or None for at once.
    :param now: the time, aware.
    :returns: `yyyy-MM-dd HH:mm:ss`, Beijing time, or empty text for at once.
    :raises SendTimeError: it is past, or sooner than 31 minutes from now.

    Interface document: 1.发送接口, `sendTime`; the sample's comment asks for more than 30 minutes.
    """
    if send_time is None:
        return ""
    wire = send_time.astimezone(BEIJING).strftime(_WIRE)
    if send_time <= now:
        raise SendTimeError(f"send_time: {wire} Beijing time is past; leave it empty to send at once.")
    if send_time - now < SHORTEST_DELAY:
        minutes = int(SHORTEST_DELAY.total_seconds() // 60)
        raise SendTimeError(
            f"send_time: {wire} Beijing time is less than {minutes} minutes away, which the platform does not take; "
            "choose a later time, or leave it empty to send at once."
        )
    return wire


def _parsed(text: str) -> datetime:
    import pendulum

    try:
        parsed = pendulum.parse(text, tz=BEIJING, exact=True)
    except (ValueError, OverflowError):
        parsed = None
    if not isinstance(parsed, datetime):
        raise SendTimeError(
            "send_time: not a time; write it like 2030-01-31 14:00:00 (Beijing time) or 2030-01-31T14:00:00+08:00."
        )
    return parsed
