"""Waiting in place, or outside the process, and how long a try has waited. Does not know what for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_sms.send_course import Course

IN_PLACE = 60.0
LOOK_INTERVAL = 2.0


class Patience:
    """How a try waits.

    :param course: ends a wait when it is stopped.
    :param most: how long one try may wait in all for what passes.
    :param pause: waits the given seconds.
    :param defer: leaves the process for the given seconds, by raising, and is told how long this try has waited by
        then; None to wait in the process.
    :param waited: seconds that this try has waited already.
    """

    def __init__(
        self,
        course: Course,
        most: timedelta,
        pause: Callable[[float], object],
        defer: Callable[[float, float], None] | None,
        waited: float,
    ) -> None:
        self._course = course
        self._most = most.total_seconds()
        self.pause = pause
        self._defer = defer
        self._waited = waited

    def is_enough_for(self, seconds: float) -> bool:
        """Whether the try may wait so long."""
        return self._waited + seconds <= self._most

    def wait(self, seconds: float) -> None:
        """Wait for what passes: it counts."""
        self.sleep(seconds)
        self._waited += seconds

    def sleep(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Wait here for up to a minute; longer only if there is no way to leave the process."""
        self._leave(seconds, self._waited + seconds)
        self._rest(seconds, until)

    def sleep_uncounted(self, seconds: float, until: Callable[[], bool]) -> None:
        """The same where waiting is no failure, however long."""
        self._leave(seconds, self._waited)
        self._rest(seconds, until)

    def _leave(self, seconds: float, waited: float) -> None:
        if seconds > IN_PLACE and self._defer is not None:
            self._defer(seconds, waited)

    def _rest(self, seconds: float, until: Callable[[], bool]) -> None:
        while seconds > 0 and not self._course.is_stopped and not until():
            self.pause(min(seconds, LOOK_INTERVAL))
            seconds -= LOOK_INTERVAL
