"""The three databases behave alike: transactions, the clock, and what a failure is called."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text, update

from airflow_provider_sms.ledger import database
from airflow_provider_sms.ledger.database import Ledger, aware, naive, read_url
from airflow_provider_sms.ledger.errors import LedgerError, LedgerUnreachableError, LedgerUsageError
from airflow_provider_sms.ledger.schema import batch_table, ledger_table, receipt_table


class TestOnEachDatabase:
    def test_the_clock_is_utc_and_comes_back_as_it_was_written(self, any_ledger: Ledger) -> None:
        before = datetime.now(UTC) - timedelta(seconds=2)
        with any_ledger.writing() as connection:
            now = any_ledger.now(connection)
            connection.execute(update(ledger_table).values(created_at=now))
            assert connection.execute(select(ledger_table.c.created_at)).scalar_one() == now
        assert before < aware(now) < datetime.now(UTC) + timedelta(seconds=2)
        assert naive(aware(now)) == now

    def test_the_clock_compares_with_what_is_stored(self, any_ledger: Ledger) -> None:
        for difference, is_over in ((timedelta(seconds=-5), True), (timedelta(seconds=5), False)):
            with any_ledger.writing() as connection:
                time = any_ledger.now(connection) + difference
                connection.execute(update(ledger_table).values(created_at=time))
                over = select(ledger_table.c.id).where(ledger_table.c.created_at <= any_ledger.clock)
                assert (connection.execute(over).first() is not None) is is_over

    def test_what_fails_leaves_nothing(self, any_ledger: Ledger) -> None:
        def fail() -> None:
            with any_ledger.writing() as connection:
                connection.execute(update(ledger_table).values(created_at=datetime(2000, 1, 1)))  # noqa: DTZ001
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        with any_ledger.reading() as connection:
            assert connection.execute(select(ledger_table.c.created_at)).scalar_one().year > 2000

    def test_a_reader_does_not_keep_a_writer_waiting(self, any_ledger: Ledger) -> None:
        with any_ledger.reading() as reader:
            reader.execute(select(ledger_table)).all()
            with any_ledger.writing() as writer:
                writer.execute(update(ledger_table).values(created_at=datetime(2001, 1, 1)))  # noqa: DTZ001

    def test_writers_at_once_lose_nothing(self, any_ledger: Ledger) -> None:
        def count() -> None:
            for _ in range(25):
                with any_ledger.writing() as connection:
                    query = select(ledger_table.c.created_at).with_for_update()
                    time = connection.execute(query).scalar_one()
                    connection.execute(update(ledger_table).values(created_at=time + timedelta(days=1)))

        with any_ledger.writing() as connection:
            connection.execute(update(ledger_table).values(created_at=datetime(2001, 1, 1)))  # noqa: DTZ001
        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        with any_ledger.reading() as connection:
            found = connection.execute(select(ledger_table.c.created_at)).scalar_one()
        assert found == datetime(2001, 1, 1) + timedelta(days=100)  # noqa: DTZ001

    def test_a_task_id_is_case_sensitive(self, any_ledger: Ledger) -> None:
        with any_ledger.writing() as connection:
            for taskid in ("abc", "ABC", "Abc "):
                values = {"mobile": "13800130001", "taskid": taskid, "received_at": any_ledger.clock, "digest": "1"}
                connection.execute(insert(receipt_table).values(values))
            found = select(receipt_table.c.taskid).where(receipt_table.c.taskid == "ABC")
            assert connection.execute(found).scalars().all() == ["ABC"]

    def test_rare_characters_come_back(self, any_ledger: Ledger) -> None:
        with any_ledger.writing() as connection:
            values = {"mobile": "𠮷😀", "taskid": "x", "received_at": any_ledger.clock, "digest": "1"}
            connection.execute(insert(receipt_table).values(values))
            assert connection.execute(select(receipt_table.c.mobile)).scalar_one() == "𠮷😀"

    def test_what_does_not_fit_is_refused_without_showing_it(self, any_ledger: Ledger) -> None:
        if any_ledger.kind == "sqlite":
            pytest.skip("SQLite keeps texts of any length")
        values = {"mobile": "13800130001" * 20, "taskid": "x", "received_at": any_ledger.clock, "digest": "1"}
        with pytest.raises(LedgerError) as error, any_ledger.writing() as connection:
            connection.execute(insert(receipt_table).values(values))
        assert "13800130001" not in str(error.value)

    def test_a_table_that_is_not_there_is_no_passing_trouble(self, any_ledger: Ledger) -> None:
        with pytest.raises(LedgerError) as error, any_ledger.reading() as connection:
            connection.execute(text("SELECT 1 FROM sms_nothing"))
        if any_ledger.kind != "sqlite":  # whose driver calls everything operational
            assert not isinstance(error.value, LedgerUnreachableError)

    def test_a_forked_child_opens_connections_of_its_own(self, any_ledger: Ledger) -> None:
        with any_ledger.reading() as connection:
            connection.execute(select(ledger_table)).all()
        child = os.fork()
        if child == 0:
            with any_ledger.writing() as connection:
                connection.execute(update(ledger_table).values(created_at=datetime(2002, 1, 1)))  # noqa: DTZ001
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        with any_ledger.reading() as connection:
            assert connection.execute(select(ledger_table.c.created_at)).scalar_one().year == 2002


class TestSqlite:
    def test_it_waits_for_the_disk_at_every_commit(self, ledger: Ledger) -> None:
        with ledger.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2

    def test_a_file_that_is_no_database_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "ledger.db").write_text("no database at all, but long enough to look at" * 100)
        ledger = Ledger(read_url(f"sqlite:///{tmp_path}/ledger.db"))
        said = r"ledger\.db\) refuses a step: file is not a database\.$"
        with pytest.raises(LedgerError, match=said), ledger.reading() as connection:
            connection.execute(select(ledger_table))

    def test_a_lock_that_is_held_too_long_is_passing_trouble(
        self, ledger_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.1)
        ledger = Ledger(read_url(f"sqlite:///{ledger_file}"))
        other = sqlite3.connect(ledger_file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnreachableError, match="locked"), ledger.writing():
            raise AssertionError
        other.close()


def test_a_server_that_is_away_is_passing_trouble_and_shows_no_password(postgresql_url: str) -> None:
    url = read_url(postgresql_url).set(port=9, password="fake-password-of-nobody")
    ledger = Ledger(url)
    with pytest.raises(LedgerUnreachableError) as error, ledger.reading():
        raise AssertionError
    assert "postgresql on 127.0.0.1" in str(error.value)
    assert "fake-password" not in str(error.value) + repr(ledger)


@pytest.mark.parametrize("url", ["", "nonsense", "oracle://host/x", "mssql+pyodbc://host/x", "postgresql:/x"])
def test_what_can_not_be_the_ledger_is_refused(url: str) -> None:
    with pytest.raises(LedgerUsageError, match=r"^\[sms\] sql_alchemy_conn: "):
        read_url(url)


def test_mariadb_is_mysql() -> None:
    assert read_url("mariadb+pymysql://host/x").drivername == "mysql+pymysql"


def test_an_engine_hides_its_parameters(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "sqlalchemy.engine"), ledger.writing() as connection:
        connection.execute(update(batch_table).values(message="13800130001"))
    assert "13800130001" not in caplog.text
