"""Sends an alarm: once and so often a phone, by the ledger; without one where there is none, as it may be its alarm.

Joins settings, ledger, campaigns and this process's memory; knows no callback.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_sms import retention, settings
from airflow_provider_sms.alarm_campaigns import WatchedClient, campaign_key, send_share
from airflow_provider_sms.alarm_ledger import KEPT
from airflow_provider_sms.alarm_memory import MEMORY
from airflow_provider_sms.gateway import texts
from airflow_provider_sms.gateway.errors import InDoubtError, Outcome, PhoneRefusedError, SmsError, UnsentError
from airflow_provider_sms.ledger.alarm_ends import AlarmEnds
from airflow_provider_sms.ledger.alarms import Alarm, Alarms, Share, Taken
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerBusyError, LedgerError, LedgerUnreachableError
from airflow_provider_sms.send_judging import CampaignError

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow_provider_sms.gateway.answers import Acceptance
    from airflow_provider_sms.hooks.sms import SmsHook
    from airflow_provider_sms.planning import Log

PATIENCE = 10.0
"""Seconds for which a ledger that is away is asked again."""

BUSY_PATIENCE = 40.0
"""The same for one that is there: who gives up texts without being counted. A DAG processor's callback has 50 s."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Message:
    """An alarm that is to be sent.

    :param key: what makes it the same alarm; None if nothing does.
    :param name: what its campaigns are called by; says nothing personal.
    :param phones: eleven digits each, each once.
    :param limit: texts that a phone gets in a window, at most.
    :param write: writes the text, signature included, that counts so many others.
    """

    key: str | None
    name: str
    phones: tuple[str, ...] = field(repr=False)
    limit: int
    window: timedelta
    write: Callable[[int], str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Posted:
    """What became of a text that was sent by the client alone.

    :param unsent: phones that have not got it, and will not.
    :param problem: the first thing that went wrong.
    """

    unsent: tuple[str, ...] = field(default=(), repr=False)
    problem: SmsError | None = None

    def __add__(self, other: _Posted) -> _Posted:
        return _Posted((*self.unsent, *other.unsent), self.problem or other.problem)


class AlarmSender:
    """Sends alarms with one connection.

    :param pause: waits the given seconds.
    :param clock: gives seconds, and never goes back.
    """

    def __init__(
        self,
        hook: SmsHook,
        log: Log,
        *,
        pause: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hook = hook
        self._log = log
        self._pause = pause or time.sleep
        self._clock = clock

    def send(self, message: Message) -> None:
        """Send an alarm, unless it has been sent, or its phones have had their texts.

        :raises SmsError: something can not be sent.
        :raises CampaignError: phones were refused, are in doubt or were not sent.
        """
        if message.key is not None and MEMORY.knows(message.key):
            self._log.info("This alarm was sent before, by this process.")
            return
        try:
            namespace, ledger, taken = self._patiently(lambda: self._take(message))
        except (SmsError, CampaignError):
            raise
        except Exception as error:  # noqa: BLE001 - the alarm about a broken ledger must not need it
            self._send_directly(message, error)
            return
        if taken.held:
            self._log.warning(
                "Held back: %d of %d phones have had %d texts within %s. Their next text counts this alarm, or "
                "SmsAlarmFlushOperator tells of it.",
                taken.held,
                len(message.phones),
                message.limit,
                message.window,
            )
        elif not taken.shares:
            self._log.info("This alarm was handed in before; nothing is left to send.")
        ends = [self._send_share(ledger, namespace, share, message) for share in taken.shares]
        failures = [end for end in ends if end is not None]
        if message.key is not None and not failures:
            MEMORY.note(message.key)
        if taken.is_new and taken.shares:
            self._tidy(ledger)
        if failures:
            raise failures[0]

    def _take(self, message: Message) -> tuple[str, Ledger, Taken]:
        namespace = settings.namespace()
        content = message.write(0)
        ledger = KEPT.open(self._log)
        try:
            alarm = Alarm(message.key or message.name, namespace, message.name, content)
            return namespace, ledger, Alarms(ledger).take(alarm, message.phones, message.limit, message.window)
        except BaseException:
            KEPT.discard(ledger)
            raise

    def _patiently(self, step: Callable[[], T]) -> T:
        began, seconds = self._clock(), 0.1
        while True:
            try:
                return step()
            except LedgerUnreachableError as error:
                patience = BUSY_PATIENCE if isinstance(error, LedgerBusyError) else PATIENCE
                if self._clock() - began >= patience:
                    raise
                self._pause(seconds * (0.5 + random.random()))
                seconds = min(seconds * 2, 2.0)

    def _send_share(self, ledger: Ledger, namespace: str, share: Share, message: Message) -> Exception | None:
        """Send one text of an alarm.

        :returns: why it was not sent.
        """
        content = message.write(share.others)
        client = WatchedClient(self._hook.get_conn())
        try:
            send_share(ledger, self._hook, client, namespace, share, content, self._log)
        except LedgerError as error:
            if client.has_left:
                self._log.warning("%s The alarm has left; what became of it the next flush finds out.", error)
                return None
            self._log.warning("%s The alarm is sent without the ledger.", error)
            posted = self._post(share.phones, content)
            self._note_posted(ledger, namespace, share, posted, message.key)
            return posted.problem
        except (SmsError, CampaignError) as error:
            return error
        self._log.info("The alarm was sent to %d phones.", len(share.phones))
        return None

    def _note_posted(self, ledger: Ledger, namespace: str, share: Share, posted: _Posted, key: str | None) -> None:
        unsent = set(posted.unsent)
        try:
            self._patiently(lambda: AlarmEnds(ledger).note_posted(share, campaign_key(namespace, share), unsent))
        except LedgerError:
            self._log.warning(
                "The ledger does not know what became of this alarm: a flush may send it again, as one that may be a "
                "repeat."
            )
            if key is not None and len(unsent) < len(share.phones):
                MEMORY.note_alone(key)

    def _tidy(self, ledger: Ledger) -> None:
        try:
            retention.keep(ledger, self._log)
        except settings.SettingsError as error:
            self._log.warning("%s", error)

    # Without the ledger

    def _send_directly(self, message: Message, why: Exception) -> None:
        admitted = MEMORY.admit(
            message.key, message.phones, message.limit, message.window.total_seconds(), self._clock()
        )
        if admitted is None:
            self._log.info("This alarm was sent before, by this process.")
            return
        if admitted.held:
            self._log.warning(
                "Held back: %d of %d phones have had %d texts within %s from this process. Its next text to them "
                "counts this alarm; nothing else does, as the ledger can not be used.",
                admitted.held,
                len(message.phones),
                message.limit,
                message.window,
            )
        alike: dict[int, list[str]] = defaultdict(list)
        for phone, others in admitted.others.items():
            alike[others].append(phone)
        problem: SmsError | None = None
        unsent: dict[str, int] = {}
        for others, phones in alike.items():
            posted = self._post(phones, message.write(others))
            unsent |= dict.fromkeys(posted.unsent, others)
            problem = problem or posted.problem
        if len(unsent) == len(admitted.others):
            MEMORY.forget(message.key, unsent)
        else:
            MEMORY.hold_back(unsent)
        self._log.warning(
            "De-duplication was off for this alarm: the ledger can not be used (%s). It was sent to %d phones without "
            "it; another process may send it again, and storms are bounded for each process alone.",
            _said(why),
            len(admitted.others) - len(unsent),
        )
        if problem is not None:
            raise problem

    def _post(self, phones: Sequence[str], content: str) -> _Posted:
        """Text phones once, by the client alone."""
        size = self._hook.account.batch_size
        parts = (phones[start : start + size] for start in range(0, len(phones), size))
        return sum((self._post_some(some, content) for some in parts), _Posted())

    def _post_some(self, phones: Sequence[str], content: str) -> _Posted:
        try:
            text = texts.prepare(content, self._hook.account.signature).content
            acceptance = self._request(phones, text)
        except PhoneRefusedError as error:
            if len(phones) == 1:
                return self._refused(phones, error)
            # One of them is the reason, and the others are to know.
            return sum((self._post_some([phone], content) for phone in phones), _Posted())
        except InDoubtError as error:
            self._hook.observer.put_in_doubt(len(phones))
            return _Posted(problem=error)
        except SmsError as error:
            return self._refused(phones, error)
        counted = len(phones) if acceptance.success_count is None else acceptance.success_count
        counted = max(0, min(counted, len(phones)))
        self._hook.observer.accepted(counted)
        self._log.info("Sent to %d of %d phones, taskId %s.", counted, len(phones), acceptance.task_id)
        return _Posted()

    def _request(self, phones: Sequence[str], text: str) -> Acceptance:
        client, observer, began = self._hook.get_conn(), self._hook.observer, self._clock()
        try:
            try:
                acceptance = client.send(phones, text)
            except UnsentError:
                began = self._clock()
                acceptance = client.send(phones, text)
        except SmsError as error:
            if error.outcome is not Outcome.UNSENT:
                observer.answered(self._clock() - began, error.outcome.name.lower())
            raise
        observer.answered(self._clock() - began, "accepted")
        if acceptance.remain_point is not None:
            observer.balance(acceptance.remain_point)
        return acceptance

    def _refused(self, phones: Sequence[str], error: SmsError) -> _Posted:
        if error.outcome is Outcome.REFUSED:
            self._hook.observer.refused(len(phones), type(error).__name__)
        return _Posted(tuple(phones), error)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, LedgerError | settings.SettingsError) else type(error).__name__
