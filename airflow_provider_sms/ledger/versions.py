"""Whether the tables fit this code, and how they are made to. Alembic does the work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from sqlalchemy import column, insert, inspect, select, table, update

from airflow_provider_sms.ledger.errors import LedgerUnreachableError, LedgerVersionError
from airflow_provider_sms.ledger.schema import VERSION_TABLE, ledger_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from airflow_provider_sms.ledger.database import Ledger

KNOWN = ("0001", "0002", "0003", "0004", "0005")
"""Every version that this code can upgrade from, oldest first; the last is the one that it works with."""

# Alembic keeps what it works on in module variables.
_alembic = threading.Lock()
_UPGRADE = "run `airflow-sms ledger upgrade`"


def version(ledger: Ledger) -> str | None:
    """Read which version the tables have.

    :returns: None if there are none.
    """
    with ledger.reading() as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        return connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()


def check(ledger: Ledger) -> None:
    """See that the tables fit this code.

    :raises LedgerVersionError: they do not; the message says what to run.
    """
    found = version(ledger)
    if found == KNOWN[-1]:
        return
    if found is None:
        raise LedgerVersionError(f"The ledger ({ledger!r}) has no tables yet: {_UPGRADE} once.")
    if found in KNOWN:
        raise LedgerVersionError(
            f"The ledger has version {found}, older than this provider, which needs {KNOWN[-1]}: {_UPGRADE}."
        )
    raise LedgerVersionError(
        f"The ledger has version {found}, newer than this provider, which needs {KNOWN[-1]}: "
        "install the provider of the others that use this ledger."
    )


def upgrade(ledger: Ledger) -> tuple[str | None, str]:
    """Bring the tables to this code's version; several at once do no harm.

    :returns: the version before, and now.
    :raises LedgerVersionError: the tables are newer than this code.
    """
    with _alembic:
        before = version(ledger)
        if before is not None and before not in KNOWN:
            check(ledger)
        with ledger.writing() as connection, _one_at_a_time(ledger, connection):
            _run_alembic(connection)
            _write_first_row(ledger, connection)
    return before, KNOWN[-1]


def _write_first_row(ledger: Ledger, connection: Connection) -> None:
    row = connection.execute(select(ledger_table.c.secret)).first()
    if row is None:
        values = {"id": 1, "created_at": ledger.now(connection), "secret": token_hex(32)}
        connection.execute(insert(ledger_table).values(values))
    elif row.secret is None:
        connection.execute(update(ledger_table).values(secret=token_hex(32)))


@contextmanager
def _one_at_a_time(ledger: Ledger, connection: Connection) -> Iterator[None]:
    # SQLite's own transaction does that already.
    match ledger.kind:
        case "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('airflow-provider-sms'))")
            yield
        case "mysql":
            if not connection.exec_driver_sql("SELECT GET_LOCK('airflow-provider-sms', 60)").scalar():
                raise LedgerUnreachableError("The ledger is being upgraded by somebody else for more than a minute.")
            try:
                yield
            finally:
                # MySQL's belongs to the connection, which the pool keeps, not to the transaction.
                connection.exec_driver_sql("SELECT RELEASE_LOCK('airflow-provider-sms')")
        case _:
            yield


def _run_alembic(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
