"""Waiting in the triggerer. Triggers only read; all that wait for one account share one question."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_sms.triggers.polling import SharedQuestion, shared_question

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.account import Account

SHORTEST_INTERVAL = 1.0
# The clock may be set while a trigger sleeps.
_LONGEST_SLEEP = 60.0


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
                balance = await balances.ask(partial(_get_balance, account.result), interval)
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


async def _get_balance(account: Account) -> int:
    return await asyncio.to_thread(_get_balance_once, account)


def _get_balance_once(account: Account) -> int:
    from airflow_provider_sms.gateway.client import SmsClient

    with SmsClient(account) as client:
        return client.get_balance()
