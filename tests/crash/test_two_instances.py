"""Two instances of a mapped task hand in phones that overlap, and later hand in more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from airflow_provider_sms.ledger.database import Ledger, read_url
from tests.support.campaigns import PHONES, Campaigns, Platform

pytestmark = pytest.mark.crash


@pytest.fixture
def campaigns(ledger_file: Path) -> Iterator[Campaigns]:
    with closing(Ledger(read_url(f"sqlite:///{ledger_file}"))) as ledger:
        yield Campaigns(ledger)


def test_a_phone_that_another_instance_has_is_not_one_that_was_added_later(campaigns: Campaigns) -> None:
    campaigns.run(Platform(), PHONES[:6], map_index=0)
    campaigns.run(Platform(), PHONES[4:], map_index=1)
    report = campaigns.run(Platform(), [*PHONES[4:], "13800139999"], map_index=1)
    assert report.excluded == {"in another instance": 2, "after plan": 1}
