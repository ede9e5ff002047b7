"""A whole Airflow 3 on PostgreSQL: a campaign of 10,000, its receipts and replies through the mounted receiver.

The scheduler sends it, the platform pushes to the API server, a deferred sensor finishes, replies start a DAG.
Takes minutes, so only with SMS_LIVE=1.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from airflow_provider_sms.ledger import deliveries, versions, views
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.schema import receipt_table, reply_claim_table, reply_table
from scripts.processes import Children
from scripts.sandbox import push_address
from tests.support.airflow_rest import ENDED, Airflow, airflow_with_dags, start_airflow
from tests.support.databases import PostgreSQL
from tests.support.fixtures import APP_KEY
from tests.support.simulator import Simulator
from tests.support.statsd import StatsD

TOKEN = "FAKE-PUSH-TOKEN-0123456789abcdef"
PHONES = 10_000
BATCH_SIZE = 500
DAGS = ("end_to_end", "reply_desk")
FILE = Path(__file__).parent / "dags" / "end_to_end.py"
# The platform says of some that they were not reached, pushes some receipts twice, and has some people reply.
FLAGS = ["--fail-share", "0.05", "--duplicate-share", "0.1", "--reply-share", "0.01", "--reply-text", "1"]
FLAGS += ["--receipt-order", "shuffled", "--push-repeats", "100", "--push-workers", "8"]


@pytest.fixture
def platform() -> Iterator[Simulator]:
    with Simulator(*FLAGS, app_id="FAKE-APP-ID", app_key=APP_KEY) as simulator:
        yield simulator


@pytest.fixture
def statsd() -> Iterator[StatsD]:
    with StatsD() as statsd:
        yield statsd


@pytest.fixture
def airflow(
    postgresql_server: PostgreSQL, platform: Simulator, statsd: StatsD, children: Children, tmp_path: Path
) -> Iterator[tuple[Airflow, Ledger]]:
    """Airflow with everything on PostgreSQL, the platform pushing to its API server, and the ledger."""
    with postgresql_server.database() as home, postgresql_server.database() as ledger_url:
        changes = {
            **statsd.environment,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": home,
            "AIRFLOW__SMS__SQL_ALCHEMY_CONN": ledger_url,
            "AIRFLOW__SMS__PUSH_TOKENS": TOKEN,
            "AIRFLOW_CONN_SMS_DEFAULT": platform.as_connection(batch_size=BATCH_SIZE),
            "REPLIES_FILE": str(tmp_path / "replies.txt"),
        }
        ledger = Ledger(read_url(ledger_url))
        versions.upgrade(ledger)
        with airflow_with_dags(children, [FILE], tmp_path, **changes) as env:
            airflow = start_airflow(children, env, tmp_path, "scheduler", "triggerer")
            airflow.until("Airflow is up", lambda: airflow.is_ready(*DAGS), 240)
            port = urllib.parse.urlsplit(env["AIRFLOW__API__BASE_URL"]).port
            platform.settings(push_url=push_address(int(port or 0), TOKEN))
            yield airflow, ledger
            ledger.close()


def test_a_campaign_from_its_file_to_the_last_receipt_and_every_reply(
    airflow: tuple[Airflow, Ledger], platform: Simulator, statsd: StatsD, tmp_path: Path
) -> None:
    running, ledger = airflow
    file = tmp_path / "phones.txt"
    file.write_text("".join(f"1380013{number:04d}\n" for number in range(PHONES)))
    run_id = running.trigger("end_to_end", {"file": str(file)})

    def is_deferred() -> bool:
        return running.task("end_to_end", run_id, "delivered")["state"] in ("deferred", *ENDED)

    running.until("the sensor waits in the triggerer", is_deferred, 180)
    running.until("the run has ended", lambda: running.states("end_to_end")[run_id] in ENDED, 300)
    assert running.states("end_to_end")[run_id] == "success"

    sent = running.xcom("end_to_end", run_id, "send")
    assert (sent["accepted"], len(sent["taskIds"])) == (PHONES, PHONES // BATCH_SIZE)
    assert sum(len(batch["phones"]) for batch in platform.accepted()) == PHONES
    delivered = running.xcom("end_to_end", run_id, "delivered")
    assert delivered["accepted"] == delivered["delivered"] + delivered["failed"] == PHONES
    assert 0 < delivered["failed"] == delivered["failedByCause"]["dead_number"]

    # All that the platform pushed is there once, and what it was answered is true.
    running.until("the platform has pushed all", lambda: platform.pushes()["pending"] == 0, 120)
    assert counted(ledger, receipt_table) == PHONES
    replies = counted(ledger, reply_table)
    assert replies > 0
    (campaign,) = views.find(ledger, sent["campaign"])
    of_campaign = deliveries.of_campaigns(ledger, [campaign.id])[campaign.id]
    assert (of_campaign.delivered, sum(of_campaign.failed.values())) == (delivered["delivered"], delivered["failed"])

    # Every reply was handed to a run once, and handled.
    def all_are_handled() -> bool:
        handled = select(func.count()).where(reply_claim_table.c.handled_at.is_not(None))
        with ledger.reading() as connection:
            return bool(connection.execute(handled).scalar_one() == replies)

    running.until("every reply is handled", all_are_handled, 180)
    ids = (tmp_path / "replies.txt").read_text().split()
    assert len(ids) == len(set(ids)) == replies
    assert set(running.states("reply_desk").values()) <= {"success", "running", "queued"}
    no_secret_in_logs(tmp_path)

    # What tasks, the mounted receiver and whoever matched have told Airflow's metrics is all of it, once.
    def metrics() -> dict[str, int]:
        failed = sum(count for stat, count in statsd.counts.items() if stat.startswith("sms.texts.failed"))
        pushed = statsd.counts["sms.pushes.receipts"] + statsd.counts["sms.pushes.replies"]
        accepted = statsd.counts["sms.texts.accepted,conn_id=sms_default"]
        return {"accepted": accepted, "delivered": statsd.counts["sms.texts.delivered"], "failed": failed, "in": pushed}

    told = {key: delivered[key] for key in ("accepted", "delivered", "failed")}
    running.until("all is counted", lambda: metrics() == told | {"in": platform.pushes()["answered200"]}, 60)


def counted(ledger: Ledger, table: Any) -> int:
    with ledger.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def no_secret_in_logs(folder: Path) -> None:
    """Airflow's own access log hides a query's token; nothing of ours shows it, or a key."""
    for log in folder.glob("*.log"):
        text = log.read_text(errors="replace")
        assert APP_KEY not in text, log.name
        assert TOKEN not in text, log.name
