"""Two workers of Airflow's API server and a receiver of its own on one PostgreSQL ledger: each count exact.

Takes a minute, so only with SMS_LIVE=1.
"""

from __future__ import annotations

from pathlib import Path

from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from scripts.airflow_ui import settings
from scripts.processes import Children
from scripts.sandbox import AIRFLOW, airflow_home, last_lines
from tests.support.receiver_process import TOKEN, Receiver, free_port, status_of
from tests.support.same_pushes import push_everything_to


def test_workers_of_airflow_and_a_receiver_of_its_own(postgresql_url: str, tmp_path: Path) -> None:
    ledger = Ledger(read_url(postgresql_url))
    versions.upgrade(ledger)
    port = free_port()
    options = {
        **settings(port),
        "AIRFLOW__API__WORKERS": "2",
        "AIRFLOW__SMS__SQL_ALCHEMY_CONN": postgresql_url,
        "AIRFLOW__SMS__PUSH_TOKENS": TOKEN,
    }
    with Children() as children, airflow_home(children, **options) as env:
        children.run("airflow db migrate", [*AIRFLOW, "db", "migrate"], env, tmp_path / "migrate.log")
        server = children.start("api-server", [*AIRFLOW, "api-server"], env, tmp_path / "api-server.log")

        def is_up() -> bool:
            server.check_alive()
            return status_of(port, "/sms/health") == 200

        assert children.wait_until(is_up, 180), last_lines(server.log)
        with Receiver(tmp_path, postgresql_url) as alone:
            push_everything_to(ledger, [port, alone.port], 2_000)
        assert TOKEN not in server.log.read_text(errors="replace")
    ledger.close()
