"""The harness for all tests here, the ledgers that it runs on, and how many runs there are to be."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator

import pytest

from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from tests.crash.harness import Harness, Summary, new_sqlite

AssertKept = Callable[[Summary], None]
_PROPERTY = "what came of the runs"


@pytest.fixture(scope="session")
def harness() -> Iterator[Harness]:
    if sys.platform != "linux":
        pytest.skip("looks into /proc")
    with Harness() as harness:
        yield harness


@pytest.fixture(scope="session")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SQLite ledger that nobody has used; each run gets a copy."""
    return new_sqlite(tmp_path_factory.mktemp("crash"))


@pytest.fixture
def ledger_of_kind(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Gives the URL of a ledger with tables: `sqlite`, `postgresql` or `mariadb`."""

    def ledger_of_kind(kind: str) -> str:
        url: str = request.getfixturevalue(f"{kind}_url")
        ledger = Ledger(read_url(url))
        versions.upgrade(ledger)
        ledger.close()
        return url

    return ledger_of_kind


@pytest.fixture(scope="session")
def seed() -> int:
    """SMS_CRASH_SEED; else the same for a sample, and another one each time there are many runs."""
    return int(os.environ.get("SMS_CRASH_SEED", random.SystemRandom().randrange(10**6) if _are_many() else 1))


def how_many(name: str, sample: int, kind: str) -> int:
    """How many runs an environment variable asks for; without it a sample, on SQLite only."""
    if name in os.environ:
        return int(os.environ[name])
    if kind != "sqlite":
        pytest.skip(f"only with {name}")
    return sample


@pytest.fixture
def assert_kept(record_property: Callable[[str, object], None]) -> AssertKept:
    """Tells what came of the runs, at the end of all tests, and fails if a promise was broken in any of them."""

    def assert_kept(summary: Summary) -> None:
        record_property(_PROPERTY, str(summary))
        assert summary.results, "no run at all"
        assert not summary.problems, summary.complaint()

    return assert_kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Whichever process had the runs, what came of them is said here."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties:
            if name == _PROPERTY:
                terminalreporter.write_line(str(value))


def _are_many() -> bool:
    return not {"SMS_CRASH_RUNS", "SMS_RACES"}.isdisjoint(os.environ)
