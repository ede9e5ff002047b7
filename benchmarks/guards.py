"""What a cap on how often a phone is texted costs: plans and claims with it and without it, in turn.

    make bench-guards                                                    # 20,000 phones, on both databases
    make bench-guards ARGS="--phones 1000000 --runs 1"                   # a large campaign
    make bench-guards ARGS="--phones 1000000 --history 10 --ledger sqlite"

A ledger of each kind, a SQLite file and a PostgreSQL with its own defaults that is started for this, holds so many
texts that every phone has had (`--history`, 3), each from another campaign, in another order. Then the same phones are
planned as marketing: without a cap, and with one that leaves nobody out but has every phone looked up; in turn, as
often as `--runs` says. Phones come shuffled. Both ask the opt-out list, which is empty. Of the first plan of each kind
some batches of 500 are claimed and noted, and taken back.

Measured are seconds of the clock, and of several rounds the medians; the ratio is taken within a round. Without
PostgreSQL that kind is skipped. Nothing else should run meanwhile. Exit status: 0 all targets are met, 1 one is not, 2
nothing could be measured, or a plan left somebody out.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from airflow_provider_sms.gateway.account import Account
from airflow_provider_sms.gateway.categories import Category
from airflow_provider_sms.guarding import cap_of
from airflow_provider_sms.guards import Guards
from airflow_provider_sms.ledger import frequency, versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.outbox import Outbox
from airflow_provider_sms.ledger.owners import own_name
from airflow_provider_sms.orders import make_order
from airflow_provider_sms.planning import Planner
from airflow_provider_sms.policy import Policy
from tests.support.databases import NotInstalled, PostgreSQL

MOST_OF_PLAN = 2.5
MOST_OF_CLAIM = 2.0
BATCH_SIZE = 500
CLAIMS = 20
_CHUNK = 10_000
_FIRST_PHONE = 138_0000_0000
_SEED = 10658
_FREE = Guards(sending_hours=None)


@dataclass
class Measured:
    """One kind of ledger.

    :param plain: seconds that each plan without a cap took.
    :param capped: seconds that each plan with one took.
    :param plain_claims: milliseconds that each claim without a cap took.
    :param capped_claims: milliseconds that each claim with one took.
    """

    kind: str
    phones: int
    plain: list[float] = field(default_factory=list)
    capped: list[float] = field(default_factory=list)
    plain_claims: list[float] = field(default_factory=list)
    capped_claims: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How much longer a plan with a cap takes."""
        return statistics.median(capped / plain for plain, capped in zip(self.plain, self.capped, strict=True))

    @property
    def claim_ratio(self) -> float:
        """How much longer a claim with a cap takes."""
        return statistics.median(self.capped_claims) / statistics.median(self.plain_claims)


class WrongPlan(Exception):
    """Somebody was left out."""


@contextlib.contextmanager
def opened(kind: str) -> Iterator[Ledger]:
    """A new ledger of a kind."""
    with contextlib.ExitStack() as stack:
        if kind == "sqlite":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="airflow-sms-benchmark-"))
            url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        else:
            url = stack.enter_context(stack.enter_context(PostgreSQL()).database())
        ledger = Ledger(read_url(url))
        stack.callback(ledger.close)
        versions.upgrade(ledger)
        yield ledger


def fill(ledger: Ledger, phones: Sequence[str], history: int) -> None:
    """Note that every phone was texted so often, a day apart, in batches of other campaigns."""
    scope, batch_id = frequency.scope("", Category.MARKETING), 1_000_000_000
    order = list(phones)
    for days in range(1, history + 1):
        random.Random(_SEED + days).shuffle(order)
        for first in range(0, len(order), _CHUNK):
            batch_id += 1
            with ledger.writing() as connection:
                when = ledger.now(connection) - timedelta(days=days)
                frequency.note(connection, ledger, scope, order[first : first + _CHUNK], when, batch_id)
    if ledger.kind == "postgresql":
        with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE sms_texted")


