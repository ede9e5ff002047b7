"""What it takes to plan personal texts: phones a second, memory, and how quickly their requests are claimed.

    python -m benchmarks.personal                                  # 100,000 phones
    python -m benchmarks.personal --phones 1000000 --ledger sqlite

A CSV of phones with a name and an amount is planned with a template, as `SmsGroupSendOperator` plans it, in a process
of its own for each row of the table: once every phone has a text of its own, once there are ten different texts, and
once, for comparison, the phones alone are planned with one text. The ledger is a SQLite file, or a PostgreSQL with its
own defaults, started for this.

Measured are the seconds from the first look at the file until the plan is stored, and of them those of this process's
processor (SQLite works in this process, PostgreSQL does not); how much the process's memory grew meanwhile, at most;
and, of at most 2,000 requests, how many a second are claimed and settled, without anything being sent: so many
requests a second the ledger allows one thread. Every phone must be planned exactly once, with its text.

Exit status: 0 everything was planned, 1 it was not, 2 nothing could be measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from airflow_provider_sms import sources
from airflow_provider_sms.gateway.account import Account
from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.outbox import Outbox
from airflow_provider_sms.ledger.owners import own_name
from airflow_provider_sms.ledger.schema import batch_table, text_table
from airflow_provider_sms.ledger.settling import Answer
from airflow_provider_sms.messages import MessageFile
from airflow_provider_sms.orders import make_order
from airflow_provider_sms.planning import Planner, Try, begin
from airflow_provider_sms.policy import Policy
from airflow_provider_sms.recipients import PhoneFile
from airflow_provider_sms.sources import Source
from tests.support.databases import NotInstalled, PostgreSQL

TEMPLATE = "【云通信】尊敬的{name}您好,您本月的账单金额为{amount}元,请于月底前缴清,详询客服热线。"
KINDS = {"one text": 0, "10 texts": 10, "all different": None}
CLAIMS = 2_000
_FIRST_PHONE = 138_0000_0000
_ACCOUNT = Account("FAKE-APP-ID", "FAKE-APP-KEY")


def write_csv(path: Path, phones: int, texts: int | None) -> None:
    """Write the rows: with so many different texts, or None for one a phone."""
    with path.open("w", encoding="utf-8") as file:
        file.write("phone,name,amount\n")
        for number in range(phones):
            which = number if texts is None else number % max(texts, 1)
            file.write(f"{_FIRST_PHONE + number},客户{which},{which % 1000}.50\n")


def measure(url: str, path: Path, phones: int, texts: int | None) -> dict[str, Any]:
    """Plan in this very process."""
    with contextlib.closing(Ledger(read_url(url))) as ledger:
        versions.upgrade(ledger)
        key = CampaignKey("", campaign_key="benchmark")
        begin(ledger, key, Try())
        if texts == 0:
            file = PhoneFile(str(path), "phone")
            source: Source = sources.of_phones(file, TEMPLATE.format(name="客户", amount="1.50"))
        else:
            source = sources.of_messages(MessageFile(str(path)), TEMPLATE, None)
        order = make_order(_ACCOUNT, source.content, policy=Policy())
        planner = Planner(ledger, key, order, source.read, logging.getLogger("benchmark"), Policy(), source.form)
        before = _memory()
        began, busy = time.perf_counter(), time.process_time()
        campaign = planner.plan()
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        memory = _memory() - before
        outbox = Outbox(ledger, own_name(), campaign)
        claims = 0
        began = time.perf_counter()
        with ledger.holding():
            while claims < CLAIMS and (claim := outbox.claim(_ACCOUNT.app_id, 90.0)) is not None:
                outbox.check(claim, 60.0)
                outbox.accept(claim, Answer(f"T{claims}", len(claim.phones), 1))
                claims += 1
        claiming = time.perf_counter() - began
        with ledger.reading() as connection:
            batches, planned = connection.execute(select(func.count(), func.sum(batch_table.c.phones))).one()
            stored = connection.execute(select(func.count()).select_from(text_table)).scalar_one()
    if (int(planned), stored) != (phones, phones if texts is None else texts):
        raise SystemExit(f"Of {phones} phones {planned} were planned, with {stored} texts.")
    return {"seconds": seconds, "processor": busy, "memory": memory, "batches": batches, "claims": claims / claiming}


def _memory() -> float:
    """The most memory that this process ever had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextlib.contextmanager
def _databases(kind: str) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        if kind == "sqlite":
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="airflow-sms-benchmark-")))
            yield lambda name: contextlib.nullcontext(f"sqlite:///{folder / name}.db")
        else:
            server = stack.enter_context(PostgreSQL())
            yield lambda name: server.database()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.personal", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--phones", type=int, default=100_000, help="how many (default: %(default)s)")
    parser.add_argument("--ledger", choices=("sqlite", "postgresql"), action="append", help="one kind only")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.phones < 10:
        parser.error("--phones: at least 10")
    if args.one:
        url, path, kind = args.one
        print(json.dumps(measure(url, Path(path), args.phones, KINDS[kind])))
        return 0
    rows, is_bad = [], False
    for ledger in args.ledger or ("sqlite", "postgresql"):
        try:
            with _databases(ledger) as database, tempfile.TemporaryDirectory() as folder:
                for number, (kind, texts) in enumerate(KINDS.items()):
                    path = Path(folder) / "messages.csv"
                    write_csv(path, args.phones, texts)
                    with database(f"ledger{number}") as url:
                        command = [sys.executable, "-m", "benchmarks.personal", "--phones", str(args.phones)]
                        done = subprocess.run([*command, "--one", url, str(path), kind], capture_output=True, text=True)
                    if done.returncode:
                        print(f"{ledger}, {kind}: {done.stderr.strip()}", file=sys.stderr)
                        is_bad = True
                    else:
                        rows.append((ledger, kind, json.loads(done.stdout.splitlines()[-1])))
        except NotInstalled as error:
            print(f"{ledger}: skipped, {error}", file=sys.stderr)
    if not rows:
        return 2
    print(f"{args.phones:,} phones; cores: {os.cpu_count()}, load: {os.getloadavg()[0]:.1f}\n")
    print(
        f"{'ledger':<12}{'texts':<15}{'planned, s':>11}{'a second':>10}{'processor, s':>13}{'memory, MB':>12}"
        f"{'requests':>11}{'claims/s':>10}"
    )
    for ledger, kind, found in rows:
        rate = args.phones / found["seconds"]
        print(
            f"{ledger:<12}{kind:<15}{found['seconds']:>11.1f}{rate:>10,.0f}{found['processor']:>13.1f}"
            f"{found['memory']:>12.0f}"
            f"{found['batches']:>11,}{found['claims']:>10,.0f}"
        )
    return 1 if is_bad else 0


if __name__ == "__main__":
    sys.exit(main())
