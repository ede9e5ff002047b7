"""A batch whose process is not provably dead, and a person who says that it was not sent."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_sms.gateway import errors
from airflow_provider_sms.ledger.errors import LedgerUsageError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.outbox import Outbox
from airflow_provider_sms.ledger.owners import new_claimant, own_name
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.schema import BatchState
from airflow_provider_sms.ledger.verdicts import resolve_as_not_sent, resolve_as_sent
from airflow_provider_sms.send_judging import CampaignError
from tests.support.campaigns import PHONES, SENDER, Campaigns, Platform

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

LOST = errors.AnswerLostError("The request left, but no answer came: Connection reset by peer.")
UNSENT = errors.UnsentError("The platform can not be reached: Connection refused.")
ELSEWHERE = "worker-7 boot ns 4321 77"


@pytest.fixture
def child() -> Iterator[int]:
    """Another process, which stands still."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def name_of(pid: int) -> str:
    """As that process would call one of its threads."""
    *place, _, _ = own_name().split(" ")
    stat = Path(f"/proc/{pid}/stat").read_text()
    started = stat.rpartition(") ")[2].split()[19]
    return " ".join((*place, str(pid), started)) + "/3"


@pytest.fixture
def sent_by(campaigns: Campaigns) -> Callable[[str, BatchState], int]:
    """Have the only batch be in the hands of a process whose lease is over; the campaign's id."""

    def sent_by(owner: str, state: BatchState) -> int:
        with pytest.raises(CampaignError):
            campaigns.run(Platform(*[UNSENT] * 4), PHONES[:2])
        over = datetime(2030, 1, 1) if state is BatchState.IN_DOUBT else datetime(2020, 1, 1)  # noqa: DTZ001
        campaigns.change_batches(state=BatchState.SENDING, owner=owner, claimed_at=over, lease_until=over)
        campaign = Plans(campaigns.ledger, own_name()).find(CampaignKey("", SENDER))
        assert campaign is not None
        if state is BatchState.IN_DOUBT:
            campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001
            Outbox(campaigns.ledger, own_name(), campaign).overtake()
        return campaign.id

    return sent_by


def only(campaigns: Campaigns) -> Any:
    (row,) = campaigns.batches()
    return row


both_states = pytest.mark.parametrize("state", [BatchState.SENDING, BatchState.IN_DOUBT])


@both_states
def test_one_that_stands_still_on_this_machine_has_to_go_on_or_to_end_first(
    campaigns: Campaigns, sent_by: Callable[[str, BatchState], int], child: int, state: BatchState
) -> None:
    campaign_id = sent_by(name_of(child), state)
    with pytest.raises(LedgerUsageError) as refused:
        resolve_as_not_sent(campaigns.ledger, campaign_id, 1)
    assert "stands still" in str(refused.value)
    assert f"kill -CONT {child}" in str(refused.value)
    assert f"kill -KILL {child}" in str(refused.value)
    assert only(campaigns).state == state
    # That it was sent can be said at any time.
    resolve_as_sent(campaigns.ledger, campaign_id, 1, "T77")


@both_states
def test_once_it_has_ended_there_is_nothing_to_be_said_against_it(
    campaigns: Campaigns, sent_by: Callable[[str, BatchState], int], state: BatchState
) -> None:
    *place, _, _ = own_name().split(" ")
    dead = " ".join((*place, "99999999", "1"))
    assert resolve_as_not_sent(campaigns.ledger, sent_by(dead, state), 1) == ""
    assert only(campaigns).state == BatchState.PLANNED


@both_states
def test_of_another_machine_nobody_here_knows_and_that_is_said(
    campaigns: Campaigns, sent_by: Callable[[str, BatchState], int], state: BatchState
) -> None:
    caution = resolve_as_not_sent(campaigns.ledger, sent_by(ELSEWHERE, state), 1)
    assert "process 4321 on worker-7" in caution
    assert "not known to have ended" in caution
    assert only(campaigns).state == BatchState.PLANNED


@both_states
def test_one_that_runs_will_find_its_lease_over_by_itself_and_is_named(
    campaigns: Campaigns, sent_by: Callable[[str, BatchState], int], state: BatchState
) -> None:
    caution = resolve_as_not_sent(campaigns.ledger, sent_by(new_claimant(), state), 1)
    assert f"process {os.getpid()} on " in caution
    assert only(campaigns).state == BatchState.PLANNED


def test_what_its_own_process_has_put_in_doubt_it_will_not_send_any_more(campaigns: Campaigns, child: int) -> None:
    with pytest.raises(CampaignError):
        campaigns.run(Platform(LOST), PHONES[:2])
    campaigns.change_batches(owner=name_of(child))
    assert resolve_as_not_sent(campaigns.ledger, only(campaigns).campaign_id, 1) == ""
