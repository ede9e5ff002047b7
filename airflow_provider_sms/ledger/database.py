"""The engine: SQLite, PostgreSQL and MySQL behave alike from here up. Knows SQLAlchemy; knows nothing of SMS.

Every step above is one transaction that may be repeated: when a commit fails, nobody knows whether it held.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, overload

from sqlalchemy import Table, create_engine, event, exc, insert, literal_column, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.engine.url import URL
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.elements import ColumnElement

from airflow_provider_sms.ledger.errors import (
    LedgerBusyError,
    LedgerDeadlockError,
    LedgerError,
    LedgerUnreachableError,
    LedgerUsageError,
)
from airflow_provider_sms.ledger.schema import ledger_table
from airflow_provider_sms.ledger.watchdog import Watchdog

BUSY_TIMEOUT = 30.0
CONNECT_TIMEOUT = 10
SILENCE_LIMIT = 60


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the database may keep its user waiting, in seconds; None for as long as it takes.

    :param connect: until a connection stands.
    :param lock: for what somebody else holds; SQLite's whole file is one such thing.
    :param statement: for one statement.
    :param silence: without a sign of life in the middle of a transaction, from either side.
    :param transaction: for one transaction.
    """

    connect: int = CONNECT_TIMEOUT
    lock: float | None = None
    statement: float | None = None
    silence: int = SILENCE_LIMIT
    transaction: float | None = None


_CLOCKS = {
    # SQLite gives three digits of a second; SQLAlchemy writes, and 1.4 reads, six.
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'",
    "postgresql": "(clock_timestamp() AT TIME ZONE 'UTC')",
    "mysql": "UTC_TIMESTAMP(6)",
}
_KINDS: tuple[tuple[re.Pattern[str], type[LedgerUnreachableError]], ...] = (
    (re.compile("deadlock", re.IGNORECASE), LedgerDeadlockError),
    (
        re.compile(
            "is locked|too many (clients|connections)|connection slots|lock timeout|lock wait timeout", re.IGNORECASE
        ),
        LedgerBusyError,
    ),
)
_AWAY = (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError)


def read_url(url: str) -> URL:
    """Read a database's address.

    :param url: as SQLAlchemy writes it, such as `postgresql://user:password@host/name`.
    :raises LedgerUsageError: it is none, or of a database that can not be the ledger.
    """
    try:
        read = make_url(url)
        kind = read.get_backend_name()
    except (exc.ArgumentError, ValueError):
        raise LedgerUsageError(
            "[sms] sql_alchemy_conn: not a database's address; write it like "
            "postgresql+psycopg2://user:password@host/name."
        ) from None
    if kind == "mariadb":
        return read.set(drivername=read.drivername.replace("mariadb", "mysql", 1))
    if kind not in _CLOCKS:
        raise LedgerUsageError(
            f"[sms] sql_alchemy_conn: {kind} can not be the ledger; use PostgreSQL, MySQL or MariaDB."
        )
    return read


