"""The platform's rules as a state machine: one account, its balance, its caps, and what it accepted.

Pure: no HTTP, no threads of its own, no clock but the injected one. Safe to call from many threads.
"""

from __future__ import annotations

import datetime
import hashlib
import string
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_sms.simulator import document, texts
from airflow_provider_sms.simulator.document import Answer, refusal
from airflow_provider_sms.simulator.phones import is_mobile

if TYPE_CHECKING:
    from airflow_provider_sms.simulator.settings import Settings

Clock = Callable[[], float]

# "时间请务必大于实际提交时间的30分钟" (the document's send sample)
_LEAD_OF_SEND_TIME = 30 * 60
_SECONDS_BETWEEN_TEXTS = 60
_FIRST_TASK_ID = 3313746
_LETTERS_AND_DIGITS = string.digits + string.ascii_letters
_LENGTH_OF_LETTERS = 32


@dataclass(frozen=True)
class Account:
    """App ID and App Key; the key stays out of every repr."""

    app_id: str
    app_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Batch:
    """One accepted request. Phones are kept joined: a million objects would cost ten times as much."""

    ordinal: int
    task_id: str
    joined_phones: str
    content: str
    send_time: str | None
    points: int
    app_id: str
    at: float
    goes_out_at: float

    @property
    def phones(self) -> list[str]:
        return self.joined_phones.split(",") if self.joined_phones else []


@dataclass(frozen=True)
class Decision:
    """An answer, and the batch if there is one."""

    answer: Answer
    batch: Batch | None = None


class TaskIds:
    """Ids that never repeat, in either style. With a seed they are the same in every run."""

    def __init__(self, seed: str | None, clock: Clock) -> None:
        self._made = 0
        # A second simulator must not repeat the ids of the first: a user's records may know both.
        self._first = _FIRST_TASK_ID if seed is not None else int(clock() * 1000)

    def next(self, style: str) -> str:
        number = self._first + self._made
        self._made += 1
        if style == "digits":
            return str(number)
        rest = int.from_bytes(hashlib.sha256(f"taskId {number}".encode()).digest())
        letters = []
        for _ in range(_LENGTH_OF_LETTERS):
            rest, index = divmod(rest, len(_LETTERS_AND_DIGITS))
            letters.append(_LETTERS_AND_DIGITS[index])
        return "".join(letters)


class _Refused(Exception):
    """Carries the document's message out of a check."""


