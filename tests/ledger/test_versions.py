"""The tables and the code: made by migrations, checked at every opening."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, text

from airflow_provider_sms.gateway.phones import Sieve
from airflow_provider_sms.guards import Guards
from airflow_provider_sms.ledger import migrations, reports, versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.errors import LedgerVersionError
from airflow_provider_sms.ledger.keys import CampaignKey, text_hash
from airflow_provider_sms.ledger.schema import (
    VERSION_TABLE,
    BatchState,
    batch_table,
    campaign_table,
    metadata,
    recipient_table,
)
from tests.support.campaigns import PHONES, SENDER, Campaigns, Platform


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


def test_what_an_older_version_has_half_sent_goes_on(empty: Ledger) -> None:
    """Its rows know nothing of points, guards and texts of their own."""
    text_, key = "【云通信】您好", CampaignKey("", SENDER)
    upgrade_to(empty, "0002")
    with empty.writing() as connection:
        now = empty.now(connection)
        head = {"id": 1, "key_hash": key.hash, "planned_for": key.hash, "name": key.name, "namespace": ""}
        head |= {name: getattr(SENDER, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
        head |= {"created_at": now, "owner": "nobody", "lease_until": now, "planned_at": now, "content": text_}
        head |= {"content_hash": text_hash(text_), "segments": 1, "phones": 4, "category": "marketing"}
        sieve = Sieve()
        sieve.sift(PHONES[:4])
        head |= {"valid_until": now + timedelta(days=1), "fingerprint": sieve.fingerprint(), "excluded": "{}"}
        connection.execute(insert(campaign_table).values(head))
        for number, state in ((1, BatchState.ACCEPTED), (2, BatchState.PLANNED)):
            span = {"first_position": 2 * number - 1, "last_position": 2 * number, "phones": 2}
            counts = {"attempt": 0, "resends": 0, "accepted": 2 if number == 1 else 0}
            values = {"campaign_id": 1, "number": number, "state": state.value, **span, **counts}
            connection.execute(insert(batch_table).values(values))
        for position, phone in enumerate(PHONES[:4], 1):
            connection.execute(insert(recipient_table).values(campaign_id=1, position=position, phone=phone))
    versions.upgrade(empty)
    report = reports.report(empty, 1)
    assert (report.points, report.points_left, report.guards, report.is_personal) == (2, 2, {}, False)
    platform = Platform()
    guards = Guards(sending_hours=None, opt_out_wording=None, max_per_phone=1, max_points=4)
    done = Campaigns(empty).run(platform, PHONES[:4], text_, category="marketing", guards=guards)
    assert (platform.accepted, done.accepted, done.points) == (PHONES[2:4], 4, 4)
    assert done.guards["maxPerPhone"] == 1


def upgrade_to(ledger: Ledger, revision: str) -> None:
    """What an older version has made."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    with versions._alembic, ledger.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        versions._write_first_row(ledger, connection)


def test_a_database_without_tables_says_what_to_run(empty: Ledger) -> None:
    # And no more: a receiver and a triggerer look again by themselves.
    with pytest.raises(LedgerVersionError, match=r"no tables yet: run `airflow-sms ledger upgrade` once\.$"):
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
