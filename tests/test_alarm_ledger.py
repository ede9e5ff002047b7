"""The ledger that a process keeps open for its next alarm."""

from __future__ import annotations

import logging
import multiprocessing
from pathlib import Path

import pytest

from airflow_provider_sms.alarm_ledger import KeptLedger
from airflow_provider_sms.ledger import sqlite_file, versions
from airflow_provider_sms.ledger.errors import LedgerUnsuitableError

LOG = logging.getLogger(__name__)


def test_it_is_opened_once_until_something_goes_wrong(ledger_file: Path) -> None:
    kept = KeptLedger()
    first = kept.open(LOG)
    assert kept.open(LOG) is first
    kept.discard(first)
    second = kept.open(LOG)
    assert second is not first
    # An old one that somebody else still had.
    kept.discard(first)
    assert kept.open(LOG) is second


def test_another_ledger_is_another(ledger_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptLedger()
    first = kept.open(LOG)
    sqlite_file.make(tmp_path / "another.db")
    monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path / 'another.db'}")
    assert kept.open(LOG).url != first.url
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(LedgerUnsuitableError):
        kept.open(LOG)


def test_a_child_opens_its_own(ledger_file: Path) -> None:
    kept = KeptLedger()
    first = kept.open(LOG)

    def child() -> None:
        own = kept.open(LOG)
        assert own is not first
        versions.check(own)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert kept.open(LOG) is first
