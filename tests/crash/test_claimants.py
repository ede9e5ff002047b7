"""Threads of one process claim under names of their own, and give back nothing that is another's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.outbox import Outbox
from airflow_provider_sms.ledger.owners import is_provably_dead, new_claimant, own_name
from airflow_provider_sms.orders import make_order
from airflow_provider_sms.planning import Planner, Try, begin
from airflow_provider_sms.policy import Policy
from tests.support.campaigns import ACCOUNT, PHONES, SENDER, TEXT, Campaigns, Platform

pytestmark = pytest.mark.crash


@pytest.fixture
def ledger(ledger_file: Path) -> Iterator[Ledger]:
    with closing(Ledger(read_url(f"sqlite:///{ledger_file}"))) as ledger:
        yield ledger


def test_a_claim_that_was_not_stored_is_not_taken_for_another_thread_s(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both claim the same batch; who is told "disk full" gives up what he may have got, and no more than that."""
    campaigns = Campaigns(ledger)
    key, order = CampaignKey("", SENDER), make_order(ACCOUNT, TEXT, policy=Policy())
    begin(ledger, key, Try())
    campaign = Planner(ledger, key, order, lambda: [list(PHONES)], campaigns.log, Policy()).plan()
    first, second = (Outbox(ledger, new_claimant(), campaign) for _ in range(2))
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "writing", lambda: _writing_to_a_full_disk(ledger))
        with pytest.raises(LedgerUnreachableError):
            first.claim("FAKE-APP-ID", 90.0)
    held = second.claim("FAKE-APP-ID", 90.0)
    other = first.claim("FAKE-APP-ID", 90.0)
    assert held is not None
    assert other is not None
    assert (held.number, other.number) == (1, 2)
    second.check(held, 60.0)


def test_the_threads_of_a_try_do_so(ledger: Ledger) -> None:
    both = threading.Barrier(2, timeout=10)

    class Slow(Platform):
        def send(self, *args: Any, **kwargs: Any) -> Any:
            both.wait()
            return super().send(*args, **kwargs)

    campaigns = Campaigns(ledger)
    campaigns.run(Slow(), PHONES[:4], max_in_flight=2)
    owners = {row.owner for row in campaigns.batches()}
    assert len(owners) == 2
    assert not any(is_provably_dead(owner) for owner in owners)


def test_a_claimant_is_as_dead_as_its_process() -> None:
    *place, pid, start = own_name().split(" ")
    name = new_claimant()
    assert name != new_claimant()
    assert not is_provably_dead(name)
    assert is_provably_dead(" ".join([*place, pid, f"{int(start) - 1}/1"]))


@contextmanager
def _writing_to_a_full_disk(ledger: Ledger) -> Iterator[Connection]:
    with ledger.engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()
    raise LedgerUnreachableError("disk full")
