"""Whether this ledger hears the platform at all: who waits for a push has to know before anybody is texted."""

from __future__ import annotations

from sqlalchemy import select

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerDeafError
from airflow_provider_sms.ledger.schema import ledger_table


def hears(ledger: Ledger) -> bool:
    """Whether a receiver has ever opened this ledger, or a push ever come."""
    table = ledger_table
    with ledger.reading() as connection:
        row = connection.execute(select(table.c.receiver_at, table.c.first_push_at)).one()
    return row.receiver_at is not None or row.first_push_at is not None


def check(ledger: Ledger) -> None:
    """See that waiting for a push is not in vain.

    :raises LedgerDeafError: no receiver has ever run on this ledger; the message says what to do.
    """
    if not hears(ledger):
        raise LedgerDeafError(
            "No push has ever come into this ledger, and no receiver has run on it: waiting would be in vain. "
            "`airflow-sms push-url` prints the address to paste into the platform's console, and says how to have it "
            "answered."
        )
