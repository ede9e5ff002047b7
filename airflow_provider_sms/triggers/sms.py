"""Waiting in the triggerer. Triggers only read; all that wait for one account, or the ledger, share one question."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_sms.triggers.polling import Gathering, SharedQuestion, shared_gathering, shared_question

try:
    from airflow.triggers.base import BaseEventTrigger
except ImportError:  # before 3.0, which knows no asset watchers
    BaseEventTrigger = BaseTrigger  # type: ignore[assignment, misc]

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.account import Account

SHORTEST_INTERVAL = 1.0
# The clock may be set while a trigger sleeps.
_LONGEST_SLEEP = 60.0
_A_WEEK = 7 * 24 * 3600.0
# The clock may be set while a trigger waits.
_LONGEST_WAIT = 600.0
# An event about replies that nobody handles is repeated after so many times `repeat_after` at most.
_LONGEST_REPEAT = 16


class SmsPauseTrigger(BaseTrigger):
    """
    Wait until a moment; its one event is `{"waited": 61.0}`.

    Airflow's own triggers for that do not hand on what the task knows: `dag.test()` drops a task's own arguments
    when an event comes, and a task that forgets how long it has waited waits for ever.

    :param until: the moment, in seconds since 1970 UTC.
    :param waited: seconds that this try of the task has waited by then.
    """

    def __init__(self, until: float, waited: float) -> None:
        super().__init__()
        self.until = until
        self.waited = waited

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {"until": self.until, "waited": self.waited}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep until then, however often the triggerer is started anew."""
        while (seconds := self.until - time.time()) > 0:
            await asyncio.sleep(min(seconds, _LONGEST_SLEEP))
        yield TriggerEvent({"waited": self.waited})


