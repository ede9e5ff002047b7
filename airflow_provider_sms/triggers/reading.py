"""The ledger as triggers read it: one engine for a whole triggerer, one query an interval for all that wait.

SQL runs in a thread. What is read of the settings is read by asgiref, since Airflow 3 masks by asking a supervisor.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.reply_counts import ReplyCounter, UnhandledCounter
    from airflow_provider_sms.triggers.polling import Gathering

T = TypeVar("T")

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


async def read_deliveries(gathering: Gathering[dict[tuple[str, int], Any]]) -> dict[tuple[str, int], Any]:
    """Read the counts of all campaigns and batches that somebody waits for, in one query.

    :param gathering: whose waiters want `("campaign", id)` and `("batch", id)`.
    """
    from airflow_provider_sms.ledger import deliveries

    wanted = gathering.wanted
    campaigns = [number for kind, number in wanted if kind == "campaign"]
    batches = [number for kind, number in wanted if kind == "batch"]

    def question(ledger: Ledger) -> dict[tuple[str, int], Any]:
        of_campaigns, of_batches = deliveries.read(ledger, campaigns, batches)
        found: dict[tuple[str, int], Any] = dict.fromkeys(wanted)
        found |= {("campaign", number): counts for number, counts in of_campaigns.items()}
        found |= {("batch", number): counts for number, counts in of_batches.items()}
        return found

    return await read_ledger(question)


async def count_replies(gathering: Gathering[Any], counter: ReplyCounter | UnhandledCounter) -> dict[Any, Any]:
    """Count replies for all that want some.

    :param counter: remembers from one time to the next; only one of these runs at a time.
    """
    wanted = gathering.wanted
    return await read_ledger(lambda ledger: counter.count(ledger, wanted))


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
