"""What becomes of pushed receipts: how many are matched a second, and how soon a large campaign's counts are read.

    python -m benchmarks.deliveries                                       # 1,000,000 phones on all three databases
    python -m benchmarks.deliveries --phones 100000 --ledger sqlite       # fewer, on one

A campaign of batches that were accepted is in a ledger of each kind: a SQLite file, a PostgreSQL and a MariaDB with
their own defaults, started for this. A receipt for each phone is stored by the inbox, as a receiver does it: first
for every other phone, in the order of the batches; then for the others, shuffled over all batches. Each time a process
that knows nothing yet matches them, as the receiver's thread does, in passes of 2,000.

Measured are, of the passes alone, receipts a second by the clock; and, of each receipt, the processor's time outside
the driver's statements: it is what Python takes from whatever else its process has to do. (A commit is in it; of
MariaDB's driver, which is Python, the statements are not.) Then the
campaign's delivery counts are read fifty times over, each time with a connection of its own where the ledger has no
pool. Every phone must be counted exactly once.

Without a server, that kind is skipped. Nothing else should run meanwhile. Exit status: 0 all targets are met, 1 one is
not, 2 nothing could be measured, or the counts are wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert

from airflow_provider_sms.gateway.pushes import Receipt
from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.deliveries import Deliveries, of_campaigns
from airflow_provider_sms.ledger.inbox import Heard, Inbox
from airflow_provider_sms.ledger.matching import Matcher
from airflow_provider_sms.ledger.recipients import CHUNK, store_recipients
from airflow_provider_sms.ledger.schema import BatchState, batch_table, campaign_table
from tests.support.databases import MariaDB, NotInstalled, PostgreSQL

MOST_FOR_COUNTS = 50.0
READS = 50
_FIRST_PHONE = 138_0000_0000
_AT_ONCE = 5000
_SEED = 10658


@dataclass
class Matched:
    """How receipts in one order fared.

    :param seconds: by the clock.
    :param outside: seconds of the processor outside the driver's statements.
    """

    receipts: int
    seconds: float
    outside: float

    @property
    def rate(self) -> float:
        """Receipts a second."""
        return self.receipts / self.seconds

    @property
    def in_python(self) -> float:
        """Microseconds a receipt outside the driver."""
        return self.outside / self.receipts * 1e6


@dataclass
class Measured:
    """One kind of ledger.

    :param counts: milliseconds that each reading of the counts took.
    """

    kind: str
    in_order: Matched
    shuffled: Matched
    counts: list[float]


class WrongCounts(Exception):
    """A phone was counted twice or not at all."""


class _Driver:
    """Adds up the processor's time that statements take."""

    def __init__(self, ledger: Ledger) -> None:
        self.seconds = 0.0
        event.listen(ledger.engine, "before_cursor_execute", self._before)
        event.listen(ledger.engine, "after_cursor_execute", self._after)

    def _before(self, *arguments: Any) -> None:
        self._began = time.thread_time()

    def _after(self, *arguments: Any) -> None:
        self.seconds += time.thread_time() - self._began


@contextlib.contextmanager
def _opened(kind: str) -> Iterator[Ledger]:
    with contextlib.ExitStack() as stack:
        if kind == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="airflow-sms-benchmark-"))
            url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        else:
            server = stack.enter_context({"postgresql": PostgreSQL, "mariadb": MariaDB}[kind]())
            url = stack.enter_context(server.database())
        ledger = Ledger(read_url(url))
        stack.callback(ledger.close)
        versions.upgrade(ledger)
        yield ledger


def plan(ledger: Ledger, phones: int, batch_size: int) -> int:
    """Store a campaign whose batches were all accepted.

    :returns: its id.
    """
    with ledger.writing() as connection:
        now = ledger.now(connection)
        head = {
            "key_hash": "k",
            "planned_for": "k",
            "name": "benchmark",
            "namespace": "",
            "owner": "",
            "phones": phones,
        }
        head |= {"created_at": now, "lease_until": now, "planned_at": now}
        done: Any = connection.execute(insert(campaign_table).values(**head))
        campaign_id = int(done.inserted_primary_key[0])
    for first in range(0, phones, CHUNK):
        some = [str(_FIRST_PHONE + number) for number in range(first, min(first + CHUNK, phones))]
        with ledger.writing() as connection:
            store_recipients(ledger, connection, campaign_id, first + 1, some, {})
    rows = []
    for number, first in enumerate(range(0, phones, batch_size), 1):
        last = min(first + batch_size, phones)
        row: dict[str, object] = {"campaign_id": campaign_id, "number": number, "first_position": first + 1}
        row |= {"last_position": last, "phones": last - first, "accepted": last - first, "taskid": f"T{number}"}
        row |= {"state": BatchState.ACCEPTED, "settled_at": now, "attempt": 1, "resends": 0, "account": "FAKE-APP-ID"}
        rows.append(row)
    with ledger.writing() as connection:
        connection.execute(insert(batch_table), rows)
    return campaign_id