class Ledger:
    """One database, as one process uses it.

    :param url: see `read_url`.
    :param limits: how long the database may keep this process waiting.
    """

    def __init__(self, url: URL, limits: Limits | None = None) -> None:
        limits = limits or Limits()
        self.url = url
        self.kind = url.get_backend_name()
        # Times go into the tables as UTC without saying so, and come back the same way.
        self.clock: ColumnElement[datetime] = literal_column(_CLOCKS[self.kind], ledger_table.c.created_at.type)
        try:
            self._engine = _MAKERS[self.kind](url, limits)
        except ModuleNotFoundError as error:
            raise LedgerUsageError(
                f"[sms] sql_alchemy_conn: the driver {error.name} is not installed; psycopg2 comes with "
                "airflow-provider-sms[postgres], pymysql with airflow-provider-sms[mysql]."
            ) from None
        self._pid = os.getpid()
        self._held = _Held()
        self._was_there = False
        self._watchdog: Watchdog | None = None
        if self.kind == "postgresql" and limits.transaction is not None:
            self._watchdog = Watchdog(limits.transaction)

    def __repr__(self) -> str:
        return f"Ledger({self.url.render_as_string(hide_password=True)})"

    @property
    def engine(self) -> Engine:
        """The engine of this process."""
        if self._pid != os.getpid():
            # A connection that two processes share garbles both: the child leaves the parent's alone.
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        return self._engine

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Let this thread keep its connection from one transaction to the next: to open one takes longer than most."""
        held = self._held
        held.is_wanted = True
        try:
            yield
        finally:
            held.is_wanted = False
            if (connection := held.take(held.file)) is not None:
                connection.close()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that writes: all of it or nothing.

        :raises LedgerUnreachableError: nobody knows whether it held; repeat the step.
        """
        with _in_words(self), self._connection(reads=False) as connection, connection.begin():
            yield connection

    @contextmanager
    def at_once(self) -> Iterator[Connection]:
        """The same for a single statement: where the database lets it, nothing is said before and after it.

        :raises LedgerUnreachableError: see `writing`.
        """
        begin = _ALONE.get(self.url.get_driver_name(), _begun)
        with _in_words(self), self._connection(reads=False) as connection, begin(connection) as begun:
            yield begun

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction that only reads, and blocks nobody.

        :raises LedgerUnreachableError: repeat the step.
        """
        with _in_words(self), self._connection(reads=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def _connection(self, *, reads: bool) -> Iterator[Connection]:
        file = self._file()
        connection = self._held.take(file) or self.engine.connect()
        try:
            with self._watched(connection):
                yield connection.execution_options(sms_reading=reads)
        except BaseException:
            # Whatever it has met, the next transaction meets it no more.
            connection.close()
            raise
        if not self._held.keep(connection, file):
            connection.close()

    def _watched(self, connection: Connection) -> AbstractContextManager[None]:
        driver: Any = connection.connection.dbapi_connection
        return nullcontext() if self._watchdog is None else self._watchdog.watching(driver.fileno())

    def _file(self) -> tuple[int, int] | None:
        """Which file SQLite's is: one that was removed or replaced still takes what is written to it, and loses it.

        :raises LedgerUnreachableError: it was there before. To open it would make an empty one, and SQLite would then
            remove the log of the old one, with what was written last.
        """
        if self.kind != "sqlite":
            return None
        try:
            found = Path(str(self.url.database)).stat()
        except OSError:
            if self._was_there:
                raise LedgerUnreachableError(f"The ledger ({_place(self.url)}) is not there any more.") from None
            return None
        self._was_there = True
        return found.st_dev, found.st_ino

    def now(self, connection: Connection) -> datetime:
        """The database's time, UTC without saying so: the one clock that all machines share."""
        return connection.execute(select(self.clock)).scalar_one()

    def insert_new(self, table: Table) -> Any:
        """Write SQL that inserts what is not there yet, and leaves alone what is."""
        match self.kind:
            case "sqlite":
                return insert(table).prefix_with("OR IGNORE")
            case "mysql":
                return insert(table).prefix_with("IGNORE")
        return postgresql_insert(table).on_conflict_do_nothing()

    def close(self) -> None:
        """Close the connections."""
        if self._watchdog is not None:
            self._watchdog.close()
        self._engine.dispose()


class _Held(threading.local):
    """The connection that a thread keeps between its transactions, if it wants to, and the file that it leads to."""

    is_wanted = False
    connection: Connection | None = None
    file: tuple[int, int] | None = None
    pid = 0

    def take(self, file: tuple[int, int] | None) -> Connection | None:
        connection, self.connection = self.connection, None
        if connection is not None and self.pid != os.getpid():
            _PARENTS.append(connection)
            return None
        if connection is not None and file != self.file:
            connection.close()
            return None
        return connection

    def keep(self, connection: Connection, file: tuple[int, int] | None) -> bool:
        if not self.is_wanted or self.connection is not None:
            return False
        self.connection, self.file, self.pid = connection, file, os.getpid()
        return True


_PARENTS: list[Connection] = []
"""Connections that a forked child has found, and neither uses nor lets go: to close them would end them for both."""


@overload
def aware(time: datetime) -> datetime: ...
@overload
def aware(time: None) -> None: ...
def aware(time: datetime | None) -> datetime | None:
    """Say of a time out of the ledger that it is UTC."""
    return None if time is None else time.replace(tzinfo=UTC)


@overload
def naive(time: datetime) -> datetime: ...
@overload
def naive(time: None) -> None: ...
def naive(time: datetime | None) -> datetime | None:
    """Write an aware time as the ledger keeps it."""
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None)


