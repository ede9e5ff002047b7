"""What people find out about batches in doubt, on every database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from airflow_provider_sms.gateway import errors
from airflow_provider_sms.ledger import evidence, verdicts
from airflow_provider_sms.ledger.claims import Claim
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerUsageError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.outbox import Outbox, SettledOtherwiseError
from airflow_provider_sms.ledger.owners import own_name
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.schema import (
    BatchState,
    batch_table,
    campaign_table,
    once_table,
    receipt_table,
    reply_table,
)
from airflow_provider_sms.ledger.settling import Answer
from airflow_provider_sms.ledger.verdicts import resolve_as_not_sent, resolve_as_sent, take_back
from airflow_provider_sms.send_judging import CampaignError
from tests.support.campaigns import PHONES, SENDER, Begun, Campaigns, Platform
from tests.support.heard import counts_agree, deliveries, look, marks, receipt, reply
from tests.support.heard import verdicts as verdicts_of

LOST = errors.AnswerLostError("The request left, but no answer came: Connection reset by peer.")


@pytest.fixture
def campaigns(any_ledger: Ledger) -> Campaigns:
    """Campaigns in a ledger of each kind."""
    return Campaigns(any_ledger)


@pytest.fixture(scope="module")
def begun() -> Begun:
    return Begun()


@pytest.fixture
def doubtful(campaigns: Campaigns, begun: Begun) -> int:
    """A campaign whose second batch of three is in doubt; its id."""

    def run() -> None:
        with pytest.raises(CampaignError):
            campaigns.run(Platform(None, LOST), PHONES[:6])

    begun.begin(campaigns.ledger, "doubtful", run)
    return int(campaigns.batches()[0].campaign_id)


def second(campaigns: Campaigns) -> Any:
    return campaigns.batches()[1]


def refused(step: Any, *arguments: Any) -> str:
    with pytest.raises(LedgerUsageError) as ended:
        step(*arguments)
    return str(ended.value)


def test_sent_as_a_task_id(campaigns: Campaigns, doubtful: int) -> None:
    resolve_as_sent(campaigns.ledger, doubtful, 2, "T77")
    row = second(campaigns)
    assert (row.state, row.taskid, row.accepted, row.evidence) == ("accepted", "T77", 2, "resolved")
    assert campaigns.run(Platform(), PHONES[:6]).accepted == 6


def test_not_sent_goes_out_with_the_next_try(campaigns: Campaigns, doubtful: int) -> None:
    resolve_as_not_sent(campaigns.ledger, doubtful, 2)
    row = second(campaigns)
    assert (row.state, row.taskid, row.accepted, row.evidence) == ("planned", None, 0, "resolved")
    again = Platform()
    assert campaigns.run(again, PHONES[:6]).accepted == 6
    assert again.requests == [tuple(PHONES[2:4])]
    assert second(campaigns).evidence is None


def test_what_was_said_by_hand_can_be_taken_back(campaigns: Campaigns, doubtful: int) -> None:
    resolve_as_sent(campaigns.ledger, doubtful, 2, "T77")
    take_back(campaigns.ledger, doubtful, 2)
    row = second(campaigns)
    assert (row.state, row.taskid, row.accepted, row.evidence) == ("in_doubt", None, 0, None)
    assert row.other_taskids == "T77"
    resolve_as_sent(campaigns.ledger, doubtful, 2, None)
    take_back(campaigns.ledger, doubtful, 2)
    assert second(campaigns).other_taskids == "T77"
    resolve_as_sent(campaigns.ledger, doubtful, 2, "T77")
    assert second(campaigns).other_taskids is None


def test_what_a_receipt_said_can_be_taken_back_and_is_not_adopted_again(campaigns: Campaigns, doubtful: int) -> None:
    ledger = campaigns.ledger
    with ledger.writing() as connection:
        values = {"mobile": PHONES[2], "taskid": "T77", "received_at": ledger.now(connection), "digest": "1"}
        connection.execute(insert(receipt_table).values(account="FAKE-APP-ID", **values))
    assert len(evidence.adopt(ledger, doubtful)) == 1
    assert "accepted already, by a receipt or reply (taskId T77)" in refused(resolve_as_not_sent, ledger, doubtful, 2)
    take_back(ledger, doubtful, 2)
    assert evidence.look(ledger, doubtful) == []
    assert evidence.adopt(ledger, doubtful) == []


class TestItsReceipts:
    """They come in with a taskId that a person gives, and go with it."""

    def test_they_come_in(self, campaigns: Campaigns, doubtful: int) -> None:
        ledger = campaigns.ledger
        receipt(ledger, PHONES[2], "T77")
        reply(ledger, PHONES[3], "T77")
        look(ledger)
        assert marks(ledger) == marks(ledger, reply_table) == ["unowned"]
        resolve_as_sent(ledger, doubtful, 2, "T77")
        look(ledger)
        assert marks(ledger) == marks(ledger, reply_table) == ["matched"]
        assert deliveries(ledger, doubtful).delivered == 1

    def test_they_go(self, campaigns: Campaigns, doubtful: int) -> None:
        ledger = campaigns.ledger
        resolve_as_sent(ledger, doubtful, 2, "T77")
        receipt(ledger, PHONES[0], "T1")
        receipt(ledger, PHONES[2], "T77")
        receipt(ledger, PHONES[2], "T77", "0")
        receipt(ledger, PHONES[9], "T77")
        reply(ledger, PHONES[3], "T77")
        look(ledger)
        assert marks(ledger) == ["matched", "matched", "contradiction", "no_phone"]
        take_back(ledger, doubtful, 2)
        assert deliveries(ledger, doubtful).delivered == 1
        look(ledger)
        assert marks(ledger) == ["matched", "unowned", "unowned", "unowned"]
        assert marks(ledger, reply_table) == ["unowned"]
        with ledger.reading() as connection:
            assert connection.execute(select(reply_table.c.campaign_id, reply_table.c.phone)).one() == (None, None)
        assert list(verdicts_of(ledger)) == [PHONES[0]]
        assert counts_agree(ledger)

    def test_they_go_to_another_batch_that_has_the_task_id(self, campaigns: Campaigns, doubtful: int) -> None:
        ledger = campaigns.ledger
        resolve_as_sent(ledger, doubtful, 2, "T77")
        campaigns.run(Platform(), PHONES[2:4], key=CampaignKey("", campaign_key="other"))
        other = campaigns.batches()[-1].campaign_id
        campaigns.change_batches(batch_table.c.campaign_id == other, taskid="T77")
        receipt(ledger, PHONES[2], "T77")
        look(ledger)
        assert (deliveries(ledger, doubtful).delivered, deliveries(ledger, other).delivered) == (1, 0)
        take_back(ledger, doubtful, 2)
        look(ledger)
        assert (deliveries(ledger, doubtful).delivered, deliveries(ledger, other).delivered) == (0, 1)
        assert counts_agree(ledger)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"state": "planned"}, "planned: nothing of it was sent, and the next try sends it."),
        ({"state": "accepted", "taskid": "T9"}, "accepted by the platform itself (taskId T9)."),
        (
            {"state": "accepted", "taskid": "T9", "evidence": "resolved"},
            "accepted already, by hand (taskId T9); --undo",
        ),
        ({"state": "refused", "refusal": "TemplateError"}, "refused by the platform (TemplateError): nothing of it"),
        ({"state": "expired"}, "expired: nothing of it was sent"),
    ],
    ids=["planned", "accepted", "resolved", "refused", "expired"],
)
def test_nothing_else_can_be_settled(
    campaigns: Campaigns, doubtful: int, changes: dict[str, str], complaint: str
) -> None:
    campaigns.change_batches(batch_table.c.number == 2, **changes)
    before = second(campaigns)
    for step in (
        lambda: resolve_as_sent(campaigns.ledger, doubtful, 2, "T77"),
        lambda: resolve_as_not_sent(campaigns.ledger, doubtful, 2),
    ):
        assert f"Batch 2 is {complaint}" in refused(step)
    assert second(campaigns) == before


@pytest.mark.parametrize("state", ["planned", "sending", "in_doubt", "refused", "expired", "accepted"])
def test_only_what_a_person_or_a_receipt_said_can_be_taken_back(
    campaigns: Campaigns, doubtful: int, state: str
) -> None:
    campaigns.change_batches(batch_table.c.number == 2, state=state)
    assert "There is nothing to take back." in refused(take_back, campaigns.ledger, doubtful, 2)
    assert second(campaigns).state == state


def test_a_batch_that_the_campaign_does_not_have(campaigns: Campaigns, doubtful: int) -> None:
    assert refused(resolve_as_not_sent, campaigns.ledger, doubtful, 9) == (
        "batch: the campaign has no batch 9; it has 1 to 3."
    )
    assert "it has none" in refused(resolve_as_not_sent, campaigns.ledger, 999, 1)


@pytest.mark.parametrize("taskid", ["", " ", "T 1", "T" * 101])
def test_what_is_no_task_id(campaigns: Campaigns, doubtful: int, taskid: str) -> None:
    assert "taskId: write it as the platform shows it" in refused(
        resolve_as_sent, campaigns.ledger, doubtful, 2, taskid
    )


def test_a_task_id_of_another_batch(campaigns: Campaigns, doubtful: int) -> None:
    complaint = refused(resolve_as_sent, campaigns.ledger, doubtful, 2, "T1")
    assert complaint == "taskId: T1 is that of batch 1 of campaign 'dag/run/send'; look again, or give none."
    # A taskId is case-sensitive.
    resolve_as_sent(campaigns.ledger, doubtful, 2, "t1")


class TestWhatIsBeingSent:
    @pytest.fixture
    def claim(self, campaigns: Campaigns, doubtful: int) -> Claim:
        """The second batch, claimed once more by this process."""
        resolve_as_not_sent(campaigns.ledger, doubtful, 2)
        claim = self.outbox(campaigns).claim("FAKE-APP-ID", 60)
        assert claim is not None
        return claim

    @staticmethod
    def outbox(campaigns: Campaigns) -> Outbox:
        plans = Plans(campaigns.ledger, own_name())
        campaign = plans.find(CampaignKey("", SENDER))
        assert campaign is not None
        return Outbox(campaigns.ledger, own_name(), campaign)

    def end_lease(self, campaigns: Campaigns) -> None:
        campaigns.change_batches(batch_table.c.number == 2, lease_until=second(campaigns).claimed_at)

    def test_it_is_left_alone_while_its_lease_runs(self, campaigns: Campaigns, doubtful: int, claim: Claim) -> None:
        assert "Batch 2 is being sent: wait for its end" in refused(resolve_as_not_sent, campaigns.ledger, doubtful, 2)

    def test_it_can_be_settled_once_that_is_over_and_a_late_answer_still_counts(
        self, campaigns: Campaigns, doubtful: int, claim: Claim
    ) -> None:
        self.end_lease(campaigns)
        resolve_as_not_sent(campaigns.ledger, doubtful, 2)
        self.outbox(campaigns).accept(claim, Answer("T88", 2, 5))
        assert (second(campaigns).state, second(campaigns).taskid) == ("accepted", "T88")

    def test_a_late_answer_that_says_otherwise_is_kept_beside(
        self, campaigns: Campaigns, doubtful: int, claim: Claim
    ) -> None:
        self.end_lease(campaigns)
        resolve_as_sent(campaigns.ledger, doubtful, 2, "T77")
        with pytest.raises(SettledOtherwiseError):
            self.outbox(campaigns).accept(claim, Answer("T88", 2, 5))
        assert (second(campaigns).taskid, second(campaigns).other_taskids) == ("T77", "T88")

    def test_also_if_its_process_is_provably_dead(
        self, campaigns: Campaigns, doubtful: int, claim: Claim, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verdicts, "is_provably_dead", lambda owner: owner == own_name())
        resolve_as_sent(campaigns.ledger, doubtful, 2, "T77")
        assert second(campaigns).state == "accepted"


def test_phones_of_a_mapped_task_are_free_again_if_they_were_not_texted(campaigns: Campaigns) -> None:
    with pytest.raises(CampaignError):
        campaigns.run(Platform(LOST), PHONES[:2], map_index=0)
    campaign_id = campaigns.batches()[0].campaign_id
    resolve_as_not_sent(campaigns.ledger, campaign_id, 1)
    with campaigns.ledger.reading() as connection:
        assert connection.execute(select(func.count()).select_from(once_table)).scalar() == 0
    other = Platform()
    assert campaigns.run(other, PHONES[:2], map_index=1).accepted == 2


def test_phones_of_a_mapped_task_are_taken_again_by_an_answer_that_comes_late(campaigns: Campaigns) -> None:
    with pytest.raises(CampaignError):
        campaigns.run(Platform(*[errors.UnsentError("away")] * 4), PHONES[:2], map_index=0)
    campaign = Plans(campaigns.ledger, own_name()).find(CampaignKey("", replace(SENDER, map_index=0)))
    assert campaign is not None
    outbox = Outbox(campaigns.ledger, own_name(), campaign)
    claim = outbox.claim("account", 60)
    assert claim is not None
    campaigns.change_batches(lease_until=campaigns.batches()[0].claimed_at)
    resolve_as_not_sent(campaigns.ledger, campaign.id, 1)
    outbox.accept(claim, Answer("T1", 2, None))
    other = Platform()
    assert campaigns.run(other, PHONES[:2], map_index=1).excluded == {"in another instance": 2}
    assert other.requests == []


def test_phones_that_were_removed_can_not_be_sent_to(campaigns: Campaigns, doubtful: int) -> None:
    with campaigns.ledger.writing() as connection:
        connection.execute(update(campaign_table).values(purged_at=campaigns.ledger.clock))
    assert "its phones were removed" in refused(resolve_as_not_sent, campaigns.ledger, doubtful, 2)
    resolve_as_sent(campaigns.ledger, doubtful, 2, "T77")
    assert second(campaigns).state == BatchState.ACCEPTED
