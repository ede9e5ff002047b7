"""Fixtures that many tests share: the platform in its own process, a connection to it, a task's context."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert
from sqlalchemy.engine import URL, Engine

from airflow_provider_sms.alarm_memory import MEMORY
from airflow_provider_sms.ledger import database as database_module
from airflow_provider_sms.ledger import sqlite_file, versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.errors import LedgerError
from airflow_provider_sms.ledger.schema import ledger_table, metadata
from tests.support.campaigns import Campaigns
from tests.support.simulator import Simulator

APP_KEY = "FAKE-APP-KEY-5d41402a"
SetConnection = Callable[..., None]
Database = Callable[..., None]


@pytest.fixture(scope="session")
def _simulator() -> Iterator[Simulator]:
    with Simulator(app_id="FAKE-APP-ID", app_key=APP_KEY) as simulator:
        yield simulator


@pytest.fixture
def simulator(_simulator: Simulator) -> Simulator:
    """The platform, as after its start, and nothing remembered of what it was sent."""
    MEMORY.clear()
    _simulator.reset()
    return _simulator


@pytest.fixture(autouse=True)
def _nothing_masked() -> None:
    """What Airflow hides in logs is one pattern of all secrets so far, compiled anew with each more: it would grow."""
    for masker in _maskers():
        masker.patterns, masker.replacer = set(), None


def _maskers() -> list[Any]:
    """Airflow's own and the one of tasks; which module holds them differs by version."""
    modules = [module for name, module in list(sys.modules.items()) if name.endswith(".secrets_masker")]
    found = [vars(module).get("_secrets_masker") for module in modules]
    return [masker() for masker in found if masker is not None]


@pytest.fixture
def set_connection(monkeypatch: pytest.MonkeyPatch) -> SetConnection:
    """Define a connection by environment, as a person would."""

    def set_connection(conn_id: str = "sms_default", **fields: Any) -> None:
        fields = {"conn_type": "sms", **fields}
        if isinstance(fields.get("extra"), dict):
            fields["extra"] = json.dumps(fields["extra"])
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    return set_connection


def sqlite(path: Path, factory: Any = sqlite3.Connection) -> Callable[[], sqlite3.Connection]:
    """Makes connections to a SQLite file, for `database`."""
    return lambda: sqlite3.connect(path, factory=factory)