def plan(ledger: Ledger, name: str, phones: Sequence[str], guards: Guards) -> tuple[float, Outbox]:
    """Plan them; how many seconds that took, and the plan's batches."""
    policy, account = Policy(), Account("FAKE-APP-ID", "FAKE-APP-KEY", batch_size=BATCH_SIZE)
    order = make_order(account, "【云通信】五折", category=Category.MARKETING, policy=policy, guards=guards)
    log = logging.getLogger("benchmark")
    planner = Planner(
        ledger,
        CampaignKey("", campaign_key=name),
        order,
        lambda: (list(phones[first : first + _CHUNK]) for first in range(0, len(phones), _CHUNK)),
        log,
        policy,
    )
    began = time.perf_counter()
    campaign = planner.plan()
    seconds = time.perf_counter() - began
    if campaign.phones != len(phones):
        raise WrongPlan(f"{name}: {campaign.phones} of {len(phones)} phones were planned.")
    return seconds, Outbox(ledger, own_name(), campaign, cap_of(guards))


def claims(outbox: Outbox) -> Iterator[float]:
    """Claim some batches; how many milliseconds each took."""
    taken = []
    for _ in range(CLAIMS):
        began = time.perf_counter()
        claim = outbox.claim("FAKE-APP-ID", 90.0)
        if claim is None:
            break
        yield (time.perf_counter() - began) * 1000
        taken.append(claim)
    for claim in taken:
        outbox.release(claim)


def measure(kind: str, phones: int, history: int, runs: int) -> Measured:
    """Plan with and without a cap, in turn."""
    found = Measured(kind, phones)
    numbers = [str(_FIRST_PHONE + number) for number in range(phones)]
    random.Random(_SEED).shuffle(numbers)
    guards = Guards(sending_hours=None, max_per_phone=history + 1, per=timedelta(days=history + 1))
    with opened(kind) as ledger:
        fill(ledger, numbers, history)
        for run in range(runs):
            seconds, outbox = plan(ledger, f"plain {run}", numbers, _FREE)
            found.plain.append(seconds)
            if run == 0:
                found.plain_claims.extend(claims(outbox))
            seconds, outbox = plan(ledger, f"capped {run}", numbers, guards)
            found.capped.append(seconds)
            if run == 0:
                found.capped_claims.extend(claims(outbox))
    return found


def table(rows: Sequence[Measured]) -> Iterator[str]:
    """What was measured, for people."""
    yield (
        f"{'ledger':<12}{'plan, s':>10}{'capped, s':>11}{'phones/s':>11}{'ratio':>8}{'claim, ms':>11}{'capped, ms':>12}"
    )
    for row in rows:
        plain, capped = statistics.median(row.plain), statistics.median(row.capped)
        yield (
            f"{row.kind:<12}{plain:>10.2f}{capped:>11.2f}{row.phones / capped:>11,.0f}{row.ratio:>8.2f}"
            f"{statistics.median(row.plain_claims):>11.1f}{statistics.median(row.capped_claims):>12.1f}"
        )


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--phones", type=int, default=20_000)
    parser.add_argument("--history", type=int, default=3, help="texts that every phone has had")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ledger", choices=("sqlite", "postgresql"), action="append")
    args = parser.parse_args()
    rows: list[Measured] = []
    try:
        for kind in args.ledger or ("sqlite", "postgresql"):
            try:
                rows.append(measure(kind, args.phones, args.history, args.runs))
            except NotInstalled as reason:
                print(f"{kind}: skipped, {reason}")
    except WrongPlan as problem:
        print(problem)
        return 2
    if not rows:
        return 2
    print(f"{args.phones:,} phones, each texted {args.history} times before; {args.runs} round(s).")
    print(*table(rows), sep="\n")
    for row in rows:
        print(f"{row.kind}: a claim with a cap takes {row.claim_ratio:.2f} times as long")
    missed = [row.kind for row in rows if row.ratio > MOST_OF_PLAN or row.claim_ratio > MOST_OF_CLAIM]
    print(f"targets: a plan at most {MOST_OF_PLAN} times as long, a claim {MOST_OF_CLAIM} times.")
    print(f"missed: {', '.join(missed)}" if missed else "all met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
