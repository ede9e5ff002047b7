"""Waiting for an answer in the triggerer. Only reads, and only counts: what a reply means the worker finds out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_sms.triggers.polling import Gathering, shared_gathering

_SHORTEST_INTERVAL = 1.0
# The clock may be set while a trigger waits.
_LONGEST_WAIT = 600.0


class SmsAnswerTrigger(BaseTrigger):
    """
    Wait until there are more replies to a campaign than were seen, or until a moment.

    Its one event is `{"status": "look"}`; or `{"status": "unreachable", "message": "…", "errors": 11}` after too many
    failures in a row, or `{"status": "refused", "message": "…"}` where waiting can not help.

    :param campaign_id: the ledger's.
    :param seen: how many replies were there when the worker looked.
    :param until: when the worker looks whatever has come, in seconds since 1970 UTC.
    :param poke_interval: seconds between two looks, at least 1.
    :param max_errors: failures in a row to put up with.
    """

    def __init__(self, campaign_id: int, seen: int, until: float, poke_interval: float, max_errors: int) -> None:
        super().__init__()
        self.campaign_id = campaign_id
        self.seen = seen
        self.until = until
        self.poke_interval = poke_interval
        self.max_errors = max_errors

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments: numbers, no phone and no code."""
        names = ("campaign_id", "seen", "until", "poke_interval", "max_errors")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Count the replies; all that wait here share one query an interval, sensors for replies included."""
        from airflow_provider_sms.ledger.errors import LedgerUnreachableError
        from airflow_provider_sms.ledger.reply_counts import ReplyWanted
        from airflow_provider_sms.triggers.reading import ask_for_replies

        want = ReplyWanted(self.campaign_id)
        gathering: Gathering[int] = shared_gathering("replies", ask_for_replies)
        errors = 0
        with gathering.waiting([want], max(float(self.poke_interval), _SHORTEST_INTERVAL)) as waiter:
            while (left := self.until - time.time()) > 0:
                answer = await waiter.news(min(left, _LONGEST_WAIT))
                if answer is None:
                    continue
                if answer.error is None:
                    errors = 0
                    if (answer.result or {}).get(want, 0) > self.seen:
                        break
                elif not isinstance(answer.error, LedgerUnreachableError):
                    yield TriggerEvent({"status": "refused", "message": str(answer.error)})
                    return
                else:
                    errors += 1
                    if errors > self.max_errors:
                        yield TriggerEvent({"status": "unreachable", "message": str(answer.error), "errors": errors})
                        return
                    self.log.warning(
                        "The ledger says nothing (%d of %d in a row): %s", errors, self.max_errors, answer.error
                    )
        yield TriggerEvent({"status": "look"})