@pytest.fixture
def database(set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The connection `warehouse` leads to a hook whose database connections are made by a function."""
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    def database(connect: Callable[[], Any], conn_type: str = "sqlite") -> None:
        class Hook(DbApiHook):
            conn_name_attr = "warehouse_conn_id"

            def get_conn(self) -> Any:
                return connect()

        set_connection("warehouse", conn_type=conn_type)
        for kind in connection_classes():
            monkeypatch.setattr(kind, "get_hook", lambda self: Hook(self.conn_id))

    return database


def connection_classes() -> list[Any]:
    """What connections are: on Airflow 3 the ones of a task are of a class of their own."""
    from airflow.models import Connection

    try:
        from airflow.sdk.definitions.connection import Connection as TaskConnection
    except ImportError:
        return [Connection]
    return [Connection, TaskConnection]


class _CompiledStatements(dict[Any, Any]):
    """Statements as compiled for SQLite, whichever engine asks: each test has one of its own, if not several."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key[1:], default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(key[1:], compiled)


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    """To compile a statement takes longer than to carry it out."""
    compiled = _CompiledStatements()
    make = database_module.create_engine

    def create_engine(url: URL, **options: Any) -> Engine:
        if url.get_backend_name() == "sqlite":
            options["execution_options"] = {"compiled_cache": compiled}
        return make(url, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database_module, "create_engine", create_engine)
        yield


@pytest.fixture(scope="session")
def _new_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger that nobody has used; making one takes longer than copying it."""
    path = tmp_path_factory.mktemp("ledger") / "new.db"
    sqlite_file.make(path)
    return path


@pytest.fixture
def ledger_file(_new_ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A ledger of the test's own, which `[sms]` names: a SQLite file."""
    path = Path(shutil.copy(_new_ledger, tmp_path / "ledger.db"))
    monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", f"sqlite:///{path}")
    with _kept_open(path):
        yield path


@contextmanager
def _kept_open(file: Path) -> Iterator[None]:
    """Whoever closes a SQLite file as the last one tidies it up, after each single step if nobody else has it open."""
    with closing(sqlite3.connect(file)) as another:
        another.execute("SELECT 1 FROM sms_ledger").fetchall()
        yield


@pytest.fixture
def ledger(ledger_file: Path) -> Iterator[Ledger]:
    """The same ledger, open."""
    ledger = Ledger(read_url(f"sqlite:///{ledger_file}"))
    yield ledger
    ledger.close()


@pytest.fixture(scope="session")
def _served_ledgers() -> Iterator[dict[str, Ledger]]:
    """By kind, the ledgers on servers that tests have asked for: making the tables takes longer than emptying them."""
    ledgers: dict[str, Ledger] = {}
    yield ledgers
    for ledger in ledgers.values():
        ledger.close()


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def any_ledger(
    request: pytest.FixtureRequest, _new_ledger: Path, _served_ledgers: dict[str, Ledger], tmp_path: Path
) -> Iterator[Ledger]:
    """An open ledger that nobody has used, of each kind."""
    kind: str = request.param
    if kind == "sqlite":
        path = shutil.copy(_new_ledger, tmp_path / "any_ledger.db")
        ledger = Ledger(read_url(f"sqlite:///{path}"))
        with _kept_open(Path(path)):
            yield ledger
        ledger.close()
        return
    if kind not in _served_ledgers:
        _served_ledgers[kind] = Ledger(read_url(request.getfixturevalue(f"{kind}_session_url")))
        versions.upgrade(_served_ledgers[kind])
    _drop_dead_lines(_served_ledgers[kind])
    yield _served_ledgers[kind]
    with _served_ledgers[kind].writing() as connection:
        for table in metadata.sorted_tables:
            connection.execute(delete(table))
        now = _served_ledgers[kind].now(connection)
        connection.execute(insert(ledger_table).values(id=1, created_at=now, secret="FAKE-SECRET"))


def _drop_dead_lines(ledger: Ledger) -> None:
    """Another test may have stopped the server, and started it again. Lines that live are kept: a new one is dear."""
    try:
        with ledger.reading() as connection:
            ledger.now(connection)
    except LedgerError:
        ledger.close()


@pytest.fixture
def campaigns(ledger: Ledger) -> Campaigns:
    """Runs tries of campaigns in that ledger."""
    return Campaigns(ledger)


@pytest.fixture
def connection(ledger_file: Path, simulator: Simulator, set_connection: SetConnection) -> Callable[..., None]:
    """`sms_default` leads to the simulator; call it to change fields or extras."""

    def change(conn_id: str = "sms_default", **changes: Any) -> None:
        extra = changes.pop("extra", {})
        fields = {"host": simulator.base_url, "login": simulator.app_id, "password": simulator.app_key}
        set_connection(conn_id, **{**fields, **changes}, extra=extra)

    change()
    return change


class TaskInstance:
    """As much of a task instance as an operator touches."""

    dag_id = "dag"
    run_id = "run"
    task_id = "send"

    def __init__(self, map_index: int = -1, try_number: int = 1) -> None:
        self.map_index = map_index
        self.try_number = try_number
        self.pushed: list[tuple[str, Any]] = []

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed.append((key, json.loads(json.dumps(value))))


@pytest.fixture
def ti() -> TaskInstance:
    return TaskInstance()


@pytest.fixture
def context(ti: TaskInstance) -> dict[str, Any]:
    return {"ti": ti}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """All that tasks and hooks have logged until now, in the logging module's way or, on Airflow 3, in structlog's."""
    caplog.set_level("INFO")
    seen: list[str] = []

    def logged() -> str:
        seen.extend(capsys.readouterr())
        return caplog.text + "".join(seen)

    return logged
