"""Opens the ledger that `[sms]` names, the first act of whatever sends: and refuses one that can not keep the promises.

Joins settings, ledger and planning.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_sms import settings
from airflow_provider_sms.ledger import sqlite_file, versions
from airflow_provider_sms.ledger.database import Ledger, Limits, read_url
from airflow_provider_sms.ledger.errors import LedgerUnsuitableError
from airflow_provider_sms.planning import begin

if TYPE_CHECKING:
    from sqlalchemy.engine.url import URL

    from airflow_provider_sms.ledger.keys import CampaignKey
    from airflow_provider_sms.planning import Log, Try

LOCAL_EXECUTORS = frozenset({"DebugExecutor", "LocalExecutor", "SequentialExecutor"})
_MAKE_ONE = (
    "Make a database that all of them reach, in PostgreSQL: CREATE DATABASE sms; then set "
    "AIRFLOW__SMS__SQL_ALCHEMY_CONN=postgresql+psycopg2://user:password@host/sms everywhere, and run "
    "`airflow-sms ledger upgrade` once. (AIRFLOW__SMS__ALLOW_SQLITE=True if all of Airflow's processes really share "
    "one disk.)"
)


def open_for_campaign(log: Log, key: CampaignKey, attempt: Try) -> Ledger:
    """Open the ledger, and note that a try of a campaign has begun, before anything else can fail.

    :raises LedgerLostError: an earlier try must have noted the same, and has not.
    :raises CampaignPurgedError: the campaign was sent, and its phones were removed.
    :raises LedgerError: as `open_ledger`.
    :raises SettingsError: likewise.
    """
    # A later try that finds no ledger has lost one, and may not look as if it had not.
    ledger = open_ledger(log, key if attempt.number == 1 else None)
    try:
        begin(ledger, key, attempt)
    except BaseException:
        ledger.close()
        raise
    return ledger


def open_ledger(log: Log, first: CampaignKey | None = None, limits: Limits | None = None) -> Ledger:
    """Open the ledger, ready to be used.

    :param first: a campaign whose first try this is: noted in the same step if the ledger is only made now.
    :param limits: how long it may keep this process waiting.
    :raises LedgerUnsuitableError: it is SQLite, and several machines send.
    :raises LedgerVersionError: its tables do not fit this code.
    :raises LedgerUnreachableError: it is away.
    :raises SettingsError: an option is not usable.
    """
    url = find_url()
    if url.get_backend_name() == "sqlite":
        refuse_sqlite()
        path = Path(url.database or "")
        if sqlite_file.make(path, first):
            log.info("Made the ledger, a SQLite file for this machine alone: %s.", path)
        if warning := sqlite_file.warning(path):
            log.warning("%s", warning)
    ledger = Ledger(url, limits)
    try:
        versions.check(ledger)
    except BaseException:
        ledger.close()
        raise
    return ledger


def open_to_read(log: Log) -> Ledger | None:
    """Open the ledger for whoever only looks.

    :returns: None if it would only be made now, and knows nothing.
    :raises LedgerError: as `open_ledger`.
    :raises SettingsError: likewise.
    """
    url = find_url()
    if url.get_backend_name() == "sqlite":
        refuse_sqlite()
        if not Path(url.database or "").exists():
            return None
    return open_ledger(log)


def find_url() -> URL:
    """Where the ledger is."""
    configured = settings.ledger_url()
    if configured is not None:
        return read_url(configured)
    from sqlalchemy.engine.url import URL

    return URL.create("sqlite", database=str(settings.airflow_home() / sqlite_file.NAME))


def refuse_sqlite() -> None:
    """See that a SQLite file will do where this runs.

    :raises LedgerUnsuitableError: several machines send.
    """
    if settings.allows_sqlite():
        return
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        raise LedgerUnsuitableError(
            "The ledger is a SQLite file, and this process runs in Kubernetes, where the file is lost with the pod and "
            f"other pods do not see it: somebody would be texted twice. Nothing was sent. {_MAKE_ONE}"
        )
    others = [name for name in settings.executors() if name not in LOCAL_EXECUTORS]
    if others:
        raise LedgerUnsuitableError(
            f"The ledger is a SQLite file, and [core] executor names {', '.join(others)}: tasks on other machines "
            f"would not see it, and somebody would be texted twice. Nothing was sent. {_MAKE_ONE}"
        )
