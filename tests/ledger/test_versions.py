"""The tables and the code: made by migrations, checked at every opening."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from airflow_provider_sms.ledger import migrations, versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.errors import LedgerVersionError
from airflow_provider_sms.ledger.schema import VERSION_TABLE, metadata


@pytest.fixture
def empty(ledger_url: str) -> Iterator[Ledger]:
    ledger = Ledger(read_url(ledger_url))
    yield ledger
    ledger.close()


def test_the_migrations_make_what_the_code_expects(empty: Ledger) -> None:
    assert versions.upgrade(empty) == (None, versions.KNOWN[-1])
    with empty.reading() as connection:
        # SQLite keeps a table of its own about ids, which an older SQLAlchemy lists.
        options = {"version_table": VERSION_TABLE, "include_name": lambda name, kind, names: name != "sqlite_sequence"}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
    versions.check(empty)


def test_once_more_does_no_harm(empty: Ledger) -> None:
    versions.upgrade(empty)
    assert versions.upgrade(empty) == (versions.KNOWN[-1], versions.KNOWN[-1])


def test_who_has_upgraded_keeps_nobody_waiting(empty: Ledger) -> None:
    versions.upgrade(empty)
    # The first one's connections stay open.
    another = Ledger(empty.url)
    with another.writing() as connection:
        if empty.kind == "mysql":
            assert connection.exec_driver_sql("SELECT GET_LOCK('airflow-provider-sms', 0)").scalar() == 1
    versions.upgrade(another)
    another.close()


def test_several_at_once_do_no_harm(empty: Ledger) -> None:
    failures: list[Exception] = []

    def upgrade() -> None:
        ledger = Ledger(empty.url)
        try:
            versions.upgrade(ledger)
        except Exception as error:  # told below
            failures.append(error)
        ledger.close()

    threads = [threading.Thread(target=upgrade) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    versions.check(empty)


def test_a_database_without_tables_says_what_to_run(empty: Ledger) -> None:
    with pytest.raises(LedgerVersionError, match="no tables yet: run `airflow-sms ledger upgrade`"):
        versions.check(empty)


@pytest.mark.parametrize(
    ("version", "said"),
    [("0000", r"version 0000, newer .* install"), ("9999", r"version 9999, newer than this provider.* install")],
)
def test_a_version_that_this_code_does_not_know_is_newer(ledger: Ledger, version: str, said: str) -> None:
    with ledger.writing() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'"))
    with pytest.raises(LedgerVersionError, match=said):
        versions.check(ledger)
    with pytest.raises(LedgerVersionError, match=said):
        versions.upgrade(ledger)


def test_an_older_one_says_what_to_run(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "KNOWN", (*versions.KNOWN, "0099"))
    with pytest.raises(LedgerVersionError, match="older than this provider.*run `airflow-sms ledger upgrade`"):
        versions.check(ledger)


def test_the_code_knows_every_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.__path__[0]))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(each.revision for each in reversed(list(scripts.walk_revisions()))) == versions.KNOWN
