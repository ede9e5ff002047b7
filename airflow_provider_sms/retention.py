"""Phones and texts are kept no longer than `[sms] retention_days` says. Joins settings and ledger."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_sms import settings
from airflow_provider_sms.gateway import times
from airflow_provider_sms.ledger import upkeep
from airflow_provider_sms.ledger.errors import LedgerError

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.planning import Log


def keep(ledger: Ledger, log: Log) -> None:
    """Remove what is due, as `airflow-sms ledger purge` does; what goes wrong there is not the campaign's trouble.

    :raises SettingsError: `retention_days` is not usable.
    """
    days = settings.retention_days()
    if days is None:
        return
    before = times.now() - timedelta(days=days)
    try:
        if not upkeep.is_due(ledger, before):
            return
        removed = upkeep.purge(ledger, before, lambda so_far: log.info("Removing: %d phones so far.", so_far.phones))
    except LedgerError as error:
        log.warning("Phones that are kept for too long could not be removed: %s", error)
        return
    log.info(
        "Removed after %d days (retention_days): phones and texts of %d campaigns, %d phones.",
        days,
        removed.campaigns,
        removed.phones,
    )
    if removed.untold:
        log.warning(
            "Alarms were removed that had been held back and that nobody is known to have been told of: %d, by phone. "
            "Their count is kept (untold in sms_alarm_phone). Give SmsAlarmFlushOperator a DAG.",
            removed.untold,
        )
