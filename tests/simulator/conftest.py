"""One simulator for the whole directory, as new before every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulator.receiver import Receiver
from tests.support.simulator import Simulator, wait_until


@pytest.fixture(scope="session")
def shared_simulator() -> Iterator[Simulator]:
    with Simulator("--seed", "tests") as simulator:
        yield simulator


@pytest.fixture
def simulator(shared_simulator: Simulator) -> Iterator[Simulator]:
    shared_simulator.reset()
    yield shared_simulator
    # Who has left is noticed within a tenth of a second; their line in the log must not be the next test's.
    wait_until(lambda: shared_simulator.requests()["counters"]["inFlight"] == 0)
    # A push that is still due must not reach the next test's receiver.
    shared_simulator.reset()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver
