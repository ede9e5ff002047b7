"""What people and reports read, on every database."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

import pytest

from airflow_provider_sms.gateway import errors
from airflow_provider_sms.gateway.answers import Acceptance
from airflow_provider_sms.ledger import handed_in, reports, views
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.owners import own_name
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.schema import BatchState, batch_table
from airflow_provider_sms.ledger.views import Part
from airflow_provider_sms.orders import make_order
from airflow_provider_sms.policy import Policy
from airflow_provider_sms.send_judging import CampaignError
from tests.support.campaigns import ACCOUNT, PHONES, TEXT, Campaigns, Platform

LOST = errors.AnswerLostError("The request left, but no answer came: Connection reset by peer.")
NO_MONEY = errors.BalanceTooLowError("The platform refused: 余额不足.", "余额不足")
NO_NUMBER = errors.PhoneFormatError("The platform refused: 手机号码格式不正确.", "手机号码格式不正确")


@pytest.fixture
def campaigns(any_ledger: Ledger) -> Campaigns:
    """Campaigns in a ledger of each kind."""
    return Campaigns(any_ledger)


def fail(campaigns: Campaigns, *answers: object, phones: Any = PHONES, **choices: Any) -> int:
    """A campaign that does not end well; its id."""
    with pytest.raises(CampaignError):
        campaigns.run(Platform(*answers), phones, **choices)
    return int(campaigns.batches()[-1].campaign_id)


def test_counts_batches_and_items_agree(campaigns: Campaigns) -> None:
    items = [*PHONES, PHONES[0], "x"]
    campaign_id = fail(campaigns, None, LOST, Acceptance("T3", 1, 5), NO_MONEY, phones=items)
    standing = views.standing(campaigns.ledger, campaign_id)
    assert set(standing.parts) == {
        Part(BatchState.ACCEPTED, None, 2, 4, 3, 4),
        Part(BatchState.IN_DOUBT, "AnswerLostError", 1, 2, 0, 2),
        Part(BatchState.REFUSED, "BalanceTooLowError", 1, 2, 0, 2),
        Part(BatchState.PLANNED, None, 1, 2, 0, 2),
    }
    assert (standing.accepted, standing.refused, standing.phones(BatchState.IN_DOUBT)) == (3, 3, 2)
    report = reports.report(campaigns.ledger, campaign_id)
    assert (report.accepted, report.refused, report.in_doubt, report.not_sent) == (3, 3, 2, 2)
    batches = views.batches(campaigns.ledger, campaign_id)
    assert [each.number for each in batches] == [2, 5, 4, 1, 3]
    assert [each.number for each in views.batches(campaigns.ledger, campaign_id, 2)] == [2, 5]
    assert views.batch(campaigns.ledger, campaign_id, 3).taskid == "T3"
    assert batches[0].claimed_at is not None
    assert batches[0].claimed_at.tzinfo is UTC
    read = [item for chunk in handed_in.items(campaigns.ledger, campaign_id) for item in chunk]
    assert [item.phone for item in read] == items
    assert [item.reason for item in read] == [None] * 10 + ["duplicate", "malformed"]
    assert [item.batch.number if item.batch else None for item in read] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, None, None]
    assert PHONES[0] not in repr(read)


def test_items_find_their_batch_across_chunks_and_after_a_split(
    campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handed_in, "CHUNK", 3)
    report = campaigns.run(Platform(NO_NUMBER, None, NO_NUMBER), ["x", *PHONES[:8], PHONES[0]], batch_size=4)
    assert (report.accepted, report.refused) == (8, 0)
    campaign_id = campaigns.batches()[0].campaign_id
    chunks = list(handed_in.items(campaigns.ledger, campaign_id))
    assert [len(chunk) for chunk in chunks] == [3, 3, 3, 1]
    read = [item for chunk in chunks for item in chunk]
    assert [item.position for item in read] == list(range(1, 11))
    for item in read:
        if item.reason is None:
            assert item.batch is not None
            assert item.batch.first_position <= item.position <= item.batch.last_position
        else:
            assert item.batch is None
    assert len({item.batch.number for item in read if item.batch}) == len(campaigns.batches())


def test_a_list_is_newest_first_and_holds_no_drafts(campaigns: Campaigns) -> None:
    for number in range(3):
        campaigns.run(Platform(), [*PHONES[: number + 1], "x"], key=CampaignKey("", campaign_key=f"key {number}"))
    draft = CampaignKey("", campaign_key="half")
    Plans(campaigns.ledger, own_name()).draft(draft, make_order(ACCOUNT, TEXT, policy=Policy()).terms)
    found = views.newest(campaigns.ledger, 2)
    assert [each.heading.name for each in found] == ["key 2", "key 1"]
    assert [(each.standing.accepted, each.excluded) for each in found] == [(3, 1), (2, 1)]
    (half,) = views.find(campaigns.ledger, "half")
    assert half.is_draft


def test_a_campaign_is_found_by_its_name_before_its_id(campaigns: Campaigns) -> None:
    campaigns.run(Platform(), key=CampaignKey("", campaign_key="first"))
    (first,) = views.find(campaigns.ledger, "first")
    assert views.find(campaigns.ledger, str(first.id)) == [first]
    campaigns.run(Platform(), key=CampaignKey("", campaign_key=str(first.id)))
    (second,) = views.find(campaigns.ledger, str(first.id))
    assert second.name == str(first.id)
    assert second.id != first.id
    for nobody in ("nobody", "FIRST", "999", "9" * 30, "²"):
        assert views.find(campaigns.ledger, nobody) == []


def test_repeats_are_those_of_one_key_in_one_namespace(campaigns: Campaigns) -> None:
    for namespace, key in (("", "send a"), ("", "send a 2"), ("", "send ab"), ("other", "send a"), ("", "send a 3")):
        campaigns.run(Platform(), key=CampaignKey(namespace, campaign_key=key))
    found = views.repeats(campaigns.ledger, "", "send a")
    assert [each.campaign_key for each in found] == ["send a", "send a 2", "send a 3"]
    assert found[0].valid_until is not None
    assert found[0].planned_at is not None


@pytest.mark.parametrize(
    ("owner", "seconds", "is_over"),
    [("elsewhere boot ns 77 1", 60, False), ("elsewhere boot ns 77 1", -1, True), ("ours", 60, False)],
    ids=["alive as far as known", "lease over", "ours"],
)
def test_a_batch_under_way_is_over_with_its_lease(
    campaigns: Campaigns, owner: str, seconds: int, is_over: bool
) -> None:
    campaigns.run(Platform(), PHONES[:4])
    with campaigns.ledger.reading() as connection:
        lease = campaigns.ledger.now(connection) + timedelta(seconds=seconds)
    values = {"owner": own_name() if owner == "ours" else owner, "lease_until": lease}
    campaigns.change_batches(batch_table.c.number == 2, state=BatchState.SENDING, settled_at=None, **values)
    (under_way,) = views.standing(campaigns.ledger, campaigns.batches()[0].campaign_id).under_way
    assert (under_way.number, under_way.phones, under_way.is_over) == (2, 2, is_over)


def test_of_nothing_there_is_nothing(campaigns: Campaigns) -> None:
    assert views.newest(campaigns.ledger, 5) == []
    assert views.standing(campaigns.ledger, 1).parts == ()
    assert views.batches(campaigns.ledger, 1) == []
    assert list(handed_in.items(campaigns.ledger, 1)) == []
