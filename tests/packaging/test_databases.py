"""The database servers that tests run on are real, private, and leave nothing behind."""

from __future__ import annotations

import concurrent.futures
import contextlib
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy
from sqlalchemy.pool import NullPool

from tests.support.databases import MariaDB, NotInstalled, PostgreSQL, Server, installed

pytestmark = pytest.mark.once

KINDS = [PostgreSQL, MariaDB]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with installed(request.param) as server:
        yield server


def engine_of(url: str) -> sqlalchemy.engine.Engine:
    return sqlalchemy.create_engine(url, poolclass=NullPool)


def tables(url: str) -> list[str]:
    return sqlalchemy.inspect(engine_of(url)).get_table_names()


def create_table(url: str) -> None:
    with engine_of(url).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE texts (content VARCHAR(40) PRIMARY KEY)")


def values(url: str, query: str) -> list[object]:
    with engine_of(url).connect() as connection:
        return [value for (value,) in connection.exec_driver_sql(query)]


def ask_each(server: Server, question: Callable[[psutil.Process], Any]) -> list[Any]:
    """What the server's processes answer, but for those that have just ended, as a client's does when it leaves."""
    answers = []
    for process in server.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            answers.append(question(process))
    assert answers
    return answers


class TestDatabase:
    def test_it_is_empty_each_time_and_gone_afterwards(self, server: Server) -> None:
        with server.database() as one:
            create_table(one)
            with server.database() as other:
                assert tables(one) == ["texts"]
                assert tables(other) == []
                assert len(server.databases()) == 2
        assert server.databases() == set()

    def test_it_is_dropped_under_those_who_still_use_it(self, server: Server) -> None:
        with server.database() as url:
            create_table(url)
            connection = engine_of(url).connect()
            connection.begin()
            connection.exec_driver_sql("INSERT INTO texts VALUES ('open')")
        assert server.databases() == set()
        with pytest.raises(sqlalchemy.exc.DBAPIError):
            connection.exec_driver_sql("SELECT 1")
        connection.invalidate()

    def test_it_tells_every_two_texts_apart_and_keeps_them(self, server: Server) -> None:
        texts = ["a", "A", "ä", "验证码", "😀", "😁"]
        with server.database() as url:
            create_table(url)
            with engine_of(url).begin() as connection:
                for text in texts:
                    connection.execute(sqlalchemy.text("INSERT INTO texts VALUES (:text)"), {"text": text})
            assert sorted(map(str, values(url, "SELECT content FROM texts"))) == sorted(texts)


class TestServer:
    def test_it_listens_on_the_loopback_alone(self, server: Server) -> None:
        connections = ask_each(server, lambda process: process.net_connections("inet"))
        listening = {each.laddr for some in connections for each in some if each.status == psutil.CONN_LISTEN}
        assert listening == {("127.0.0.1", server.port)}

    def test_it_does_not_run_as_root(self, server: Server) -> None:
        assert "root" not in ask_each(server, lambda process: process.username())

    def test_its_data_outlive_a_stop(self, server: Server) -> None:
        with server.database() as url:
            create_table(url)
            processes = server.processes()
            server.stop()
            assert not any(process.is_running() for process in processes)
            with pytest.raises(sqlalchemy.exc.OperationalError):
                tables(url)
            server.start()
            assert tables(url) == ["texts"]

    def test_frozen_it_keeps_everybody_waiting(self, server: Server) -> None:
        with server.database() as url, concurrent.futures.ThreadPoolExecutor() as pool:
            server.freeze()
            try:
                answer = pool.submit(values, url, "SELECT 1")
                with pytest.raises(concurrent.futures.TimeoutError):
                    answer.result(0.3)
            finally:
                server.thaw()
            assert answer.result(30) == [1]

    @pytest.mark.parametrize("leave", ["stop", "freeze"])
    def test_a_test_may_leave_it_stopped_or_frozen(self, server: Server, leave: str) -> None:
        with server.database():
            getattr(server, leave)()
        assert server.databases() == set()


def test_postgresql_is_as_durable_as_elsewhere(postgresql_url: str) -> None:
    shown = [values(postgresql_url, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "max_connections")]
    assert shown == [["on"], ["on"], ["100"]]


def test_mariadb_is_as_durable_as_elsewhere(mariadb_url: str) -> None:
    assert values(mariadb_url, "SELECT @@innodb_flush_log_at_trx_commit") == [1]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
class TestEnd:
    def test_nothing_is_left(self, kind: type[Server]) -> None:
        with installed(kind) as server, server.database():
            folder, processes = server.folder, server.processes()
            server.freeze()
        assert processes
        assert not any(process.is_running() for process in processes)
        assert not folder.exists()

    def test_nothing_is_left_where_it_does_not_start(self, kind: type[Server], monkeypatch: pytest.MonkeyPatch) -> None:
        server = installed(kind)
        folder = Path(tempfile.mkdtemp())
        monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(folder))
        with socket.socket() as other:
            other.bind(("127.0.0.1", server.port))
            with pytest.raises(AssertionError, match="does not start") as caught, server:
                pass
        # The end of the server's own log.
        assert "ddress already in use" in str(caught.value)
        assert not server.running
        assert not folder.exists()


class Absent(PostgreSQL):
    def __init__(self) -> None:
        raise NotInstalled("apt-get install postgresql")


def test_where_a_server_is_not_installed_the_test_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMS_REQUIRE_DATABASES", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install postgresql"):
        installed(Absent)


def test_or_fails_where_servers_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMS_REQUIRE_DATABASES", "1")
    with pytest.raises(pytest.fail.Exception, match="apt-get install postgresql"):
        installed(Absent)


def test_the_ledger_s_database_is_of_each_kind(ledger_url: str, request: pytest.FixtureRequest) -> None:
    kinds = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg2", "mariadb": "mysql+pymysql"}
    engine = engine_of(ledger_url)
    assert f"{engine.dialect.name}+{engine.dialect.driver}" == kinds[request.node.callspec.id]
    assert tables(ledger_url) == []
