"""Posts receipts and replies to the customer's address, from threads of its own: interface 2 of the document.

Knows the schedule and HTTP. Never blocks the one who answers a send; never shows an address, which may hold a
secret.
"""

from __future__ import annotations

import threading
import urllib.parse
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from airflow_provider_sms.simulator.document import beijing_time
from airflow_provider_sms.simulator.schedule import RECEIPT, Push, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from airflow_provider_sms.simulator.platform import Batch
    from airflow_provider_sms.simulator.settings import Settings

_MOST_REMEMBERED = 10_000
_MOST_OF_AN_ANSWER = 1024
_CONNECT_TIMEOUT = 5.0
_HEADERS = {
    "Content-Type": "application/x-www-form-urlencoded;charset=utf-8",
    "User-Agent": "sms-simulator",
}


@dataclass(frozen=True)
class PushAnswer:
    """What the customer's address answered: a status, or the name of what went wrong."""

    status: int | None
    error: str | None = None


class Poster(Protocol):
    """Posts one push; must not raise for anything the other side does."""

    def post(self, address: str, push: Push, settings: Settings) -> PushAnswer: ...


class HttpPoster:
    """Over HTTP, on one connection kept open."""

    def __init__(self) -> None:
        self._session: requests.Session | None = None

    def post(self, address: str, push: Push, settings: Settings) -> PushAnswer:
        import requests

        try:
            with self._opened().post(
                address,
                data=urllib.parse.urlencode(push.fields).encode("ascii"),
                headers=_HEADERS,
                timeout=(_CONNECT_TIMEOUT, settings.push_timeout),
                allow_redirects=False,
                stream=True,
                verify=settings.push_ca or True,
            ) as answer:
                # A short body is read so that the connection can be used again; a long one is not worth it.
                if int(answer.headers.get("Content-Length") or _MOST_OF_AN_ANSWER + 1) <= _MOST_OF_AN_ANSWER:
                    _ = answer.content
                return PushAnswer(answer.status_code)
        # OSError: a push_ca that is not there. ValueError: an address or an answer that libraries choke on.
        # Only the class is kept: the texts of these exceptions repeat the address.
        except (requests.RequestException, OSError, ValueError) as problem:
            return PushAnswer(None, type(problem).__name__)

    def _opened(self) -> requests.Session:
        import requests

        if self._session is None:
            self._session = requests.Session()
            self._session.trust_env = False
        return self._session


class Pushes:
    """The schedule, the threads that work it off, and a bounded record of what was pushed and answered."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        now: Callable[[], float],
        seed: str,
        make_poster: Callable[[], Poster] = HttpPoster,
    ) -> None:
        self._settings = settings
        self._now = now
        self._make_poster = make_poster
        self._changed = threading.Condition()
        self._schedule = Schedule(seed)
        self._stopping = False
        self._threads = 0
        self._era = 0
        self._forget()

    def _forget(self) -> None:
        self._under_way = 0
        self._done = 0
        self._answered_200 = 0
        self._without_address = 0
        self._record: deque[dict[str, object]] = deque(maxlen=_MOST_REMEMBERED)

    def batch_accepted(self, batch: Batch, settings: Settings) -> None:
        with self._changed:
            self._schedule.add_batch(batch, settings)
            self._start_missing_workers(settings)
            self._changed.notify_all()

    def reply(self, phone: str, task_id: str, content: str) -> None:
        """A person answers, now."""
        with self._changed:
            self._schedule.add_reply(phone, task_id, content, self._now())
            self._start_missing_workers(self._settings())
            self._changed.notify_all()

    def settings_changed(self) -> None:
        with self._changed:
            if self._threads:
                self._start_missing_workers(self._settings())
            self._changed.notify_all()

    def reset(self) -> None:
        """Forget what is due and what was pushed."""
        with self._changed:
            self._era += 1
            self._schedule.clear()
            self._forget()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def as_json(self) -> dict[str, object]:
        with self._changed:
            return {
                "pending": self._schedule.pending() + self._under_way,
                "done": self._done,
                "answered200": self._answered_200,
                "withoutAddress": self._without_address + self._schedule.dropped,
                "pushes": list(self._record),
            }

    def _start_missing_workers(self, settings: Settings) -> None:
        while self._threads < settings.push_workers and not self._stopping:
            number = self._threads
            self._threads += 1
            threading.Thread(target=self._work, args=(number,), name=f"push-{number}", daemon=True).start()

    def _work(self, number: int) -> None:
        poster = self._make_poster()
        while True:
            taken = self._wait_for_push(number)
            if taken is None:
                return
            era, push, settings, address = taken
            self._note(era, push, settings, poster.post(address, push, settings))

    def _wait_for_push(self, number: int) -> tuple[int, Push, Settings, str] | None:
        with self._changed:
            while not self._stopping:
                settings = self._settings()
                if number >= settings.push_workers:
                    # One too many. Only the youngest goes, so that numbers stay without gaps.
                    if number == self._threads - 1:
                        self._threads -= 1
                        self._changed.notify_all()
                        return None
                    self._changed.wait()
                    continue
                push = self._schedule.take(self._now(), settings)
                if push is None:
                    self._changed.wait(self._seconds_to_wait())
                    continue
                receipt = push.kind == RECEIPT
                address = settings.address_of_receipts if receipt else settings.address_of_replies
                if address is None:
                    self._without_address += 1
                    continue
                self._under_way += 1
                return self._era, push, settings, address
            return None

    def _seconds_to_wait(self) -> float | None:
        due = self._schedule.next_due()
        return None if due is None else min(max(0.0, due - self._now()), threading.TIMEOUT_MAX)

    def _note(self, era: int, push: Push, settings: Settings, answer: PushAnswer) -> None:
        with self._changed:
            if era != self._era:
                return
            self._under_way -= 1
            self._done += 1
            self._answered_200 += answer.status == 200
            now = self._now()
            self._record.append(
                {
                    "kind": push.kind,
                    **dict(push.fields),
                    "attempt": push.attempt,
                    "answer": answer.status,
                    "error": answer.error,
                    "at": beijing_time(now),
                }
            )
            if answer.status != 200 and push.attempt <= settings.push_repeats:
                again = replace(push, attempt=push.attempt + 1)
                self._schedule.add_repeat(again, now + settings.push_repeat_delay)
                self._changed.notify_all()
