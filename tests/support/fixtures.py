"""Fixtures that many tests share: the platform in its own process, a connection to it, a task's context."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.simulator import Simulator

APP_KEY = "FAKE-APP-KEY-5d41402a"
SetConnection = Callable[..., None]


@pytest.fixture(scope="session")
def _simulator() -> Iterator[Simulator]:
    with Simulator(app_id="FAKE-APP-ID", app_key=APP_KEY) as simulator:
        yield simulator


@pytest.fixture
def simulator(_simulator: Simulator) -> Simulator:
    """The platform, as after its start."""
    _simulator.reset()
    _simulator.clear_faults()
    return _simulator


@pytest.fixture
def set_connection(monkeypatch: pytest.MonkeyPatch) -> SetConnection:
    """Define a connection by environment, as a person would."""

    def set_connection(conn_id: str = "sms_default", **fields: Any) -> None:
        fields = {"conn_type": "sms", **fields}
        if isinstance(fields.get("extra"), dict):
            fields["extra"] = json.dumps(fields["extra"])
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    return set_connection


@pytest.fixture
def connection(simulator: Simulator, set_connection: SetConnection) -> Callable[..., None]:
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

    def __init__(self, map_index: int = -1) -> None:
        self.map_index = map_index
        self.pushed: list[tuple[str, Any]] = []

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed.append((key, json.loads(json.dumps(value))))


@pytest.fixture
def ti() -> TaskInstance:
    return TaskInstance()


@pytest.fixture
def context(ti: TaskInstance) -> dict[str, Any]:
    return {"ti": ti}
