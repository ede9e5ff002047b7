"""What the tests against a whole Airflow share: when they run, the platform, and who stops the processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.processes import Children
from tests.support.fixtures import APP_KEY
from tests.support.simulator import Simulator

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them start Airflow's servers, and may take longer than others."""
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        item.add_marker(pytest.mark.live)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture
def platform() -> Iterator[Simulator]:
    """One that takes as many texts a minute as there are."""
    with Simulator(app_id="FAKE-APP-ID", app_key=APP_KEY) as simulator:
        simulator.settings(one_per_minute=False)
        yield simulator


@pytest.fixture
def children() -> Iterator[Children]:
    """Who stops them all, Airflow's slow ones too."""
    with Children(patience=10) as children:
        yield children
