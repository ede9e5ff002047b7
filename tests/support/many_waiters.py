"""A whole Airflow 3 with many delivery sensors deferred at once, and what they cost: for a test and for a benchmark.

Everything is on PostgreSQL, whose own log tells what the ledger is asked.
"""

from __future__ import annotations

import logging
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy
from sqlalchemy.pool import NullPool

from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.schema import batch_table
from scripts.processes import Child, Children
from tests.support.airflow_rest import Airflow, airflow_with_dags, start_airflow
from tests.support.campaigns import Campaigns, Platform
from tests.support.databases import PostgreSQL
from tests.support.pushed import listen, match, receipts, receive
from tests.support.simulator import Simulator

DAG_ID, TASK_ID = "many_deliveries", "delivered"
# As in tests/live/dags/many_deliveries.py.
WAITERS, INTERVAL = 200, 10
PHONE = "13800130001"
DAG_FILE = Path(__file__).parents[1] / "live" / "dags" / f"{DAG_ID}.py"


@dataclass(frozen=True)
class Cost:
    """What the waiting cost while all waited.

    :param seconds: how long it was watched.
    :param queries: of the ledger.
    :param calls: requests to the platform.
    :param cpu: seconds of the triggerer and its children.
    :param idle_cpu: likewise in as long a time with nobody waiting.
    :param deferred: seconds from the start of the run until all waited.
    :param finished: seconds from the last receipt until all had succeeded.
    :param results: what each sensor returned.
    """

    seconds: float
    queries: int
    calls: int
    cpu: float
    idle_cpu: float
    deferred: float
    finished: float
    results: list[Any]


def measure(folder: Path, intervals: int) -> Cost:
    """Run it.

    :param folder: for logs and DAGs.
    :param intervals: how long to watch.
    """
    with ExitStack() as stack:
        server = stack.enter_context(PostgreSQL())
        url = stack.enter_context(server.database())
        ledger = Ledger(read_url(url))
        stack.callback(ledger.close)
        platform = stack.enter_context(Simulator(app_id="FAKE-APP-ID", app_key="FAKE-APP-KEY-5d41402a"))
        _send(ledger)
        children = stack.enter_context(Children(patience=10))
        changes = {
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__SMS__SQL_ALCHEMY_CONN": url,
            "AIRFLOW_CONN_SMS_DEFAULT": platform.as_connection(),
        }
        database = stack.enter_context(server.database())
        env = stack.enter_context(airflow_with_dags(children, [DAG_FILE], folder, database=database, **changes))
        airflow = start_airflow(children, env, folder, "scheduler", "triggerer")
        airflow.until("Airflow is ready", lambda: airflow.is_ready(DAG_ID), 180)
        return _watch(airflow, ledger, platform, _Statements(server, url), intervals * INTERVAL)


def _watch(airflow: Airflow, ledger: Ledger, platform: Simulator, statements: _Statements, seconds: float) -> Cost:
    def all_are(state: str) -> bool:
        assert airflow.count(DAG_ID, run_id, "failed") == 0
        return airflow.count(DAG_ID, run_id, state) == WAITERS

    def pass_by(seconds: float) -> tuple[float, float]:
        """Let time go by; CPU seconds of the triggerer, and how long it was."""
        start, cpu = time.monotonic(), _cpu(airflow.parts["triggerer"])
        airflow.until("time has passed", lambda: time.monotonic() - start >= seconds, seconds + 60)
        return _cpu(airflow.parts["triggerer"]) - cpu, time.monotonic() - start

    idle, _ = pass_by(seconds)
    begun = time.monotonic()
    run_id = airflow.trigger(DAG_ID)
    airflow.until("all are deferred", lambda: all_are("deferred"), 600)
    deferred = time.monotonic() - begun
    # The last of them have joined the common question by then.
    pass_by(2 * INTERVAL)
    before = statements.count()
    cpu, watched = pass_by(seconds)
    queries = statements.count() - before
    assert all_are("deferred")

    for number in range(WAITERS):
        receive(ledger, *receipts(f"T{number}", [PHONE]))
    match(ledger)
    come = time.monotonic()
    airflow.until("all have succeeded", lambda: all_are("success"), 600)
    results = [airflow.xcom(DAG_ID, run_id, TASK_ID, map_index=number) for number in range(0, WAITERS, 20)]
    counters = platform.requests()["counters"]
    calls = counters["send"] + counters["balance"]
    return Cost(watched, queries, calls, cpu, idle, deferred, time.monotonic() - come, results)


class _Statements:
    """Counts what a database is asked, by its server's own log."""

    _ASKED = re.compile(rb"LOG:  statement: (?!BEGIN|COMMIT|ROLLBACK)")

    def __init__(self, server: PostgreSQL, url: str) -> None:
        self._log = server.folder / "log"
        name = url.rpartition("/")[2]
        engine = sqlalchemy.create_engine(server.url("postgres"), poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET log_statement = 'all'")

    def count(self) -> int:
        return len(self._ASKED.findall(self._log.read_bytes()))


def _cpu(child: Child) -> float:
    main = psutil.Process(child.process.pid)
    times = [each.cpu_times() for each in (main, *main.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _send(ledger: Ledger) -> None:
    """Campaigns of one phone each, `campaign 0` with taskId T0 and so on, in a ledger that a receiver has opened."""
    versions.upgrade(ledger)
    logging.getLogger("campaigns").setLevel(logging.WARNING)
    campaigns = Campaigns(ledger)
    for number in range(WAITERS):
        campaigns.run(Platform(), [PHONE], key=CampaignKey("", campaign_key=f"campaign {number}"))
    for number, batch in enumerate(campaigns.batches()):
        campaigns.change_batches(batch_table.c.id == batch.id, taskid=f"T{number}")
    listen(ledger)
