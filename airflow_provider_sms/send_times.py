"""When a campaign's texts may go out: its time to send at, until when, and its sending hours. Waits for nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_sms.gateway import times
from airflow_provider_sms.gateway.categories import read_category
from airflow_provider_sms.gateway.errors import SendTimeError
from airflow_provider_sms.guarding import outside
from airflow_provider_sms.guards import Guards, OutsideHours
from airflow_provider_sms.policy import OnExpired, Policy

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.campaigns import Campaign
    from airflow_provider_sms.ledger.outbox import Outbox
    from airflow_provider_sms.planning import Log
    from airflow_provider_sms.send_course import Course, Worker
    from airflow_provider_sms.send_steps import Steps


class TooLateError(Exception):
    """What is still planned may not go out any more."""


class Timetable:
    """One campaign's times, as one try goes by them.

    :param now: gives the time, aware.
    """

    def __init__(
        self,
        campaign: Campaign,
        policy: Policy,
        guards: Guards,
        course: Course,
        steps: Steps,
        log: Log,
        now: Callable[[], datetime],
    ) -> None:
        self._planned_for = campaign.send_time
        self._valid_until = campaign.valid_until
        self._policy = policy
        self._outside_hours = guards.outside_hours
        self._hours = guards.hours(read_category(campaign.category))
        self._course = course
        self._steps = steps
        self._log = log
        self._now = now
        self._scheduled_for: datetime | None = None

    def send_time(self) -> datetime | None:
        """When the next batch shall go out, None for at once.

        :raises TooLateError: it may not.
        """
        now = self._now()
        sends_late = self._policy.on_expired is OnExpired.SEND_NOW
        if self._valid_until is not None and now > self._valid_until and not sends_late:
            raise TooLateError(f"Too late since {self._valid_until:%Y-%m-%d %H:%M} UTC (valid_for).")
        try:
            times.wire_time(self._planned_for, now)
        except SendTimeError as error:
            if not sends_late:
                raise TooLateError(str(error)) from None
            return None
        return self._planned_for

    def is_too_late(self) -> bool:
        """Whether nothing may go out any more."""
        try:
            self.send_time()
        except TooLateError:
            return True
        return False

    def is_closed(self) -> bool:
        """Whether it is outside the sending hours."""
        return self._hours is not None and not self._hours.contain(self._now())

    @property
    def is_scheduled_outside(self) -> bool:
        """Whether the platform is told to wait for the sending hours."""
        return self._outside_hours is OutsideHours.SCHEDULE

    @property
    def waits_outside(self) -> bool:
        """Whether the sending hours are waited for."""
        return self._outside_hours is not OutsideHours.FAIL

    def opens_at(self) -> datetime | None:
        """When the sending hours begin, if nothing can be claimed before that."""
        is_scheduled = self._planned_for is not None or self.is_scheduled_outside
        if self._hours is None or is_scheduled or not self.is_closed():
            return None
        return self._hours.next_open(self._now())

    def close(self, worker: Worker) -> None:
        """The sending hours are over: nothing is claimed until they begin, or nothing more at all."""
        assert self._hours is not None  # noqa: S101 - for the types
        now = self._now()
        if worker.round.close(self._hours.next_open(now)) and not self.waits_outside:
            self._course.end(outside(self._hours, now))

    def schedule(self, outbox: Outbox) -> datetime:
        """Choose a time in the sending hours for a batch that is claimed outside them."""
        assert self._hours is not None  # noqa: S101 - for the types
        send_time = self._hours.next_send_time(self._now())
        if self._scheduled_for is None or self._scheduled_for < send_time:
            self._steps.steadily(lambda: outbox.schedule(send_time))
            self._scheduled_for = send_time
            self._log.info("Outside the sending hours, %s: sent for %s.", self._hours, _beijing(send_time))
        return send_time

    def put_off(self, outbox: Outbox, opens_at: datetime) -> float:
        """Note that nothing goes out until the sending hours begin: that uses up no time to send.

        :returns: seconds until then.
        """
        valid_until = opens_at + self._policy.valid_for
        self._steps.steadily(lambda: outbox.put_off(opens_at, valid_until))
        if self._valid_until is not None and self._valid_until < valid_until:
            self._valid_until = valid_until
        self._log.info("Outside the sending hours, %s: waiting until %s.", self._hours, _beijing(opens_at))
        return (opens_at - self._now()).total_seconds()


def _beijing(time: datetime) -> str:
    return f"{time.astimezone(times.BEIJING):%Y-%m-%d %H:%M} Beijing time"
