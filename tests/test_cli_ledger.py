"""`airflow-sms ledger upgrade`, `check` and `purge`: people look after the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from airflow_provider_sms import cli
from airflow_provider_sms.cli import Exit
from airflow_provider_sms.ledger import sqlite_file, versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.schema import batch_table, campaign_table
from tests.support.campaigns import PHONES, Campaigns, Platform

NAME = "dag/run/send"
VARIABLE = "AIRFLOW__SMS__SQL_ALCHEMY_CONN"

Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run `airflow-sms ledger …`; what it writes to standard output, or as an error to standard error."""

    def said(*arguments: str, status: Exit = Exit.DONE) -> str:
        capsys.readouterr()
        assert cli.main(("ledger", *arguments)) == status
        shown = capsys.readouterr()
        return shown.out or shown.err

    return said


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `[sms]` says that the ledger is; nothing is there."""
    path = tmp_path / "folder" / "ledger.db"
    monkeypatch.setenv(VARIABLE, f"sqlite:///{path}")
    return path


def long_ago(campaigns: Campaigns) -> None:
    """Let everything have happened years earlier."""
    time = datetime(2020, 1, 1)  # noqa: DTZ001 - as the ledger keeps it
    with campaigns.ledger.writing() as connection:
        values = {"created_at": time, "planned_at": time, "valid_until": time + timedelta(days=1)}
        connection.execute(update(campaign_table).values(**values))
        connection.execute(update(batch_table).values(claimed_at=time, lease_until=time, settled_at=time))


class TestUpgrade:
    def test_it_makes_the_file_where_there_is_none(self, path: Path, said: Said) -> None:
        assert said("upgrade") == f"Made {path}, version {versions.KNOWN[-1]}.\n"
        assert said("upgrade") == f"The ledger has version {versions.KNOWN[-1]} already.\n"

    def test_it_makes_the_tables_of_a_database(
        self, postgresql_url: str, monkeypatch: pytest.MonkeyPatch, said: Said
    ) -> None:
        monkeypatch.setenv(VARIABLE, postgresql_url)
        assert said("upgrade") == f"The ledger has version {versions.KNOWN[-1]} now; before: no tables.\n"
        assert said("upgrade") == f"The ledger has version {versions.KNOWN[-1]} already.\n"

    def test_a_newer_one_is_left_alone(self, campaigns: Campaigns, said: Said) -> None:
        with campaigns.ledger.writing() as connection:
            connection.exec_driver_sql("UPDATE sms_ledger_version SET version_num = '9999'")
        assert "error: The ledger has version 9999, newer than this provider" in said("upgrade", status=Exit.USAGE)


class TestCheck:
    def test_a_fit_one(self, campaigns: Campaigns, ledger_file: Path, said: Said) -> None:
        campaigns.run(Platform())
        lines = said("check").splitlines()
        assert lines[:3] == [
            "kind: sqlite",
            f"place: {ledger_file}",
            f"version: {versions.KNOWN[-1]} (needed: {versions.KNOWN[-1]})",
        ]
        assert "campaigns: 1" in lines
        assert "batches: 5 accepted" in lines
        assert lines[lines.index("receipts: 0") + 1] == "replies: 0"
        assert {"pushes not looked at: 0", "pushes of no batch: 0"} < set(lines)
        assert "writable: yes" in lines
        assert any(line.startswith("free on the disk: ") for line in lines)
        assert lines[-1] == "The ledger is fit to send with."

    def test_as_json(self, campaigns: Campaigns, said: Said) -> None:
        campaigns.run(Platform())
        shown = json.loads(said("check", "--output", "json"))
        assert shown["problems"] == []
        assert (shown["campaigns"], shown["purged"], shown["batches"], shown["receipts"]) == (1, 0, {"accepted": 5}, 0)
        assert (shown["replies"], shown["notLookedAt"], shown["unowned"], shown["estimated"]) == (0, 0, 0, [])
        assert shown["writable"] is True
        assert shown["freeBytes"] > 0

    def test_it_makes_nothing(self, path: Path, said: Said) -> None:
        shown = said("check", status=Exit.USAGE)
        assert f"problem: There is no {path} yet; the first send makes it, or `airflow-sms ledger upgrade`." in shown
        assert not path.exists()

    def test_tables_that_do_not_fit(self, campaigns: Campaigns, said: Said) -> None:
        with campaigns.ledger.writing() as connection:
            connection.exec_driver_sql("UPDATE sms_ledger_version SET version_num = '9999'")
        shown = said("check", status=Exit.USAGE)
        assert "version: 9999 (needed: " in shown
        assert "problem: The ledger has version 9999, newer" in shown

    def test_a_database_without_tables_and_no_password_is_shown(
        self, postgresql_url: str, monkeypatch: pytest.MonkeyPatch, said: Said
    ) -> None:
        monkeypatch.setenv(VARIABLE, postgresql_url)
        shown = said("check", status=Exit.USAGE)
        assert "kind: postgresql\n" in shown
        assert "has no tables yet: run `airflow-sms ledger upgrade` once" in shown
        said("upgrade")
        shown += said("check")
        assert "writable: yes" in shown
        assert str(read_url(postgresql_url).password) not in shown

    def test_one_that_can_only_be_read(self, postgresql_url: str, monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
        ledger = Ledger(read_url(postgresql_url))
        versions.upgrade(ledger)
        ledger.close()
        monkeypatch.setenv(VARIABLE, f"{postgresql_url}?options=-c%20default_transaction_read_only%3Don")
        shown = said("check", status=Exit.USAGE)
        assert "writable: no" in shown
        assert "problem: The ledger (postgresql on 127.0.0.1) " in shown

    def test_one_that_is_away(self, monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
        monkeypatch.setenv(VARIABLE, "postgresql+psycopg2://sms:FAKE-SECRET@127.0.0.1:9/sms")
        shown = said("check", status=Exit.USAGE)
        assert "place: postgresql+psycopg2://sms:***@127.0.0.1:9/sms" in shown
        assert "problem: The ledger (postgresql on 127.0.0.1) says: " in shown

    def test_a_file_that_several_machines_would_need(
        self, ledger_file: Path, monkeypatch: pytest.MonkeyPatch, said: Said
    ) -> None:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        shown = said("check", status=Exit.USAGE)
        assert "problem: The ledger is a SQLite file, and this process runs in Kubernetes" in shown
        assert "writable: yes" in shown

    def test_a_place_that_does_not_last(self, ledger_file: Path, monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
        monkeypatch.setattr(sqlite_file, "file_system", lambda path: "tmpfs")
        assert "warning: The ledger (" in said("check")


class TestPurge:
    def test_what_ended_before_a_day(self, campaigns: Campaigns, said: Said) -> None:
        campaigns.run(Platform(), [*PHONES, "x"])
        long_ago(campaigns)
        campaigns.run(Platform(), PHONES[:2], map_index=7)
        shown = said("purge", "--before", "2020-02-01", "--dry-run")
        counts = "11 phones and the texts of 1 campaigns, 0 receipts, 0 replies, 0 half plans, 0 alarms.\n"
        assert shown.endswith(f"Would be removed of what ended before 2020-02-01 00:00 Beijing time: {counts}")
        assert said("purge", "--before", "2020-02-01").endswith(
            f"Removed of what ended before 2020-02-01 00:00 Beijing time: {counts}"
        )
        assert json.loads(said("purge", "--before", "2020-02-01", "--output", "json"))["phones"] == 0

    def test_afterwards_counts_are_there_and_phones_are_not(
        self, campaigns: Campaigns, said: Said, capsys: pytest.CaptureFixture[str]
    ) -> None:
        campaigns.run(Platform(), [*PHONES, "x"])
        long_ago(campaigns)
        said("purge", "--older-than", "365")
        assert cli.main(("status", NAME)) == Exit.DONE
        shown = capsys.readouterr().out
        assert "; phones and text were removed, it is not sent again" in shown
        assert "phones:   10: 10 accepted, 0 refused, 0 in doubt, 0 not sent, 1 excluded" in shown
        assert cli.main(("export", NAME)) == Exit.USAGE
        assert "error: CAMPAIGN: its phones were removed on 20" in capsys.readouterr().err

    def test_days_by_the_setting(self, campaigns: Campaigns, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        campaigns.run(Platform())
        long_ago(campaigns)
        shown = said("purge", status=Exit.USAGE)
        for name in ("--before", "--older-than", "[sms] retention_days"):
            assert name in shown
        monkeypatch.setenv("AIRFLOW__SMS__RETENTION_DAYS", "365")
        assert "10 phones and the texts of 1 campaigns" in said("purge")

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (("--before", "tomorrow"), "error: --before: 'tomorrow' is no day; write it like 2030-01-31."),
            (("--before", "2099-01-01"), "error: --before: 2099-01-01 is not past yet."),
            (("--older-than", "0"), "error: --older-than: 0 is not between 1 and 36500 days."),
            (("--older-than", "1", "--before", "2020-01-01"), "error: --before, --older-than: give one of them."),
        ],
    )
    def test_mistakes(self, campaigns: Campaigns, said: Said, arguments: tuple[str, ...], complaint: str) -> None:
        assert complaint in said("purge", *arguments, status=Exit.USAGE)

    def test_what_is_being_sent_is_kept_and_said(self, campaigns: Campaigns, said: Said) -> None:
        campaigns.run(Platform())
        long_ago(campaigns)
        with campaigns.ledger.writing() as connection:
            lease = campaigns.ledger.now(connection) + timedelta(minutes=1)
            connection.execute(update(batch_table).values(state="sending", lease_until=lease))
        assert said("purge", "--older-than", "1").endswith("Kept, as it is still being sent: 1 as old.\n")