class SmsBalanceTrigger(BaseTrigger):
    """
    Wait until an account has enough points.

    Its one event is `{"status": "enough", "balance": 241}`, `{"status": "refused", "message": "…"}` where waiting
    can not help, or `{"status": "unreachable", "message": "…"}` after too many failures in a row.

    :param sms_conn_id: the connection, of type `sms`; looked up again for every question.
    :param min_balance: points to wait for.
    :param poke_interval: seconds between two questions, at least 1.
    :param max_errors: failures in a row to put up with.
    """

    def __init__(self, sms_conn_id: str, min_balance: int, poke_interval: float, max_errors: int) -> None:
        super().__init__()
        self.sms_conn_id = sms_conn_id
        self.min_balance = min_balance
        self.poke_interval = poke_interval
        self.max_errors = max_errors

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments; the App Key is not among them."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "sms_conn_id": self.sms_conn_id,
                "min_balance": self.min_balance,
                "poke_interval": self.poke_interval,
                "max_errors": self.max_errors,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask until there is enough, or no hope."""
        interval = max(float(self.poke_interval), SHORTEST_INTERVAL)
        accounts: SharedQuestion[Account] = shared_question(("account", self.sms_conn_id))
        balances: SharedQuestion[int] | None = None
        errors = 0
        while True:
            account = await accounts.ask(self._read_account, interval)
            if account.result is None:
                error, wait = account.error, accounts.seconds_left(account, interval)
            else:
                balances = shared_question(("balance", *_identity(account.result)))
                balance = await balances.ask(partial(_get_balance, account.result, self.sms_conn_id), interval)
                if balance.result is not None and balance.result >= self.min_balance:
                    yield TriggerEvent({"status": "enough", "balance": balance.result})
                    return
                error, wait = balance.error, balances.seconds_left(balance, interval)
                if error is None:
                    self.log.info("%d points, waiting for %d.", balance.result, self.min_balance)
            errors = 0 if error is None else errors + 1
            if error is not None:
                if not may_pass(error):
                    yield TriggerEvent({"status": "refused", "message": str(error)})
                    return
                if errors > self.max_errors:
                    yield TriggerEvent({"status": "unreachable", "message": str(error), "errors": errors})
                    return
                self.log.warning("No balance (%d of %d in a row): %s", errors, self.max_errors, error)
            await asyncio.sleep(max(wait, 0.0))

    async def _read_account(self) -> Account:
        from airflow.providers.common.compat.connection import get_async_connection
        from airflow.providers.common.compat.sdk import AirflowNotFoundException
        from asgiref.sync import sync_to_async

        from airflow_provider_sms.hooks.sms import missing_connection, read_account

        try:
            connection = await get_async_connection(self.sms_conn_id)
        except AirflowNotFoundException:
            raise AirflowNotFoundException(missing_connection(self.sms_conn_id)) from None
        # In a thread: Airflow tells its supervisor what to mask, which must not happen on the event loop.
        return await sync_to_async(read_account)(connection)


class _LedgerTrigger(BaseTrigger):
    """
    Wait for the ledger to say something, and have the worker look at it.

    Its one event is `{"status": "look", "began": …}`; or `{"status": "unreachable", "message": "…", "errors": 11}`
    after too many failures in a row, or `{"status": "refused", "message": "…"}` where waiting can not help.
    """

    poke_interval: float
    max_errors: int
    began: float

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments: ids and numbers, no phone and no secret."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in self._names}

    _names: tuple[str, ...] = ()

    def _look(self) -> TriggerEvent:
        return TriggerEvent({"status": "look", "began": self.began})

    def _ended(self, error: Exception, errors: int) -> TriggerEvent | None:
        """The event that ends the waiting because of an error, if it does."""
        from airflow_provider_sms.ledger.errors import LedgerUnreachableError

        if not isinstance(error, LedgerUnreachableError):
            return TriggerEvent({"status": "refused", "message": str(error) or type(error).__name__})
        if errors > self.max_errors:
            return TriggerEvent({"status": "unreachable", "message": str(error), "errors": errors})
        self.log.warning("The ledger says nothing (%d of %d in a row): %s", errors, self.max_errors, error)
        return None


class SmsDeliveryTrigger(_LedgerTrigger):
    """
    Wait until the receipts of a campaign or of batches decide something, or until a moment.

    :param campaign_id: the ledger's; None: `batch_ids`.
    :param batch_ids: the ledger's.
    :param min_delivered: see `SmsDeliverySensor`, as text.
    :param min_final: likewise.
    :param until: when the worker looks whatever has come, in seconds since 1970 UTC.
    :param began: when the waiting began, handed on.
    :param poke_interval: seconds between two looks, at least 1.
    :param max_errors: failures in a row to put up with.
    """

    _names = (
        "campaign_id",
        "batch_ids",
        "min_delivered",
        "min_final",
        "until",
        "began",
        "poke_interval",
        "max_errors",
    )

    def __init__(
        self,
        campaign_id: int | None,
        batch_ids: list[int],
        min_delivered: str | None,
        min_final: str | None,
        until: float,
        began: float,
        poke_interval: float,
        max_errors: int,
    ) -> None:
        super().__init__()
        self.campaign_id = campaign_id
        self.batch_ids = batch_ids
        self.min_delivered = min_delivered
        self.min_final = min_final
        self.until = until
        self.began = began
        self.poke_interval = poke_interval
        self.max_errors = max_errors

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read the counts until they decide something; all that wait here share one query an interval."""
        from airflow_provider_sms.ledger.deliveries import Progress
        from airflow_provider_sms.triggers.reading import ask_for_deliveries
        from airflow_provider_sms.waiting import Goal, Total, Verdict, Wanted

        goal = Goal(Wanted.read("min_delivered", self.min_delivered), Wanted.read("min_final", self.min_final))
        wants: list[tuple[str, int]] = [("batch", number) for number in self.batch_ids]
        if self.campaign_id is not None:
            wants = [("campaign", self.campaign_id)]
        gathering: Gathering[Any] = shared_gathering("deliveries", ask_for_deliveries)
        errors = 0
        with gathering.waiting(wants, max(float(self.poke_interval), SHORTEST_INTERVAL)) as waiter:
            while (left := self.until - time.time()) > 0:
                answer = await waiter.news(min(left, _LONGEST_WAIT))
                if answer is None:
                    continue
                if answer.error is not None:
                    errors += 1
                    if event := self._ended(answer.error, errors):
                        yield event
                        return
                    continue
                errors = 0
                parts: list[Any] = [(answer.result or {}).get(want) for want in wants]
                if all(parts) and goal.judge(Total.of_progress(map(Progress._make, parts))) is not Verdict.WAITING:
                    break
        yield self._look()


