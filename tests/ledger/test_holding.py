"""A thread that keeps its connection between transactions: once opened, given up after whatever fails, never stale."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text, update

from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.errors import LedgerError, LedgerUnreachableError
from airflow_provider_sms.ledger.schema import ledger_table
from tests.support.databases import Server


@pytest.fixture
def counts(any_ledger: Ledger) -> Counter[str]:
    """How often a connection was taken from the engine, and given back."""
    return counted(any_ledger)


def counted(ledger: Ledger) -> Counter[str]:
    counts: Counter[str] = Counter()

    def taken(*others: object) -> None:
        counts["taken"] += 1

    def given_back(*others: object) -> None:
        counts["given back"] += 1

    event.listen(ledger.engine, "checkout", taken)
    event.listen(ledger.engine, "checkin", given_back)
    return counts


def write(ledger: Ledger, year: int) -> None:
    with ledger.writing() as connection:
        connection.execute(update(ledger_table).values(created_at=datetime(year, 1, 1)))  # noqa: DTZ001


def write_and_fail(ledger: Ledger, year: int) -> None:
    with ledger.writing() as connection:
        connection.execute(update(ledger_table).values(created_at=datetime(year, 1, 1)))  # noqa: DTZ001
        raise ZeroDivisionError


def write_at_once(ledger: Ledger, year: int) -> None:
    with ledger.at_once() as connection:
        connection.execute(update(ledger_table).values(created_at=datetime(year, 1, 1)))  # noqa: DTZ001


def read(ledger: Ledger) -> int:
    with ledger.reading() as connection:
        return int(connection.execute(select(ledger_table.c.created_at)).scalar_one().year)


class TestReuse:
    def test_one_connection_serves_all_transactions_of_the_thread(
        self, any_ledger: Ledger, counts: Counter[str]
    ) -> None:
        with any_ledger.holding():
            for year in range(2001, 2006):
                write(any_ledger, year)
                assert read(any_ledger) == year
            assert counts == {"taken": 1}
        assert counts == {"taken": 1, "given back": 1}

    def test_without_it_each_has_its_own(self, any_ledger: Ledger, counts: Counter[str]) -> None:
        with any_ledger.holding():
            read(any_ledger)
        read(any_ledger)
        read(any_ledger)
        assert counts == {"taken": 3, "given back": 3}

    def test_nothing_is_opened_for_a_thread_that_asks_nothing(self, any_ledger: Ledger, counts: Counter[str]) -> None:
        with any_ledger.holding():
            pass
        assert counts == {}

    def test_it_is_given_back_however_the_block_ends(self, any_ledger: Ledger, counts: Counter[str]) -> None:
        def fail() -> None:
            with any_ledger.holding():
                read(any_ledger)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert counts == {"taken": 1, "given back": 1}

    def test_what_others_have_committed_since_is_seen(self, any_ledger: Ledger) -> None:
        other = Ledger(any_ledger.url)
        with any_ledger.holding():
            for year in (2001, 2002):
                write(other, year)
                assert read(any_ledger) == year
        other.close()

    def test_another_thread_does_not_get_it(self, any_ledger: Ledger, counts: Counter[str]) -> None:
        both = threading.Barrier(2, timeout=30)

        def hold() -> None:
            with any_ledger.holding():
                read(any_ledger)
                both.wait()
                read(any_ledger)

        thread = threading.Thread(target=hold)
        thread.start()
        hold()
        thread.join(30)
        assert counts == {"taken": 2, "given back": 2}

    def test_nor_does_a_transaction_within_one(self, any_ledger: Ledger, counts: Counter[str]) -> None:
        with any_ledger.holding():
            with any_ledger.reading() as connection:
                before = connection.execute(select(ledger_table.c.created_at)).scalar_one().year
                write(any_ledger, 2001)
                assert before != 2001
            assert read(any_ledger) == 2001
        assert counts == {"taken": 2, "given back": 2}

    def test_a_forked_child_leaves_it_alone(self, any_ledger: Ledger, counts: Counter[str]) -> None:
        with any_ledger.holding():
            read(any_ledger)
            child = os.fork()
            if child == 0:
                write(any_ledger, 2002)
                os._exit(7 if counts["taken"] == 2 else 8)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            assert read(any_ledger) == 2002
        assert counts == {"taken": 1, "given back": 1}


class TestFailure:
    def test_what_a_step_raises_undoes_it_and_the_next_one_has_a_fresh_connection(
        self, any_ledger: Ledger, counts: Counter[str]
    ) -> None:
        def fail() -> None:
            with any_ledger.writing() as connection:
                connection.execute(update(ledger_table).values(created_at=datetime(2003, 1, 1)))  # noqa: DTZ001
                raise ZeroDivisionError

        with any_ledger.holding():
            write(any_ledger, 2001)
            with pytest.raises(ZeroDivisionError):
                fail()
            assert counts == {"taken": 1, "given back": 1}
            assert read(any_ledger) == 2001
            write(any_ledger, 2002)
        assert counts == {"taken": 2, "given back": 2}

    def test_so_does_what_the_database_refuses(self, any_ledger: Ledger, counts: Counter[str]) -> None:
        with any_ledger.holding():
            with pytest.raises(LedgerError), any_ledger.writing() as connection:
                connection.execute(text("UPDATE sms_nothing SET x = 1"))
            write(any_ledger, 2001)
            assert read(any_ledger) == 2001
        assert counts == {"taken": 2, "given back": 2}


class TestAtOnce:
    """A single statement, with nothing said before and after it."""

    def test_it_holds_and_others_see_it(self, any_ledger: Ledger) -> None:
        for year in (2001, 2002):
            with any_ledger.holding():
                write_at_once(any_ledger, year)
            assert read(any_ledger) == year

    def test_what_comes_after_it_is_a_transaction_again(self, any_ledger: Ledger) -> None:
        with any_ledger.holding():
            write_at_once(any_ledger, 2001)
            with pytest.raises(ZeroDivisionError):
                write_and_fail(any_ledger, 2002)
            assert read(any_ledger) == 2001

    def test_so_is_what_comes_after_one_that_was_refused(self, any_ledger: Ledger) -> None:
        write(any_ledger, 2001)
        with any_ledger.holding():
            with pytest.raises(LedgerError), any_ledger.at_once() as connection:
                connection.execute(text("UPDATE sms_ledger SET no_such_column = 1"))
            with pytest.raises(ZeroDivisionError):
                write_and_fail(any_ledger, 2002)
            assert read(any_ledger) == 2001

    @pytest.mark.parametrize("any_ledger", ["sqlite", "postgresql"], indirect=True)
    def test_the_database_begins_and_ends_it_itself(self, any_ledger: Ledger) -> None:
        with any_ledger.at_once() as connection:
            driver: Any = connection.connection.dbapi_connection
            connection.execute(update(ledger_table).values(created_at=datetime(2001, 1, 1)))  # noqa: DTZ001
            is_over = not driver.in_transaction if any_ledger.kind == "sqlite" else driver.status == 1
            assert is_over
            assert read(any_ledger) == 2001


class TestTheServerIsRestarted:
    @pytest.fixture(params=["postgresql", "mariadb"])
    def ledger(self, request: pytest.FixtureRequest) -> Iterator[Ledger]:
        ledger = Ledger(read_url(request.getfixturevalue(f"{request.param}_url")))
        versions.upgrade(ledger)
        yield ledger
        ledger.close()

    @pytest.fixture
    def restart(self, ledger: Ledger, request: pytest.FixtureRequest) -> Callable[[], None]:
        kind = {"postgresql": "postgresql", "mysql": "mariadb"}[ledger.kind]
        server: Server = request.getfixturevalue(f"{kind}_server")
        others: dict[str, Ledger] = request.getfixturevalue("_served_ledgers")

        def restart() -> None:
            server.stop()
            server.start()
            for each in others.values():
                each.close()

        return restart

    def test_the_step_under_way_fails_as_passing_and_the_next_one_connects_anew(
        self, ledger: Ledger, restart: Callable[[], None]
    ) -> None:
        with ledger.holding():
            write(ledger, 2001)
            restart()
            with pytest.raises(LedgerUnreachableError):
                read(ledger)
            write(ledger, 2002)
            counts = counted(ledger)
            assert read(ledger) == 2002
            assert counts == {}

    def test_in_the_middle_of_a_step_nothing_of_it_is_kept(self, ledger: Ledger, restart: Callable[[], None]) -> None:
        def write_while_it_restarts() -> None:
            with ledger.writing() as connection:
                connection.execute(update(ledger_table).values(created_at=datetime(2003, 1, 1)))  # noqa: DTZ001
                restart()
                connection.execute(select(ledger_table)).all()

        with ledger.holding():
            write(ledger, 2001)
            with pytest.raises(LedgerUnreachableError):
                write_while_it_restarts()
            assert read(ledger) == 2001


class TestTheFileIsMoved:
    def test_nothing_is_written_to_a_file_that_was_taken_away(self, ledger: Ledger, ledger_file: Path) -> None:
        with ledger.holding():
            write(ledger, 2001)
            away = ledger_file.rename(ledger_file.with_name("away.db"))
            with pytest.raises(LedgerUnreachableError, match="is not there any more"):
                write(ledger, 2002)
            assert not ledger_file.exists()
            away.rename(ledger_file)
            assert read(ledger) == 2001
            write(ledger, 2003)
        assert year_in(ledger_file) == 2003

    def test_a_file_in_its_place_is_opened_anew(self, ledger: Ledger, ledger_file: Path) -> None:
        counts = counted(ledger)
        with ledger.holding():
            write(ledger, 2001)
            copy = Path(shutil.copy(ledger_file, ledger_file.with_name("copy.db")))
            old = ledger_file.rename(ledger_file.with_name("old.db"))
            copy.rename(ledger_file)
            write(ledger, 2002)
        assert counts == {"taken": 2, "given back": 2}
        assert year_in(ledger_file) == 2002
        assert year_in(old) != 2002

    def test_a_write_after_a_read_takes_the_lock_at_its_beginning(self, ledger: Ledger, ledger_file: Path) -> None:
        other = sqlite3.connect(ledger_file, isolation_level=None, timeout=0)
        with ledger.holding():
            read(ledger)
            with ledger.writing(), pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
            with ledger.reading():
                other.execute("BEGIN IMMEDIATE")
        other.close()


def year_in(file: Path) -> int:
    """What is in a file for somebody who opens it only now."""
    connection = sqlite3.connect(file)
    (created_at,) = connection.execute("SELECT created_at FROM sms_ledger").fetchone()
    connection.close()
    return int(created_at[:4])
