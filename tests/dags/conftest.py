"""A migrated Airflow for the tests that run whole DAGs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import airflow
from tests.support.fixtures import SetConnection
from tests.support.simulator import Simulator


@pytest.fixture(scope="session", autouse=True)
def _migrated() -> None:
    airflow.migrate()
    airflow.make_one_api_for_all_tasks()


@pytest.fixture
def sms_simulator(simulator: Simulator, connection: SetConnection) -> Callable[..., None]:
    """`sms_simulator`, the connection of the example DAGs, leads to the simulator."""
    connection("sms_simulator")
    return connection
