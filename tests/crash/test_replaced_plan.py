"""Two tries at once that were handed in different phones: one plan stands, and whose it is not says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.owners import own_name
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.sending import Sender
from tests.support.campaigns import PHONES, Campaigns, Platform

pytestmark = pytest.mark.crash


@pytest.fixture
def campaigns(ledger_file: Path) -> Iterator[Campaigns]:
    with closing(Ledger(read_url(f"sqlite:///{ledger_file}"))) as ledger:
        yield Campaigns(ledger)


@pytest.mark.parametrize("is_removed_already", [False, True])
def test_a_try_whose_plan_was_replaced_is_repeated(campaigns: Campaigns, is_removed_already: bool) -> None:
    platform, other = Platform(), Platform()

    def another_try(sender: Sender) -> None:
        if is_removed_already:
            campaigns.run(other, PHONES[:4])
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Plans, "discard_drafts", lambda plans, key=None: 0)
            campaigns.run(other, PHONES[:4])

    with pytest.raises(LedgerUnreachableError, match="Nothing was sent by this one"):
        campaigns.run(platform, before_sending=another_try)
    assert (platform.accepted, other.accepted) == ([], PHONES[:4])
    Plans(campaigns.ledger, own_name()).discard_drafts()
    # The next try finds the plan that stands, and says what is not in it.
    report = campaigns.run(platform)
    assert (report.accepted, report.excluded) == (4, {"after plan": 6})
    assert platform.accepted == []
