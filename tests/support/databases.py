"""Real database servers for tests: private ones on the loopback, started on first use, gone with the test run."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import psutil
import pytest
import sqlalchemy
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from tests.support.shared import made_once
from tests.support.simulator import wait_until

USER = "sms"
PASSWORD = "FAKE-DATABASE-PASSWORD"


class NotInstalled(Exception):
    """There is no such server on this machine; the text says what to install."""


class Server:
    """A server in a folder of its own. `with PostgreSQL() as server, server.database() as url:` gives a database.

    :raises NotInstalled: one of its programs is missing.
    """

    package: ClassVar[str]
    account: ClassVar[str]
    _ending = signal.SIGTERM

    def __init__(self) -> None:
        self.port = _free_port()
        self._names = (f"test_{number}" for number in itertools.count(1))
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    @property
    def folder(self) -> Path:
        assert self._folder is not None, "it was never started"
        return self._folder

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, seconds: float = 60) -> None:
        """Start it, or start it again with its data and on its port, and wait until it answers."""
        if self.running:
            return
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="airflow-sms-database-"))
            self._fill()
        self._process = self._popen(self._command())
        try:
            wait_until(lambda: self._answers() or not self.running, seconds)
            assert self.running
        except AssertionError:
            problem = self.log()
            self.stop()
            raise AssertionError(f"{type(self).__name__} does not start:\n{problem}") from None

    def stop(self, seconds: float = 30) -> None:
        """End it by its own process id, as its administrator would; clients are cut off. May be called twice."""
        if self._process is None or not self.running:
            return
        self.thaw()
        everyone = self.processes()
        self._process.send_signal(self._ending)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            for each in everyone:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            self._process.wait(seconds)

    def remove(self) -> None:
        """End it, and remove its folder with all data."""
        self.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def freeze(self) -> None:
        """Let it accept connections and answer nothing, until `thaw()`."""
        main = self.processes()[0]
        main.suspend()
        # Only then it has no more children to come.
        wait_until(lambda: main.status() == psutil.STATUS_STOPPED)
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on. May be called at any time."""
        self._signal_all(signal.SIGCONT)

    def processes(self) -> list[psutil.Process]:
        """The server's process, and then its children."""
        if self._process is None or not self.running:
            return []
        main = psutil.Process(self._process.pid)
        return [main, *main.children(recursive=True)]

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a fresh, empty database; it is dropped at the end, whoever still uses it."""
        self.start()
        name = next(self._names)
        with self._administration() as connection:
            self._create(connection, name)
        try:
            yield self.url(name)
        finally:
            # A test may have left the server stopped or frozen.
            self.thaw()
            self.start()
            with self._administration() as connection:
                self._drop(connection, name)

    def databases(self) -> set[str]:
        """The names of those that `database()` made and that are not dropped yet."""
        with self._administration() as connection:
            return {name for (name,) in connection.exec_driver_sql(self._list) if name.startswith("test_")}

    def log(self, lines: int = 20) -> str:
        """The end of what it wrote."""
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-lines:])

    # What each kind does in its own way

    _list: ClassVar[str]
    _home: ClassVar[str]
    _bounds: ClassVar[dict[str, int]]

    def url(self, name: str) -> str:
        """The URL of a database."""
        raise NotImplementedError

    def _prepare(self) -> None:
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _create(self, connection: Connection, name: str) -> None:
        raise NotImplementedError

    def _drop(self, connection: Connection, name: str) -> None:
        raise NotImplementedError

    # Helpers

    def _fill(self) -> None:
        """Bring in the files of a new server: in a test run made once, since copies of them take less."""
        if "SMS_TESTS_SHARED" not in os.environ:
            self._prepare()
            return
        made = made_once(type(self).__name__, self._prepare_for_all)
        if not (self.folder / "data").exists():
            _copy(made, self.folder)

    def _prepare_for_all(self, folder: Path) -> None:
        self._prepare()
        _copy(self.folder, folder)

    @contextlib.contextmanager
    def _administration(self) -> Iterator[Connection]:
        engine = sqlalchemy.create_engine(
            self.url(self._home), poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=self._bounds
        )
        with engine.connect() as connection:
            yield connection

    def _answers(self) -> bool:
        try:
            with self._administration():
                return True
        except DBAPIError:
            return False

    def _signal_all(self, number: signal.Signals) -> None:
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(number)

    def _write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.write_text(text)
        return file

    def _run(self, command: list[str]) -> None:
        process = self._popen(command)
        try:
            status = process.wait(120)
        finally:
            process.kill()
        assert status == 0, f"{command[0]}: status {status}\n{self.log()}"

    def _popen(self, command: list[str]) -> subprocess.Popen[bytes]:
        person = self._person()
        if person is not None:
            for each in (self.folder, *self.folder.iterdir()):
                os.chown(each, person.pw_uid, person.pw_gid)
        account: dict[str, Any] = {}
        if person is not None:
            account = {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, "HOME": str(self.folder), "TMPDIR": str(self.folder), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the tests; they stop the server when they have come to their end.
                start_new_session=True,
                **account,
            )

    def _person(self) -> pwd.struct_passwd | None:
        """Whom to be instead of root, as whom no server should run."""
        if os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam(self.account)
        except KeyError:
            return pwd.getpwnam("nobody")


class PostgreSQL(Server):
    """PostgreSQL, with the durability that it has by itself."""

    package = "postgresql"
    account = "postgres"
    # "Fast": without waiting for clients to leave.
    _ending = signal.SIGINT
    _list = "SELECT datname FROM pg_database"
    _home = "postgres"
    _bounds: ClassVar = {"connect_timeout": 10}

    def __init__(self) -> None:
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda each: float(each.parent.name))
        self._initdb = _program("initdb", folders=folders[::-1], package=self.package)
        self._postgres = _program("postgres", folders=folders[::-1], package=self.package)
        super().__init__()

    def url(self, name: str) -> str:
        return f"postgresql+psycopg2://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def _prepare(self) -> None:
        password = self._write("password", PASSWORD)
        options = ["--auth=scram-sha-256", f"--username={USER}", f"--pwfile={password}", "--encoding=UTF8"]
        self._run([self._initdb, *options, "--no-locale", "--no-sync", "-D", str(self.folder / "data")])

    def _command(self) -> list[str]:
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "100"}
        command = [self._postgres, "-D", str(self.folder / "data"), "-p", str(self.port)]
        return command + [f"--{name}={value}" for name, value in settings.items()]

    def _create(self, connection: Connection, name: str) -> None:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0")

    def _drop(self, connection: Connection, name: str) -> None:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


class MariaDB(Server):
    """MariaDB, or MySQL where only that is installed."""

    package = "mariadb-server"
    account = "mysql"
    _list = "SHOW DATABASES"
    _home = "mysql"
    _bounds: ClassVar = {"connect_timeout": 10, "read_timeout": 30}

    def __init__(self) -> None:
        folders = [Path("/usr/sbin"), Path("/usr/libexec")]
        self._server = _program("mariadbd", "mysqld", folders=folders, package=self.package)
        self._installer: list[str]
        try:
            self._installer = [_program("mariadb-install-db", "mysql_install_db", package=self.package)]
        except NotInstalled:
            self._installer = [self._server, "--initialize-insecure"]
        super().__init__()

    def url(self, name: str) -> str:
        return f"mysql+pymysql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{name}?charset=utf8mb4"

    def _prepare(self) -> None:
        who = f"'{USER}'@'127.0.0.1'"
        self._write(
            "start.sql",
            f"CREATE USER IF NOT EXISTS {who} IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO {who};\n",
        )
        self._run([self._installer[0], "--no-defaults", *self._installer[1:], f"--datadir={self.folder / 'data'}"])

    def _command(self) -> list[str]:
        return [
            self._server,
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--socket={self.folder / 'socket'}",
            f"--init-file={self.folder / 'start.sql'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--loose-mysqlx=OFF",
        ]

    def _create(self, connection: Connection, name: str) -> None:
        connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")

    def _drop(self, connection: Connection, name: str) -> None:
        users = f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"
        for (user,) in connection.exec_driver_sql(users).all():
            with contextlib.suppress(DBAPIError):  # it has just left
                connection.exec_driver_sql(f"KILL {user}")
        connection.exec_driver_sql(f"DROP DATABASE {name}")


def _copy(folder: Path, other: Path) -> None:
    # With its owners, unlike shutil.
    subprocess.run(["cp", "-a", f"{folder}/.", str(other)], check=True)


def _program(*names: str, package: str, folders: list[Path] | None = None) -> str:
    path = os.pathsep.join([*os.get_exec_path(), *map(str, folders or [])])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise NotInstalled(f"there is no {names[0]} here: apt-get install {package}")


def _free_port() -> int:
    """One below those that the system hands out, so that it stays free while the server is stopped."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


