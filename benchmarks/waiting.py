"""What it costs that many tasks wait for receipts: delivery triggers in one event loop, and in a real triggerer.

    python -m benchmarks.waiting [--triggers 10000] [--interval 10] [--intervals 5] [--no-airflow]

In the loop: so many triggers wait, each for a campaign of its own, on SQLite and on PostgreSQL. Counted are the
ledger's queries an interval, the CPU seconds of the process (the thread that asks included), and how late the loop
was at its worst, and with nobody waiting ("else"): other triggers live there too. Beside it, what one trigger's own
question takes: without sharing, each of them would ask it.

In Airflow: 200 delivery sensors deferred in a triggerer of their own, see tests/support/many_waiters.py.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert

from airflow_provider_sms.ledger import deliveries, versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.schema import (
    BatchState,
    Outcome,
    batch_table,
    campaign_table,
    delivery_count_table,
)

_AT_ONCE = 5_000
_PHONES = 500
_PROBE = 0.01
_VARIABLE = "AIRFLOW__SMS__SQL_ALCHEMY_CONN"


@dataclass(frozen=True)
class Loop:
    """What many triggers in one event loop cost.

    :param queries: of the ledger, an interval.
    :param cpu: seconds, an interval.
    :param late: seconds that the loop was late at its worst.
    :param idle_late: likewise with nobody waiting: what this machine's other work does to it.
    :param alone: seconds that the question of one trigger takes.
    """

    queries: float
    cpu: float
    late: float
    idle_late: float
    alone: float


def fill(ledger: Ledger, campaigns: int) -> list[int]:
    """Store campaigns of one batch, most of whose receipts have come; their ids."""
    versions.upgrade(ledger)
    ids = list(range(1, campaigns + 1))
    for start in range(0, campaigns, _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        with ledger.writing() as connection:
            now = ledger.now(connection)
            connection.execute(
                insert(campaign_table),
                [
                    {
                        "id": each,
                        "key_hash": f"{each}",
                        "planned_for": "",
                        "name": f"campaign {each}",
                        "namespace": "",
                        "created_at": now,
                        "planned_at": now,
                        "owner": "benchmark",
                        "lease_until": now,
                        "phones": _PHONES,
                    }
                    for each in some
                ],
            )
            connection.execute(
                insert(batch_table),
                [
                    {
                        "id": each,
                        "campaign_id": each,
                        "number": 1,
                        "first_position": 1,
                        "last_position": _PHONES,
                        "phones": _PHONES,
                        "state": BatchState.ACCEPTED.value,
                        "settled_at": now,
                        "taskid": f"T{each}",
                        "accepted": _PHONES,
                    }
                    for each in some
                ],
            )
            counts = ((Outcome.DELIVERED, "", 400), (Outcome.FAILED, "handset", 20), (Outcome.FAILED, "dead_number", 5))
            connection.execute(
                insert(delivery_count_table),
                [
                    {"campaign_id": each, "batch_id": each, "outcome": outcome.value, "cause": cause, "phones": phones}
                    for each in some
                    for outcome, cause, phones in counts
                ],
            )
    return ids


async def lateness(seconds: float) -> float:
    """Watch the loop for so long; seconds that it was late at its worst."""
    end, late = time.monotonic() + seconds, 0.0
    while time.monotonic() < end:
        due = time.monotonic() + _PROBE
        await asyncio.sleep(_PROBE)
        late = max(late, time.monotonic() - due)
    return late


async def watch(ids: Sequence[int], interval: float, intervals: int, asked: list[float]) -> tuple[float, ...]:
    """Let a trigger wait for each, and watch for so many intervals.

    :param asked: when the ledger was asked.
    :returns: queries and CPU seconds an interval; seconds that the loop was late, and was with nobody waiting.
    """
    from airflow_provider_sms.triggers.sms import SmsDeliveryTrigger

    idle_late = await lateness(interval * intervals)
    until = time.time() + 24 * 3600
    triggers = [SmsDeliveryTrigger(each, [], None, None, until, 0.0, interval, 10) for each in ids]
    waiting = [asyncio.ensure_future(anext(each.run())) for each in triggers]
    # All have joined with the second question.
    while len(asked) < 3:
        await asyncio.sleep(_PROBE)
    await asyncio.sleep(interval / 2)
    # What the start has left behind is not the waiting's.
    gc.collect()
    start, cpu, before = time.monotonic(), time.process_time(), len(asked)
    late = await lateness(interval * intervals)
    passed = (time.monotonic() - start) / interval
    result = (len(asked) - before) / passed, (time.process_time() - cpu) / passed, late, idle_late
    assert not any(each.done() for each in waiting)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return result


def measure_loop(url: str, triggers: int, interval: float, intervals: int) -> Loop:
    """Measure it on one ledger."""
    from airflow_provider_sms.triggers import reading

    ledger = Ledger(read_url(url))
    ids = fill(ledger, triggers)
    start = time.perf_counter()
    for each in ids[:200]:
        deliveries.of_campaigns(ledger, [each])
    alone = (time.perf_counter() - start) / 200
    ledger.close()
    os.environ[_VARIABLE] = url
    asked: list[float] = []
    make = reading._opened

    def opened(url: Any) -> Ledger:
        ledger = make(url)
        event.listen(ledger.engine, "before_cursor_execute", note)
        return ledger

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if "sms_delivery_count" in statement:
            asked.append(time.monotonic())

    reading._opened = opened
    try:
        queries, cpu, late, idle_late = asyncio.run(watch(ids, interval, intervals, asked))
    finally:
        reading._opened = make
    return Loop(queries, cpu, late, idle_late, alone)


@contextmanager
def ledgers() -> Iterator[list[tuple[str, str]]]:
    """A fresh database of each kind that is installed: its name and its URL."""
    from tests.support.databases import NotInstalled, PostgreSQL

    with tempfile.TemporaryDirectory() as folder:
        found = [("SQLite", f"sqlite:///{folder}/ledger.db")]
        try:
            server = PostgreSQL()
        except NotInstalled as problem:
            print(f"Without PostgreSQL: {problem}")
            yield found
            return
        with server, server.database() as url:
            yield [*found, ("PostgreSQL", url)]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triggers", type=int, default=10_000)
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between two questions")
    parser.add_argument("--intervals", type=int, default=5, help="how many of them to watch")
    parser.add_argument("--no-airflow", action="store_true", help="only the loop")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        quiet = {"AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
        os.environ |= {"AIRFLOW_HOME": home, **quiet}
        print(f"{args.triggers:,} delivery triggers in one event loop, an interval of {args.interval:g} s:\n")
        print(f"{'':12}{'queries':>10}{'CPU':>12}{'loop late':>12}{'else':>8}{'one alone':>12}{'all alone':>12}")
        with ledgers() as found:
            for name, url in found:
                loop = measure_loop(url, args.triggers, args.interval, args.intervals)
                print(
                    f"{name:12}{loop.queries:>10.2f}{loop.cpu:>10.2f} s"
                    f"{loop.late * 1000:>9.0f} ms{loop.idle_late * 1000:>5.0f} ms"
                    f"{loop.alone * 1000:>9.2f} ms{loop.alone * args.triggers:>10.1f} s"
                )
    if not args.no_airflow:
        _print_airflow(args.intervals)
    return 0


def _print_airflow(intervals: int) -> None:
    # They belong to the loop; Airflow's processes get their own.
    for name in ("AIRFLOW_HOME", _VARIABLE):
        with suppress(KeyError):
            del os.environ[name]
    from tests.support.many_waiters import INTERVAL, WAITERS, measure

    with tempfile.TemporaryDirectory() as folder:
        cost = measure(Path(folder), intervals)
    passed = cost.seconds / INTERVAL
    print(
        f"\n{WAITERS} delivery sensors in a real triggerer, an interval of {INTERVAL} s, {passed:.1f} intervals:\n\n"
        f"ledger queries an interval   {cost.queries / passed:.2f}\n"
        f"platform calls an interval   {cost.calls / passed:.2f}\n"
        f"CPU an interval              {cost.cpu / passed:.2f} s ({cost.idle_cpu / passed:.2f} s with nobody waiting)\n"
        f"all deferred after           {cost.deferred:.0f} s\n"
        f"all successful               {cost.finished:.0f} s after the last receipt"
    )


if __name__ == "__main__":
    sys.exit(main())
