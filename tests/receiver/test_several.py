"""Several receivers on one PostgreSQL ledger at once, all of them told the same: each push once, each count exact.

With workers of Airflow's API server among them: tests/live/test_several_receivers.py.
"""

from __future__ import annotations

from pathlib import Path

from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from tests.support.receiver_process import Receiver
from tests.support.same_pushes import push_everything_to


def test_workers_and_another_receiver(postgresql_url: str, tmp_path: Path) -> None:
    ledger = Ledger(read_url(postgresql_url))
    versions.upgrade(ledger)
    with (
        Receiver(tmp_path, postgresql_url, "--workers", "2") as first,
        Receiver(tmp_path, postgresql_url) as second,
    ):
        assert len(first.processes()) > 2
        push_everything_to(ledger, [first.port, second.port], 500)
    ledger.close()