class SmsReplySensorTrigger(_LedgerTrigger):
    """
    Wait until a reply to a campaign or to batches matches a pattern.

    :param campaign_id: the ledger's; None: `taskids`.
    :param taskids: the platform's batch ids.
    :param pattern: a regular expression; None for any text.
    :param began: when the waiting began, handed on.
    :param poke_interval: seconds between two looks, at least 1.
    :param max_errors: failures in a row to put up with.
    """

    _names = ("campaign_id", "taskids", "pattern", "began", "poke_interval", "max_errors")

    def __init__(
        self,
        campaign_id: int | None,
        taskids: list[str],
        pattern: str | None,
        began: float,
        poke_interval: float,
        max_errors: int,
    ) -> None:
        super().__init__()
        self.campaign_id = campaign_id
        self.taskids = taskids
        self.pattern = pattern
        self.began = began
        self.poke_interval = poke_interval
        self.max_errors = max_errors

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Count the replies until there is one; all that wait here share one query an interval."""
        from airflow_provider_sms.ledger.reply_counts import ReplyWanted
        from airflow_provider_sms.triggers.reading import ask_for_replies

        want = ReplyWanted(self.campaign_id, tuple(self.taskids), self.pattern)
        gathering: Gathering[int] = shared_gathering("replies", ask_for_replies)
        errors = 0
        with gathering.waiting([want], max(float(self.poke_interval), SHORTEST_INTERVAL)) as waiter:
            while True:
                answer = await waiter.news(_LONGEST_WAIT)
                if answer is None:
                    continue
                if answer.error is not None:
                    errors += 1
                    if event := self._ended(answer.error, errors):
                        yield event
                        return
                    continue
                errors = 0
                if (answer.result or {}).get(want):
                    break
        yield self._look()


class SmsReplyTrigger(BaseEventTrigger):
    """
    Say that a consumer has replies to act on, for an `AssetWatcher`: a nudge, not the message.

    .. code-block:: python

        replies = Asset(
            "sms_replies",
            watchers=[AssetWatcher(name="sms_replies", trigger=SmsReplyTrigger(consumer="orders"))],
        )

    Airflow may merge events of a burst, or strand the last ones. So an event says only that there is something:
    `{"consumer": "orders", "unhandled": 40}`; the run takes the replies by `SmsHook.claim_replies` under the same
    consumer's name, and the event is repeated, at growing intervals, until somebody has. It never gives up: while
    the ledger is away, there are no events.

    :param consumer: as in `SmsHook.claim_replies`, and `campaign`, `pattern`, `since` likewise.
    :param since: how far back, in seconds or as a time span.
    :param poke_interval: seconds between two looks, at least 1.
    :param repeat_after: seconds after which an event is repeated if nothing has changed; twice as many the next time.
    """

    def __init__(
        self,
        consumer: str,
        campaign: str | None = None,
        pattern: str | None = None,
        since: float | timedelta = _A_WEEK,
        poke_interval: float = 5.0,
        repeat_after: float = 60.0,
    ) -> None:
        super().__init__()
        # Here, where the DAG file shows it: in the triggerer nobody would see it.
        if not consumer.strip():
            raise ValueError("consumer: a name is needed, the same as in SmsHook.claim_replies.")
        re.compile(pattern or "")
        self.consumer = consumer
        self.campaign = campaign
        self.pattern = pattern
        self.since = since.total_seconds() if isinstance(since, timedelta) else float(since)
        self.poke_interval = float(poke_interval)
        self.repeat_after = float(repeat_after)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments, by which Airflow knows equal watchers."""
        names = ("consumer", "campaign", "pattern", "since", "poke_interval", "repeat_after")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Count what is unhandled, for ever; all such triggers share one query an interval."""
        from airflow_provider_sms.ledger.reply_counts import Unhandled
        from airflow_provider_sms.triggers.reading import ask_for_unhandled

        interval = max(self.poke_interval, SHORTEST_INTERVAL)
        while (interest := await self._interest()) is None:
            await asyncio.sleep(interval)
        gathering: Gathering[Unhandled] = shared_gathering("unhandled", ask_for_unhandled)
        found, patience = Unhandled(), self.repeat_after
        with gathering.waiting([interest], interval) as waiter:
            while True:
                answer = await waiter.news(patience if found.replies else _LONGEST_WAIT)
                if answer is None:
                    # Whoever should have heard the last event has not, or has failed.
                    patience = min(patience * 2, self.repeat_after * _LONGEST_REPEAT)
                elif answer.result is None:
                    self.log.warning("No replies can be seen: %s", answer.error)
                    continue
                else:
                    before, found = found, answer.result.get(interest, Unhandled())
                    if found.newest <= before.newest and found.replies <= before.replies:
                        continue
                    patience = self.repeat_after
                if found.replies:
                    yield TriggerEvent({"consumer": self.consumer, "unhandled": found.replies})

    async def _interest(self) -> Any:
        """Which replies; None, and words in the log, while the settings are not usable."""
        from asgiref.sync import sync_to_async

        from airflow_provider_sms import settings
        from airflow_provider_sms.ledger.errors import LedgerUsageError
        from airflow_provider_sms.ledger.replies import Interest

        try:
            namespace = await sync_to_async(settings.namespace)()
            return Interest(self.consumer, namespace, self.campaign, self.pattern, timedelta(seconds=self.since))
        except (settings.SettingsError, LedgerUsageError) as error:
            self.log.error("No replies can be seen: %s", error)
            return None


def may_pass(error: Exception) -> bool:
    """Whether waiting can help: not where a person has to change something.

    :param error: what asking for the balance raised.
    """
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    from airflow_provider_sms.gateway.errors import SmsError

    if isinstance(error, SmsError):
        return error.passes_by_itself
    return not isinstance(error, AirflowNotFoundException)


def _identity(account: Account) -> tuple[str, ...]:
    return account.app_id, account.app_key, account.base_url, account.proxy or ""


async def _get_balance(account: Account, conn_id: str) -> int:
    return await asyncio.to_thread(_get_balance_once, account, conn_id)


def _get_balance_once(account: Account, conn_id: str) -> int:
    from airflow_provider_sms.gateway.client import SmsClient
    from airflow_provider_sms.metrics import AirflowStats

    with SmsClient(account) as client:
        points = client.get_balance()
    AirflowStats(conn_id).balance(points)
    return points
