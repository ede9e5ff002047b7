"""What is counted, told to Airflow's own Stats: StatsD, Datadog or OpenTelemetry, as its `[metrics]` says.

The only module that knows Airflow's Stats, which it imports when there is something to tell. It never raises, and
waits for nobody: Airflow sends datagrams, or adds up in memory.
"""

from __future__ import annotations

import inspect
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from importlib import import_module
from typing import Any

log = logging.getLogger(__name__)


class Kind(Enum):
    """How a backend treats a number."""

    COUNTER = "counter"
    GAUGE = "gauge"
    TIMER = "timer"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, as the documentation lists it.

    :param tags: what it is told apart by, where the backend knows tags.
    """

    name: str
    kind: Kind
    tags: tuple[str, ...] = ()


ACCEPTED = Metric("sms.texts.accepted", Kind.COUNTER, ("conn_id",))
REFUSED = Metric("sms.texts.refused", Kind.COUNTER, ("conn_id", "reason"))
IN_DOUBT = Metric("sms.texts.in_doubt", Kind.COUNTER, ("conn_id",))
DELIVERED = Metric("sms.texts.delivered", Kind.COUNTER)
FAILED = Metric("sms.texts.failed", Kind.COUNTER, ("cause",))
BALANCE = Metric("sms.balance", Kind.GAUGE, ("conn_id",))
# Most StatsD servers know no tags, and would take one account's points for another's. Airflow's pools do the same.
BALANCE_OF = Metric("sms.balance.<conn_id>", Kind.GAUGE)
SEND_DURATION = Metric("sms.send.duration", Kind.TIMER, ("conn_id", "outcome"))
RECEIPTS = Metric("sms.pushes.receipts", Kind.COUNTER)
REPLIES = Metric("sms.pushes.replies", Kind.COUNTER)
TURNED_AWAY = Metric("sms.pushes.refused", Kind.COUNTER, ("status",))

METRICS = (
    ACCEPTED,
    REFUSED,
    IN_DOUBT,
    DELIVERED,
    FAILED,
    BALANCE,
    BALANCE_OF,
    SEND_DURATION,
    RECEIPTS,
    REPLIES,
    TURNED_AWAY,
)
"""All that there are; docs/en/howto/metrics.md has the same."""

_NO_CODE = "no_code"
_UNFIT = re.compile(r"[^a-zA-Z0-9_.-]")


class AirflowStats:
    """The observer that tells Airflow's Stats.

    :param conn_id: the connection that it is all about; None if it may be any.
    :param find: gives Airflow's Stats.
    """

    def __init__(self, conn_id: str | None = None, find: Callable[[], Any] | None = None) -> None:
        self._conn_id = None if conn_id is None else _UNFIT.sub("_", conn_id)
        self._find = find or stats

    def accepted(self, phones: int) -> None:
        """See `Observer`; so are the others."""
        self._count(ACCEPTED, phones)

    def refused(self, phones: int, reason: str) -> None:
        self._count(REFUSED, phones, reason=reason)

    def put_in_doubt(self, phones: int) -> None:
        self._count(IN_DOUBT, phones)

    def delivered(self, phones: int) -> None:
        self._count(DELIVERED, phones)

    def failed(self, phones: int, cause: str) -> None:
        self._count(FAILED, phones, cause=cause or _NO_CODE)

    def balance(self, points: int) -> None:
        self._tell("gauge", BALANCE, points)
        if self._conn_id is not None:
            self._tell("gauge", Metric(f"{BALANCE.name}.{self._conn_id}", Kind.GAUGE), points)

    def answered(self, seconds: float, outcome: str) -> None:
        # A timedelta: some versions take a number for seconds, others for milliseconds.
        self._tell("timing", SEND_DURATION, timedelta(seconds=seconds), outcome=outcome)

    def stored(self, receipts: int, replies: int) -> None:
        self._count(RECEIPTS, receipts)
        self._count(REPLIES, replies)

    def turned_away(self, pushes: int, status: int) -> None:
        self._count(TURNED_AWAY, pushes, status=str(status))

    def _count(self, metric: Metric, number: int, **tags: str) -> None:
        if number > 0:
            self._tell("incr", metric, number, **tags)

    def _tell(self, how: str, metric: Metric, value: Any, **tags: str) -> None:
        if self._conn_id is not None and "conn_id" in metric.tags:
            tags["conn_id"] = self._conn_id
        try:
            getattr(self._find(), how)(metric.name, value, tags=tags)
        except Exception as error:  # noqa: BLE001 - no text and no push fails for a number
            _say_once(error)


_said = False


def _say_once(error: Exception) -> None:
    global _said
    if not _said:
        _said = True
        log.warning("Metrics are lost: Airflow's Stats fails (%s). Look at [metrics].", type(error).__name__)


# Airflow's Stats

# Airflow 3.2 and newer have two: one for tasks, one for servers. Before that there is one, which is last here.
_MODULES = ("airflow.sdk.observability", "airflow.observability")
_finding = threading.Lock()
_found: Any = None


def stats() -> Any:
    """Airflow's Stats, set up: the one that this process has set up already, or else one that is set up now.

    Tasks, the triggerer and the API server set up one of them, commands and our own receiver none.
    """
    global _found
    if _found is None:
        with _finding:
            _found = _found or _look_for()
    return _found


def _look_for() -> Any:
    there = list(_all())
    for _, each in there:
        if _is_set_up(each):
            return each
    if not there:
        # Up to 3.1 it sets itself up.
        return import_module("airflow.stats").Stats
    module, first = there[0]
    _set_up(module, first)
    return first


def _all() -> Iterator[tuple[str, Any]]:
    for module in _MODULES:
        try:
            yield module, import_module(f"{module}.stats").Stats
        except ImportError:
            continue


def _is_set_up(found: Any) -> bool:
    """Whether it has a backend, or what makes one; one that was asked too early has one that does nothing."""
    if hasattr(type(found), "factory"):
        factory = found.factory
    else:
        factory = getattr(sys.modules[found.initialize.__module__], "_factory", _is_set_up)
    return factory is not None and getattr(factory, "__name__", "") != "NoStatsLogger"


def _set_up(module: str, found: Any) -> None:
    from airflow.providers.common.compat.sdk import conf

    make = import_module(f"{module}.metrics.stats_utils").get_stats_factory
    # 3.2 asks for the class, 3.3 does not; and wants to be told about legacy names.
    arguments = {"factory": make(found) if inspect.signature(make).parameters else make()}
    if "export_legacy_names" in inspect.signature(found.initialize).parameters:
        arguments["export_legacy_names"] = conf.getboolean("metrics", "legacy_names_on", fallback=True)
    found.initialize(**arguments)
