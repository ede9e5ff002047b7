"""A ledger that no push can come into is known before anybody waits for one."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from airflow_provider_sms.ledger import hearing
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerDeafError
from airflow_provider_sms.ledger.schema import ledger_table


def test_a_new_ledger_has_heard_nothing(any_ledger: Ledger) -> None:
    with pytest.raises(LedgerDeafError, match="push-url"):
        hearing.check(any_ledger)


@pytest.mark.parametrize("column", ["receiver_at", "first_push_at"])
def test_a_receiver_or_a_push_is_enough(any_ledger: Ledger, column: str) -> None:
    with any_ledger.writing() as connection:
        connection.execute(update(ledger_table).values({column: any_ledger.now(connection)}))
    hearing.check(any_ledger)