AnyServer = TypeVar("AnyServer", bound=Server)


def installed(kind: type[AnyServer]) -> AnyServer:
    """A server of that kind, not started; where it is not installed the test is skipped.

    With SMS_REQUIRE_DATABASES=1 in the environment the test fails instead.
    """
    try:
        return kind()
    except NotInstalled as reason:
        text = str(reason)
    if os.environ.get("SMS_REQUIRE_DATABASES") == "1":
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    """The test run's PostgreSQL; a test that stopped or froze it may leave that to the next."""
    with installed(PostgreSQL) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[MariaDB]:
    """The test run's MariaDB, likewise."""
    with installed(MariaDB) as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: PostgreSQL) -> Iterator[str]:
    """A fresh database in PostgreSQL."""
    with postgresql_server.database() as url:
        yield url


@pytest.fixture
def mariadb_url(mariadb_server: MariaDB) -> Iterator[str]:
    """A fresh database in MariaDB."""
    with mariadb_server.database() as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_session_url(postgresql_server: PostgreSQL) -> Iterator[str]:
    """A database in PostgreSQL for tests that leave it as they found it."""
    with postgresql_server.database() as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_session_url(mariadb_server: MariaDB) -> Iterator[str]:
    """A database in MariaDB for tests that leave it as they found it."""
    with mariadb_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh database of each kind that the ledger runs on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url