class Platform:
    """The two questions the document allows, `send` and `balance`, and a record of what was accepted."""

    def __init__(self, account: Account, settings: Settings, clock: Clock, task_ids: TaskIds) -> None:
        self._account = account
        self._clock = clock
        self._task_ids = task_ids
        self._lock = threading.Lock()
        self._start(settings)

    def _start(self, settings: Settings) -> None:
        self._settings = settings
        self._balance = settings.balance
        self._accepted: list[Batch] = []
        self._unanswered: set[str] = set()
        # Phones as integers: half the memory of strings, and there may be a million.
        self._last_text: dict[int, float] = {}
        self._recent: deque[Batch] = deque()
        self._day = self._today()
        self._texts_today = 0
        self._texts_per_phone: dict[int, int] = {}

    # What may be asked

    def send(self, parameters: Mapping[str, str], leave_out: int = 0) -> Decision:
        """Interface 1. The last `leave_out` phones are silently not accepted."""
        with self._lock:
            try:
                return self._send(parameters, leave_out)
            except _Refused as refused:
                return Decision(refusal(str(refused)))

    def balance(self, parameters: Mapping[str, str]) -> Decision:
        """Interface 3."""
        with self._lock:
            try:
                self._check_present(parameters, ("appId", "appKey"))
                self._check_account(parameters)
            except _Refused as refused:
                return Decision(refusal(str(refused)))
            return Decision(Answer(document.ACCEPTED_STATUS, document.SUCCESS, remain_point=str(self._balance)))

    def now(self) -> float:
        """The platform's time, in seconds since 1970."""
        return self._clock() + self._settings.clock_ahead

    def switches(self) -> Settings:
        """The switches as they stand; `balance` is what it was last set to."""
        return self._settings

    def settings(self) -> Settings:
        """The switches as they stand, with what is left of the balance."""
        with self._lock:
            return replace(self._settings, balance=self._balance)

    def accepted(self) -> list[Batch]:
        with self._lock:
            return list(self._accepted)

    def was_answered(self, task_id: str) -> bool:
        """Whether the answer that carried `task_id` went out whole."""
        with self._lock:
            return task_id not in self._unanswered

    def last_batch_of(self, phone: str) -> Batch | None:
        """The newest batch that holds `phone`."""
        for batch in reversed(self.accepted()):
            if phone in batch.joined_phones:
                return batch
        return None

    # What may be changed

    def change(self, changes: Mapping[str, object]) -> Settings:
        """Change switches; raises BadValue and changes nothing if one can not be taken."""
        with self._lock:
            before = self._settings
            after = before.changed(changes)
            self._settings = after
            if "balance" in changes:
                self._balance = after.balance
            if after.one_per_minute and not before.one_per_minute:
                self._recall_last_minute()
            if after.phone_daily_cap is not None and before.phone_daily_cap is None:
                self._recall_today()
        return self.settings()

    def answer_went_out(self, task_id: str) -> None:
        with self._lock:
            self._unanswered.discard(task_id)

    def answer_was_lost(self, task_id: str) -> None:
        with self._lock:
            self._unanswered.add(task_id)

    def reset(self, settings: Settings) -> None:
        """Forget everything but the taskIds given out: those stay unique."""
        with self._lock:
            self._start(settings)

    # The rules

    def _send(self, parameters: Mapping[str, str], leave_out: int) -> Decision:
        self._check_present(parameters, ("appId", "appKey", "phone", "content"))
        self._check_account(parameters)
        content = parameters["content"]
        self._check_text(content)
        now = self.now()
        send_time = parameters.get("sendTime") or None
        goes_out_at = now if send_time is None else self._check_send_time(send_time, now)
        phones = self._check_phones(parameters["phone"].split(","), now)
        if leave_out:
            phones = phones[: max(0, len(phones) - leave_out)]
        self._check_account_cap(len(phones))
        points = texts.points(content) * len(phones)
        if points > self._balance:
            raise _Refused(document.NO_BALANCE)
        batch = Batch(
            ordinal=len(self._accepted),
            task_id=self._task_ids.next(self._settings.task_id_style),
            joined_phones=",".join(phones),
            content=content,
            send_time=send_time,
            points=points,
            app_id=parameters["appId"],
            at=now,
            goes_out_at=goes_out_at,
        )
        self._accept(batch, phones)
        answer = Answer(
            document.ACCEPTED_STATUS,
            document.SUCCESS,
            remain_point=str(self._balance),
            task_id=batch.task_id,
            success_counts=str(len(phones)),
        )
        return Decision(answer, batch)

    @staticmethod
    def _check_present(parameters: Mapping[str, str], names: tuple[str, ...]) -> None:
        if not all(parameters.get(name) for name in names):
            raise _Refused(document.MISSING_PARAMETER)

    def _check_account(self, parameters: Mapping[str, str]) -> None:
        if (parameters["appId"], parameters["appKey"]) != (self._account.app_id, self._account.app_key):
            raise _Refused(document.WRONG_CREDENTIALS)
        if self._settings.ip_barred:
            raise _Refused(document.IP_BARRED)
        if self._settings.locked:
            raise _Refused(document.LOCKED)

    @staticmethod
    def _check_text(content: str) -> None:
        if texts.has_emoji(content):
            raise _Refused(document.BAD_PARAMETER)
        if not texts.has_one_signature(content):
            raise _Refused(document.BAD_TEMPLATE)

    @staticmethod
    def _check_send_time(send_time: str, now: float) -> float:
        moment = document.read_beijing_time(send_time)
        if moment is None or moment <= now + _LEAD_OF_SEND_TIME:
            raise _Refused(document.BAD_PARAMETER)
        return moment

    def _check_phones(self, phones: list[str], now: float) -> list[str]:
        """The phones that nothing speaks against; refuses as the switch says if that is not all of them."""
        self._forget_old(now)
        objections: list[str] = []
        fine: list[str] = []
        in_this_request: dict[int, int] = {}
        for phone in phones:
            objection = self._objection(phone, now, in_this_request)
            if objection is None:
                fine.append(phone)
            else:
                objections.append(objection)
        if objections and (self._settings.on_phone_refused == "refuse_batch" or not fine):
            raise _Refused(objections[0])
        return fine

    def _objection(self, phone: str, now: float, in_this_request: dict[int, int]) -> str | None:
        if not is_mobile(phone):
            return document.BAD_PHONE
        number = int(phone)
        earlier = in_this_request.get(number, 0)
        cap = self._settings.phone_daily_cap
        if cap is not None and self._texts_per_phone.get(number, 0) + earlier >= cap:
            return document.PHONE_CAPPED
        if self._settings.one_per_minute:
            last = self._last_text.get(number)
            if earlier or (last is not None and 0 <= now - last < _SECONDS_BETWEEN_TEXTS):
                return document.TOO_SOON
        in_this_request[number] = earlier + 1
        return None

    def _check_account_cap(self, count: int) -> None:
        cap = self._settings.account_daily_cap
        if cap is not None and self._texts_today + count > cap:
            raise _Refused(document.ACCOUNT_CAPPED)

    # What has to be remembered for the rules

    def _accept(self, batch: Batch, phones: list[str]) -> None:
        self._balance -= batch.points
        self._accepted.append(batch)
        self._unanswered.add(batch.task_id)
        self._texts_today += len(phones)
        if self._settings.one_per_minute:
            self._recent.append(batch)
            self._last_text.update(dict.fromkeys(map(int, phones), batch.at))
        if self._settings.phone_daily_cap is not None:
            self._count_per_phone(phones)

    def _count_per_phone(self, phones: list[str]) -> None:
        for number in map(int, phones):
            self._texts_per_phone[number] = self._texts_per_phone.get(number, 0) + 1

    def _forget_old(self, now: float) -> None:
        while self._recent and now - self._recent[0].at >= _SECONDS_BETWEEN_TEXTS:
            old = self._recent.popleft()
            for number in map(int, old.phones):
                if self._last_text.get(number) == old.at:
                    del self._last_text[number]
        today = self._today()
        if today != self._day:
            self._day = today
            self._texts_today = 0
            self._texts_per_phone = {}

    def _today(self) -> datetime.date:
        return self._day_of(self.now())

    @staticmethod
    def _day_of(moment: float) -> datetime.date:
        return datetime.datetime.fromtimestamp(moment, document.BEIJING).date()

    def _recall_last_minute(self) -> None:
        """The rule was off and nothing was remembered for it: recall it from what was accepted."""
        oldest = self.now() - _SECONDS_BETWEEN_TEXTS
        self._recent = deque(batch for batch in self._accepted if batch.at > oldest)
        self._last_text = {}
        for batch in self._recent:
            self._last_text.update(dict.fromkeys(map(int, batch.phones), batch.at))

    def _recall_today(self) -> None:
        self._forget_old(self.now())
        self._texts_per_phone = {}
        for batch in self._accepted:
            if self._day_of(batch.at) == self._day:
                self._count_per_phone(batch.phones)