def store(ledger: Ledger, numbers: Sequence[int], batch_size: int) -> None:
    """Let receipts come for phones, by their number in the campaign from 0, in this order."""
    inbox = Inbox(ledger, lambda content: False)
    with ledger.holding():
        for start in range(0, len(numbers), _AT_ONCE):
            inbox.store(
                [Heard("FAKE-APP-ID", _receipt(each, batch_size)) for each in numbers[start : start + _AT_ONCE]]
            )


def _receipt(number: int, batch_size: int) -> Receipt:
    failed = number % 20 == 0
    return Receipt(
        mobile=str(_FIRST_PHONE + number),
        taskid=f"T{number // batch_size + 1}",
        status="0" if failed else "1",
        code=("MK:0001", "MX:0012", "UNDELIV")[number // 20 % 3] if failed else "DELIVRD",
        receivetime="2030-01-31 12:00:00",
        extra=None,
    )


def match(ledger: Ledger, driver: _Driver) -> Matched:
    """Match what is new."""
    matcher, receipts = Matcher(ledger, lambda content: False), 0
    before, busy, began = driver.seconds, time.thread_time(), time.perf_counter()
    with ledger.holding():
        while looked := matcher.look():
            receipts += looked
    seconds, busy = time.perf_counter() - began, time.thread_time() - busy
    return Matched(receipts, seconds, busy - (driver.seconds - before))


def measure(kind: str, phones: int, batch_size: int) -> Measured:
    """Measure one kind of ledger.

    :raises WrongCounts: so they are.
    """
    with _opened(kind) as ledger:
        campaign_id = plan(ledger, phones, batch_size)
        driver = _Driver(ledger)
        store(ledger, range(0, phones, 2), batch_size)
        in_order = match(ledger, driver)
        others = list(range(1, phones, 2))
        random.Random(_SEED).shuffle(others)
        store(ledger, others, batch_size)
        shuffled = match(ledger, driver)
        counts = []
        for _ in range(READS):
            began = time.perf_counter()
            found = of_campaigns(ledger, [campaign_id])[campaign_id]
            counts.append((time.perf_counter() - began) * 1000)
    _check(found, phones, in_order.receipts + shuffled.receipts)
    return Measured(kind, in_order, shuffled, counts)


def _check(found: Deliveries, phones: int, receipts: int) -> None:
    failed = len(range(0, phones, 20))
    if (receipts, found.delivered, found.failed_total, found.missing) != (phones, phones - failed, failed, 0):
        raise WrongCounts(f"Of {phones} phones with a receipt each, {receipts} were looked at: {found}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.deliveries", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    kinds = ("sqlite", "postgresql", "mariadb")
    parser.add_argument("--phones", type=int, default=1_000_000, help="how many (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=500, help="phones in one batch (default: %(default)s)")
    parser.add_argument("--ledger", choices=kinds, action="append", help="one kind only; may be repeated")
    args = parser.parse_args()
    for name in ("phones", "batch_size"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: at least 1")
    load = os.getloadavg()[0]
    measured = []
    for kind in args.ledger or kinds:
        try:
            measured.append(measure(kind, args.phones, args.batch_size))
        except NotInstalled as error:
            print(f"{kind}: skipped, {error}", file=sys.stderr)
        except WrongCounts as error:
            print(f"{kind}: {error}", file=sys.stderr)
            return 2
    if not measured:
        return 2
    print(
        f"{args.phones:,} phones, {args.batch_size} a batch, a receipt for each; cores: {os.cpu_count()}, "
        f"load before: {load:.1f}\n"
    )
    print(f"{'':<12}{'in order':>22}{'shuffled':>22}{'counts, ms':>26}")
    each_order = f"{'a second':>12}{'Python µs':>10}"
    print(f"{'ledger':<12}{each_order}{each_order}{'median (lowest-highest)':>26}")
    all_met = True
    for each in measured:
        median = statistics.median(each.counts)
        met = median <= MOST_FOR_COUNTS
        all_met = all_met and met
        rates = "".join(f"{of.rate:>12,.0f}{of.in_python:>10.1f}" for of in (each.in_order, each.shuffled))
        counts = f"{median:.1f} ({min(each.counts):.1f}-{max(each.counts):.1f})"
        print(f"{each.kind:<12}{rates}{counts:>26}  {'' if met else 'NOT MET: '}at most {MOST_FOR_COUNTS:g}")
    return 0 if all_met else 1


if __name__ == "__main__":
    sys.exit(main())
