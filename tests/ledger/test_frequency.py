"""How often a phone may be texted, across campaigns, on each database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from airflow_provider_sms.gateway.errors import AnswerLostError, BalanceTooLowError, PhoneFormatError, UnsentError
from airflow_provider_sms.guards import Guards
from airflow_provider_sms.ledger import frequency, upkeep, verdicts
from airflow_provider_sms.ledger.claims import Claim
from airflow_provider_sms.ledger.database import Ledger, aware
from airflow_provider_sms.ledger.errors import PlanChangedError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.outbox import Outbox, SettledOtherwiseError
from airflow_provider_sms.ledger.owners import own_name
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.schema import texted_table
from airflow_provider_sms.ledger.settling import Answer
from airflow_provider_sms.send_judging import CampaignError
from airflow_provider_sms.sending import Sender
from tests.support.campaigns import PHONES, Campaigns, Platform

REASON = "frequency cap"


@pytest.fixture
def ledger(any_ledger: Ledger) -> Ledger:
    return any_ledger


def capped(texts: int = 1, **more: Any) -> Guards:
    return Guards(sending_hours=None, opt_out_wording=None, max_per_phone=texts, **more)


@pytest.fixture
def send(campaigns: Campaigns) -> Callable[..., Any]:
    """Send marketing under a key."""

    def send(name: str, phones: list[str] = PHONES, platform: Any = None, namespace: str = "", **more: Any) -> Any:
        more = {"category": "marketing", "guards": capped(), **more}
        return campaigns.run(platform or Platform(), phones, key=CampaignKey(namespace, campaign_key=name), **more)

    return send


def noted(ledger: Ledger) -> int:
    with ledger.reading() as connection:
        return int(connection.execute(select(func.count()).where(texted_table.c.phone != "")).scalar_one())


def test_who_has_had_enough_is_left_out_and_reported(send: Callable[..., Any], campaigns: Campaigns) -> None:
    # Marketing counts whether it has a cap or not.
    send("spring", PHONES[:6], guards=Guards(sending_hours=None))
    send("summer", PHONES[:4], guards=capped(2))
    platform = Platform()
    report = send("autumn", platform=platform, guards=capped(2))
    assert report.excluded == {REASON: 4}
    assert platform.accepted == PHONES[4:]
    assert [each for each, reason in campaigns.reasons().items() if reason == REASON] == PHONES[:4]
    assert send("winter", PHONES[:6]).phones == 0


def test_other_categories_and_namespaces_do_not_count(send: Callable[..., Any]) -> None:
    send("spring")
    assert send("notice", category="notice").accepted == 10
    assert send("plain", category=None).accepted == 10
    assert send("elsewhere", namespace="test").accepted == 10
    # Nor do texts without a cap of any other kind than marketing.
    send("more", category=None, guards=Guards())
    assert send("plain again", category=None, guards=capped(2)).accepted == 10
    assert send("notice again", category="notice").excluded == {REASON: 10}


def test_what_was_sent_before_the_period_does_not_count(send: Callable[..., Any], ledger: Ledger) -> None:
    send("spring")
    with ledger.writing() as connection:
        past = ledger.now(connection) - timedelta(days=7, minutes=1)
        connection.execute(update(texted_table).values(texted_at=past))
    assert send("summer", guards=capped(per=timedelta(days=8))).accepted == 0
    assert send("autumn").accepted == 10


def test_what_is_scheduled_counts_at_its_time(send: Callable[..., Any], campaigns: Campaigns) -> None:
    tomorrow = campaigns.now + timedelta(days=1)
    send("tomorrow", send_time=tomorrow)
    assert send("now", guards=capped(per=timedelta(hours=6))).accepted == 10
    assert send("also now", guards=capped(2, per=timedelta(days=2))).accepted == 0
    assert send("in a week", send_time=tomorrow + timedelta(days=7)).accepted == 10


def test_what_is_in_doubt_counts_and_what_was_refused_does_not(send: Callable[..., Any], ledger: Ledger) -> None:
    answers = [AnswerLostError("lost"), None, BalanceTooLowError("no points")]
    with pytest.raises(CampaignError):
        send("spring", platform=Platform(*answers))
    assert noted(ledger) == 4
    platform = Platform()
    assert send("summer", platform=platform).excluded == {REASON: 4}
    # And the campaign itself then finds that the others have had theirs.
    with pytest.raises(CampaignError):
        send("spring")
    assert noted(ledger) == 10


def test_a_verdict_frees_them(send: Callable[..., Any], ledger: Ledger, campaigns: Campaigns) -> None:
    with pytest.raises(CampaignError):
        send("spring", PHONES[:2], platform=Platform(AnswerLostError("lost")))
    verdicts.resolve_as_not_sent(ledger, campaigns.batches()[0].campaign_id, 1)
    assert noted(ledger) == 0
    assert send("summer", PHONES[:2]).accepted == 2


def put_in_doubt(send: Callable[..., Any], campaigns: Campaigns) -> None:
    """Two phones of the campaign `spring`; its lease is over."""
    with pytest.raises(CampaignError):
        send("spring", PHONES[:2], platform=Platform(AnswerLostError("lost")))
    campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001 - as the ledger keeps it


class TestALateAnswer:
    """It comes after a person has said that the batch was not sent: the text was accepted all the same."""

    @pytest.fixture
    def outbox(self, send: Callable[..., Any], ledger: Ledger, campaigns: Campaigns) -> Outbox:
        """Of the campaign `spring`, whose batch is planned."""
        with pytest.raises(CampaignError):
            send("spring", PHONES[:2], platform=Platform(*[UnsentError("away")] * 4))
        return self.of(ledger, own_name())

    @pytest.fixture
    def claim(self, outbox: Outbox, ledger: Ledger, campaigns: Campaigns) -> Claim:
        claim = outbox.claim("account", 60)
        assert claim is not None
        campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001 - as the ledger keeps it
        verdicts.resolve_as_not_sent(ledger, claim.campaign_id, 1)
        assert noted(ledger) == 0
        return claim

    @staticmethod
    def of(ledger: Ledger, owner: str) -> Outbox:
        campaign = Plans(ledger, owner).find(CampaignKey("", campaign_key="spring"))
        assert campaign is not None
        return Outbox(ledger, owner, campaign, frequency.Cap(1, timedelta(days=1)))

    def test_counts(self, send: Callable[..., Any], ledger: Ledger, outbox: Outbox, claim: Claim) -> None:
        for _ in range(2):
            outbox.accept(claim, Answer("T1", 2, None))
            assert noted(ledger) == 2
        assert send("summer", PHONES[:2]).excluded == {REASON: 2}

    def test_counts_also_where_another_attempt_has_begun_and_is_refused(
        self, send: Callable[..., Any], ledger: Ledger, outbox: Outbox, claim: Claim
    ) -> None:
        later = self.of(ledger, "another process")
        again = later.claim("account", 60)
        assert again is not None
        for _ in range(2):
            with pytest.raises(SettledOtherwiseError):
                outbox.accept(claim, Answer("T1", 2, None))
            assert noted(ledger) == 4
        later.refuse(again, "BalanceTooLowError", "no money")
        assert noted(ledger) == 2
        assert send("summer", PHONES[:2]).excluded == {REASON: 2}

    def test_that_counted_is_purged_with_its_campaign(self, ledger: Ledger, outbox: Outbox, claim: Claim) -> None:
        later = self.of(ledger, "another process")
        again = later.claim("account", 60)
        assert again is not None
        with pytest.raises(SettledOtherwiseError):
            outbox.accept(claim, Answer("T1", 2, None))
        later.accept(again, Answer("T2", 2, None))
        with ledger.reading() as connection:
            tomorrow = ledger.now(connection) + timedelta(days=1)
        upkeep.purge(ledger, aware(tomorrow), lambda removed: None)
        assert noted(ledger) == 0


def test_a_campaign_s_own_attempt_does_not_count_against_it(
    send: Callable[..., Any], ledger: Ledger, campaigns: Campaigns
) -> None:
    put_in_doubt(send, campaigns)
    assert send("spring", PHONES[:2], on_in_doubt="resend").accepted == 2
    assert noted(ledger) == 2


def test_what_was_in_doubt_counts_also_where_each_phone_of_it_is_refused_then(
    send: Callable[..., Any], ledger: Ledger, campaigns: Campaigns
) -> None:
    put_in_doubt(send, campaigns)
    with pytest.raises(CampaignError):
        send("spring", PHONES[:2], platform=Platform(*[PhoneFormatError("no mobile")] * 3), on_in_doubt="resend")
    assert [(batch.phones, batch.state) for batch in campaigns.batches()] == [(1, "refused"), (1, "refused")]
    assert noted(ledger) == 2
    assert send("summer", PHONES[:2]).excluded == {REASON: 2}


def test_what_was_in_doubt_counts_also_while_it_waits_to_be_sent_again(
    send: Callable[..., Any], ledger: Ledger, campaigns: Campaigns
) -> None:
    put_in_doubt(send, campaigns)
    away = Platform(*[UnsentError("away")] * 4)
    with pytest.raises(CampaignError):
        send("spring", PHONES[:2], platform=away, on_in_doubt="resend")
    assert [batch.state for batch in campaigns.batches()] == ["planned"]
    assert noted(ledger) == 2
    assert send("summer", PHONES[:2]).excluded == {REASON: 2}
    # Nor is it as if nothing had left: another text would be a second one.
    with pytest.raises(PlanChangedError, match="another content"):
        send("spring", PHONES[:2], content="【云通信】再见")
    assert send("spring", PHONES[:2]).accepted == 2
    assert noted(ledger) == 2


def test_what_another_campaign_has_sent_since_the_plan_is_found_at_the_claim(
    send: Callable[..., Any], campaigns: Campaigns
) -> None:
    def another_one_first(sender: Sender) -> None:
        send("first", PHONES[:3])

    platform = Platform()
    report = send("second", platform=platform, before_sending=another_one_first)
    assert (platform.accepted, report.excluded) == (PHONES[3:], {REASON: 3})
    # Once planned and left out, they are not taken for new ones by the next try.
    assert send("second", platform=platform) == report


@pytest.mark.parametrize("limit", ["MANY_CHUNKS", "COUNTED_AT_ONCE", "READ_AT_ONCE"])
def test_a_long_plan_finds_the_same(
    send: Callable[..., Any], campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Whether all that was noted is counted at once, or is too much for that."""
    monkeypatch.setattr(frequency, "MANY_CHUNKS", 2)
    monkeypatch.setattr(frequency, limit, 2)
    send("spring", PHONES[:6])
    send("summer", PHONES[2:6], guards=capped(2))
    chunks = [PHONES[at : at + 2] for at in range(0, 10, 2)]
    platform = Platform()
    assert send("autumn", read=lambda: chunks, guards=capped(2), platform=platform).excluded == {REASON: 4}
    assert platform.accepted == [*PHONES[:2], *PHONES[6:]]


def test_while_nothing_has_left_another_cap_plans_anew(send: Callable[..., Any]) -> None:
    send("spring", PHONES[:4])
    with pytest.raises(CampaignError):
        send("summer", platform=Platform(BalanceTooLowError("no points")))
    assert send("summer", guards=capped(2)).accepted == 10


def test_two_that_claim_at_once_do_not_both_text_a_phone(ledger: Ledger) -> None:
    reports: list[Any] = []
    both = threading.Barrier(2)

    def run(name: str) -> None:
        reports.append(
            Campaigns(ledger).run(
                Platform(),
                key=CampaignKey("", campaign_key=name),
                category="marketing",
                guards=capped(),
                before_sending=lambda sender: both.wait(30) and None,
            )
        )

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(report.accepted for report in reports) == 10
    assert sum(report.excluded.get(REASON, 0) for report in reports) == 10


def test_purging_a_campaign_removes_its_phones_here_too(send: Callable[..., Any], ledger: Ledger) -> None:
    send("spring")
    assert noted(ledger) == 10
    with ledger.reading() as connection:
        tomorrow = ledger.now(connection) + timedelta(days=1)
    upkeep.purge(ledger, aware(tomorrow), lambda removed: None)
    assert noted(ledger) == 0
