"""The ledger as triggers read it: one engine for a whole triggerer, one query an interval for all that wait.

SQL runs in a thread. What is read of the settings is read by asgiref, since Airflow 3 masks by asking a supervisor.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.database import Ledger

T = TypeVar("T")
Question = Callable[[frozenset[Any]], Awaitable[Mapping[Any, Any]]]

_ledgers: dict[str, Ledger] = {}
_opening = threading.Lock()
# Which ledger the settings name, for each event loop; looked up anew after anything went wrong.
_current: WeakKeyDictionary[asyncio.AbstractEventLoop, Ledger] = WeakKeyDictionary()


async def read_ledger(question: Callable[[Ledger], T]) -> T:
    """Ask the ledger something, in a thread.

    :raises LedgerError: it can not be used.
    :raises SettingsError: an option is not usable.
    """
    loop = asyncio.get_running_loop()
    ledger = _current.get(loop)
    try:
        if ledger is None:
            ledger = await _open()
            _current[loop] = ledger
        return await asyncio.to_thread(question, ledger)
    except Exception:
        _current.pop(loop, None)
        raise


def ask_for_deliveries() -> Question:
    """A question for the counts of campaigns and batches: `("campaign", id)` and `("batch", id)`, in one query."""
    from airflow_provider_sms.ledger import deliveries

    def read(ledger: Ledger, wanted: frozenset[tuple[str, int]]) -> dict[tuple[str, int], Any]:
        campaigns = [number for kind, number in wanted if kind == "campaign"]
        batches = [number for kind, number in wanted if kind == "batch"]
        of_campaigns, of_batches = deliveries.progress(ledger, campaigns, batches)
        return {
            # None: a campaign that has no plan yet.
            **dict.fromkeys(wanted),
            **{("campaign", number): counts for number, counts in of_campaigns.items()},
            **{("batch", number): counts for number, counts in of_batches.items()},
        }

    return lambda wanted: read_ledger(lambda ledger: read(ledger, wanted))


def ask_for_replies() -> Question:
    """A question for how many replies fit each `ReplyWanted`."""
    from airflow_provider_sms.ledger.reply_counts import ReplyCounter

    counter = ReplyCounter()
    return lambda wanted: read_ledger(lambda ledger: counter.count(ledger, wanted))


def ask_for_unhandled() -> Question:
    """A question for what is unhandled of each `Interest`."""
    from airflow_provider_sms.ledger.reply_counts import UnhandledCounter

    counter = UnhandledCounter()
    return lambda wanted: read_ledger(lambda ledger: counter.count(ledger, wanted))


async def _open() -> Ledger:
    from asgiref.sync import sync_to_async

    from airflow_provider_sms.opening import find_url

    url = await sync_to_async(find_url)()
    return await asyncio.to_thread(_opened, url)


def _opened(url: Any) -> Ledger:
    from airflow_provider_sms.ledger import versions
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.errors import LedgerUnreachableError

    key = url.render_as_string(hide_password=False)
    with _opening:
        ledger = _ledgers.get(key) or Ledger(url)
        # To open it would make an empty one.
        if ledger.kind == "sqlite" and not Path(str(url.database)).exists():
            raise LedgerUnreachableError(f"The ledger ({url.database}) is not there on the triggerer's machine.")
        versions.check(ledger)
        _ledgers[key] = ledger
    return ledger