@contextmanager
def _in_words(ledger: Ledger) -> Iterator[None]:
    try:
        yield
    except exc.IntegrityError:
        raise
    except _AWAY as error:
        why = _why(error)
        kind = next((kind for said, kind in _KINDS if said.search(why)), LedgerUnreachableError)
        raise kind(f"The ledger ({_place(ledger.url)}) {why}.") from None
    except exc.SQLAlchemyError as error:
        raise LedgerError(
            f"The ledger ({_place(ledger.url)}) refuses a step: {_why(error).removeprefix('says: ')}."
        ) from None


def _place(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return f"{url.get_backend_name()} on {url.host or 'this machine'}"


def _why(error: exc.SQLAlchemyError) -> str:
    """The database's own first line, which names no parameter: the engine hides them."""
    cause = getattr(error, "orig", None) or error
    if isinstance(error, exc.TimeoutError):
        return "gives no free connection"
    words = [str(each) for each in cause.args if isinstance(each, str)] or [str(cause)]
    return f"says: {' '.join(words).strip().splitlines()[0][:200]}" if words[0].strip() else type(cause).__name__


def _make_sqlite(url: URL, limits: Limits) -> Engine:
    # No pool: a connection belongs to the thread and the process that opened it.
    engine = create_engine(
        url,
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT if limits.lock is None else limits.lock, "isolation_level": None},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        # A claim that is not on the disk when the request leaves is no claim.
        connection.execute("PRAGMA synchronous=FULL")
        # To copy the log into the file waits for the disk twice more, whoever's commit it falls to: every 20 MB.
        connection.execute("PRAGMA wal_autocheckpoint=5000")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("sms_alone"):
            return
        reads = options.get("sms_reading")
        # A transaction that begins by reading fails "locked" as soon as it writes beside another one.
        connection.exec_driver_sql("BEGIN DEFERRED" if reads else "BEGIN IMMEDIATE")

    return engine


def _make_postgresql(url: URL, limits: Limits) -> Engine:
    libpq = {
        "connect_timeout": limits.connect,
        "keepalives_idle": min(10, limits.silence),
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": limits.silence * 1000,
    }
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=4,
        max_overflow=32,
        isolation_level="READ COMMITTED",
        connect_args=libpq if url.get_driver_name() in ("psycopg2", "psycopg") else {},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
        # A process that stands still in the middle of a claim must not keep all others waiting for its locks.
        cursor.execute(f"SET idle_in_transaction_session_timeout = {limits.silence * 1000}")
        for name, seconds in (("lock_timeout", limits.lock), ("statement_timeout", limits.statement)):
            if seconds is not None:
                cursor.execute(f"SET {name} = {round(seconds * 1000)}")
        connection.commit()
        cursor.close()

    return engine


def _make_mysql(url: URL, limits: Limits) -> Engine:
    silence = {"connect_timeout": limits.connect, "read_timeout": limits.silence, "write_timeout": limits.silence}
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=4,
        max_overflow=32,
        # A claim has to see what others have just committed.
        isolation_level="READ COMMITTED",
        connect_args=silence if url.get_driver_name() in ("pymysql", "mysqldb") else {},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')")
        if limits.lock is not None:
            seconds = max(1, round(limits.lock))
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {seconds}, lock_wait_timeout = {seconds}")
        cursor.close()

    return engine


@contextmanager
def _begun(connection: Connection) -> Iterator[Connection]:
    with connection.begin():
        yield connection


@contextmanager
def _alone_in_sqlite(connection: Connection) -> Iterator[Connection]:
    # SQLAlchemy 1.4 gives another connection, which alone is in the transaction.
    alone = connection.execution_options(sms_alone=True)
    with alone.begin():
        try:
            yield alone
        finally:
            alone.execution_options(sms_alone=False)


@contextmanager
def _alone_by_libpq(connection: Connection) -> Iterator[Connection]:
    driver: Any = connection.connection.dbapi_connection
    driver.autocommit = True
    try:
        with connection.begin():
            yield connection
        driver.autocommit = False
    except BaseException:
        connection.invalidate()
        raise


_ALONE = {"pysqlite": _alone_in_sqlite, "psycopg2": _alone_by_libpq, "psycopg": _alone_by_libpq}
_MAKERS = {"sqlite": _make_sqlite, "postgresql": _make_postgresql, "mysql": _make_mysql}
