"""The list of those who want no marketing, and what it does to a campaign, on each database."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select

from airflow_provider_sms import send_steps
from airflow_provider_sms.gateway.errors import AnswerLostError, PhoneFormatError, UnsentError
from airflow_provider_sms.ledger import opt_outs
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerError, LedgerUnreachableError
from airflow_provider_sms.ledger.opt_outs import Source
from airflow_provider_sms.ledger.schema import BatchState, campaign_table
from airflow_provider_sms.send_judging import CampaignError
from airflow_provider_sms.sending import Sender
from tests.support.campaigns import PHONES, Campaigns, Platform

REASON = "opted out"


@pytest.fixture
def ledger(any_ledger: Ledger) -> Ledger:
    return any_ledger


def opt_out(ledger: Ledger, *phones: str) -> None:
    with ledger.writing() as connection:
        for phone in phones:
            opt_outs.add(connection, ledger, phone, source=Source.REPLY)


def opting_out(ledger: Ledger, *phones: str) -> Callable[[Sender], None]:
    """What comes between the plan and the send."""
    return lambda sender: opt_out(ledger, *phones)


class TestTheList:
    def test_a_phone_is_put_on_it_once(self, ledger: Ledger) -> None:
        with ledger.writing() as connection:
            added = opt_outs.add(
                connection, ledger, PHONES[0], source="reply", account="FAKE-APP-ID", reply_id=7, note="n" * 300
            )
            again = opt_outs.add(connection, ledger, PHONES[0], source="person")
        assert (added, again) == (True, False)
        ((found,),) = opt_outs.listed(ledger)
        assert (found.phone, found.source, found.account, found.reply_id) == (PHONES[0], "reply", "FAKE-APP-ID", 7)
        assert found.note == "n" * 200
        assert found.created_at.tzinfo is not None
        assert PHONES[0] not in repr(found)

    def test_many_at_once(self, ledger: Ledger) -> None:
        opt_out(ledger, PHONES[0])
        with ledger.writing() as connection:
            assert opt_outs.add_all(connection, ledger, PHONES[:4], source="import", note="from the shop") == 3
            assert opt_outs.add_all(connection, ledger, [], source="import") == 0
        (found,) = opt_outs.listed(ledger)
        assert [each.phone for each in found] == PHONES[:4]
        assert [each.source for each in found] == ["reply", "import", "import", "import"]
        assert found[1].note == "from the shop"
        assert abs((found[1].created_at - found[0].created_at).total_seconds()) < 60

    def test_a_phone_is_taken_off_it(self, ledger: Ledger) -> None:
        opt_out(ledger, *PHONES[:2])
        with ledger.writing() as connection:
            assert opt_outs.remove(connection, PHONES[0])
            assert not opt_outs.remove(connection, PHONES[0])
            assert opt_outs.among(connection, PHONES) == {PHONES[1]}

    def test_which_of_some_are_on_it(self, ledger: Ledger) -> None:
        opt_out(ledger, PHONES[3], PHONES[5])
        with ledger.reading() as connection:
            assert opt_outs.among(connection, [*PHONES[:5], "", "not a phone %s '\"\\", "号码"]) == {PHONES[3]}
            assert opt_outs.among(connection, []) == set()

    def test_many_are_asked_about_in_chunks(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        opt_out(ledger, PHONES[0], PHONES[9])
        monkeypatch.setattr(opt_outs, "CHUNK", 3)
        with ledger.reading() as connection:
            assert opt_outs.among(connection, PHONES) == {PHONES[0], PHONES[9]}

    def test_a_long_one_is_read_in_chunks(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        opt_out(ledger, *PHONES[:5])
        monkeypatch.setattr(opt_outs, "CHUNK", 2)
        assert [[each.phone for each in chunk] for chunk in opt_outs.listed(ledger)] == [
            PHONES[:2],
            PHONES[2:4],
            PHONES[4:5],
        ]

    @pytest.mark.parametrize("most", [1, 100])
    def test_a_plan_asks_chunk_by_chunk(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        monkeypatch.setattr(opt_outs, "READ_AT_ONCE", most)
        opt_out(ledger, PHONES[0], PHONES[3], PHONES[8])
        lookup = opt_outs.Lookup(ledger)
        found = [lookup.among(PHONES[start : start + 4]) for start in (0, 4, 8)]
        assert found == [{PHONES[0], PHONES[3]}, set(), {PHONES[8]}]

    def test_a_list_that_is_not_too_long_is_read_once(self, ledger: Ledger) -> None:
        opt_out(ledger, PHONES[0])
        lookup = opt_outs.Lookup(ledger)
        lookup.among(PHONES[:1])
        lookup.among(PHONES[:1])
        opt_out(ledger, PHONES[1])
        assert lookup.among(PHONES[:2]) == {PHONES[0]}


class TestACampaign:
    @pytest.fixture
    def campaigns(self, ledger: Ledger) -> Campaigns:
        return Campaigns(ledger)

    def test_marketing_leaves_out_who_has_opted_out(self, campaigns: Campaigns, ledger: Ledger) -> None:
        opt_out(ledger, PHONES[1], PHONES[4])
        platform = Platform()
        report = campaigns.run(platform, [*PHONES, PHONES[4], "rubbish"], category="marketing")
        texted = [phone for phone in PHONES if phone not in (PHONES[1], PHONES[4])]
        assert platform.accepted == texted
        assert (report.accepted, report.excluded) == (8, {REASON: 2, "duplicate": 1, "malformed": 1})
        reasons = campaigns.reasons()
        assert {phone for phone in PHONES if reasons[phone] == REASON} >= {PHONES[1]}

    @pytest.mark.parametrize("category", [None, "notice"])
    def test_everything_else_goes_to_all(self, campaigns: Campaigns, ledger: Ledger, category: str | None) -> None:
        opt_out(ledger, *PHONES[:3])
        platform = Platform()
        report = campaigns.run(platform, category=category, before_sending=opting_out(ledger, PHONES[5]))
        assert platform.accepted == PHONES
        assert report.excluded == {}

    def test_what_comes_between_plan_and_claim_counts(self, campaigns: Campaigns, ledger: Ledger) -> None:
        platform = Platform()
        report = campaigns.run(
            platform, category="marketing", before_sending=opting_out(ledger, PHONES[0], PHONES[4], PHONES[5])
        )
        assert platform.accepted == [PHONES[1], PHONES[2], PHONES[3], *PHONES[6:]]
        assert (report.accepted, report.excluded, report.phones) == (7, {REASON: 3}, 7)
        # The batch of two that have opted out is gone, as nothing of it was ever sent.
        assert [batch.phones for batch in campaigns.batches()] == [1, 2, 2, 2]
        assert [phone for phone, reason in campaigns.reasons().items() if reason == REASON] == [
            PHONES[0],
            PHONES[4],
            PHONES[5],
        ]

    def test_while_it_is_sending(self, campaigns: Campaigns, ledger: Ledger) -> None:
        platform = Platform(lambda platform: opt_out(ledger, PHONES[3]))
        report = campaigns.run(platform, category="marketing")
        assert PHONES[3] not in platform.accepted
        assert (report.accepted, report.excluded) == (9, {REASON: 1})

    def test_a_retry_leaves_them_out(self, campaigns: Campaigns, ledger: Ledger) -> None:
        platform = Platform(
            None, UnsentError("no way"), UnsentError("no way"), UnsentError("no way"), UnsentError("no way")
        )
        with pytest.raises(CampaignError):
            campaigns.run(platform, category="marketing")
        assert platform.accepted == PHONES[:2]
        opt_out(ledger, PHONES[0], PHONES[2])
        report = campaigns.run(platform, category="marketing")
        assert platform.accepted == [*PHONES[:2], *PHONES[3:]]
        # Who was texted before opting out was texted.
        assert (report.accepted, report.excluded) == (9, {REASON: 1})
        # A third try finds nothing new to say, whoever has opted out meanwhile.
        opt_out(ledger, PHONES[9])
        assert campaigns.run(platform, category="marketing") == report

    def test_a_retry_with_the_same_phones_takes_nobody_for_added(self, campaigns: Campaigns, ledger: Ledger) -> None:
        opt_out(ledger, PHONES[0])
        platform = Platform()
        first = campaigns.run(platform, category="marketing")
        second = campaigns.run(platform, [*PHONES[:9]], category="marketing")
        assert second.excluded == first.excluded == {REASON: 1}
        third = campaigns.run(platform, [*PHONES, "13800139999"], category="marketing")
        assert third.excluded == {REASON: 1, "after plan": 1}

    def test_a_plan_of_which_nothing_has_left_is_replaced(self, campaigns: Campaigns, ledger: Ledger) -> None:
        platform = Platform()

        def stop(sender: Sender) -> None:
            sender.stop()

        with pytest.raises(CampaignError):
            campaigns.run(platform, PHONES[:4], category="marketing", before_sending=stop)
        opt_out(ledger, PHONES[1])
        report = campaigns.run(platform, PHONES[:5], category="marketing")
        assert platform.accepted == [PHONES[0], *PHONES[2:5]]
        assert report.excluded == {REASON: 1}

    def test_halves_leave_them_out(self, campaigns: Campaigns, ledger: Ledger) -> None:
        refusal = PhoneFormatError("The platform refused: 手机号码格式不正确", "手机号码格式不正确")

        def refuse(platform: Platform) -> PhoneFormatError:
            opt_out(ledger, PHONES[1], PHONES[6])
            return refusal

        platform = Platform(refuse)
        report = campaigns.run(platform, PHONES[:8], category="marketing", batch_size=8)
        assert sorted(platform.accepted) == [PHONES[0], *PHONES[2:6], PHONES[7]]
        assert (report.accepted, report.excluded, report.phones) == (6, {REASON: 2}, 6)

    def test_a_half_of_which_nobody_is_left_is_gone(self, campaigns: Campaigns, ledger: Ledger) -> None:
        def refuse(platform: Platform) -> PhoneFormatError:
            opt_out(ledger, *PHONES[:2])
            return PhoneFormatError("The platform refused: 手机号码格式不正确", "手机号码格式不正确")

        platform = Platform(refuse)
        report = campaigns.run(platform, PHONES[:4], category="marketing", batch_size=4)
        assert platform.accepted == PHONES[2:4]
        assert (report.accepted, report.excluded, report.batches) == (2, {REASON: 2}, 1)

    def test_mapped_instances_leave_them_out(self, campaigns: Campaigns, ledger: Ledger) -> None:
        platform = Platform()
        first = campaigns.run(
            platform, PHONES[:6], category="marketing", map_index=0, before_sending=opting_out(ledger, PHONES[0])
        )
        second = campaigns.run(
            platform,
            PHONES[4:],
            category="marketing",
            map_index=1,
            before_sending=opting_out(ledger, PHONES[8], PHONES[9]),
        )
        third = campaigns.run(platform, PHONES[:2], category="marketing", map_index=2)
        assert platform.accepted == PHONES[1:8]
        assert first.excluded == {REASON: 1}
        assert second.excluded == {"in another instance": 2, REASON: 2}
        assert third.excluded == {REASON: 1, "in another instance": 1}

    def test_an_opted_out_phone_is_taken_by_no_instance(self, campaigns: Campaigns, ledger: Ledger) -> None:
        platform = Platform()
        campaigns.run(
            platform, PHONES[:1], category="marketing", map_index=0, before_sending=opting_out(ledger, PHONES[0])
        )
        with ledger.writing() as connection:
            opt_outs.remove(connection, PHONES[0])
        campaigns.run(platform, PHONES[:1], category="marketing", map_index=1)
        assert platform.accepted == PHONES[:1]

    def test_what_is_in_doubt_is_not_sent_again_to_them(self, campaigns: Campaigns, ledger: Ledger) -> None:
        platform = Platform(AnswerLostError("lost"))
        with pytest.raises(CampaignError):
            campaigns.run(platform, PHONES[:4], category="marketing")
        campaigns.change_batches(lease_until=campaigns.now.replace(tzinfo=None, year=2020))
        opt_out(ledger, PHONES[0])
        report = campaigns.run(platform, PHONES[:4], category="marketing", on_in_doubt="resend")
        assert platform.requests == [tuple(PHONES[:2]), tuple(PHONES[2:4]), (PHONES[1],)]
        assert (report.accepted, report.in_doubt, report.excluded) == (3, 0, {REASON: 1})

    def test_a_batch_in_doubt_stays_to_be_found(self, campaigns: Campaigns, ledger: Ledger) -> None:
        platform = Platform(AnswerLostError("lost"))
        with pytest.raises(CampaignError):
            campaigns.run(platform, PHONES[:4], category="marketing")
        campaigns.change_batches(lease_until=campaigns.now.replace(tzinfo=None, year=2020))
        opt_out(ledger, *PHONES[:2])
        report = campaigns.run(platform, PHONES[:4], category="marketing", on_in_doubt="resend")
        assert platform.requests == [tuple(PHONES[:2]), tuple(PHONES[2:4])]
        assert (report.accepted, report.expired, report.excluded) == (2, 0, {REASON: 2})
        first, _ = campaigns.batches()
        assert (first.state, first.phones) == (BatchState.EXPIRED, 0)

    def test_a_campaign_of_nobody_ends_well(self, campaigns: Campaigns, ledger: Ledger) -> None:
        opt_out(ledger, *PHONES)
        platform = Platform()
        report = campaigns.run(platform, category="marketing")
        assert platform.requests == []
        assert (report.phones, report.excluded) == (0, {REASON: 10})
        assert campaigns.run(platform, category="marketing") == report

    def test_another_category_is_another_campaign(self, campaigns: Campaigns, ledger: Ledger) -> None:
        platform = Platform()
        campaigns.run(platform, category="marketing")
        with ledger.reading() as connection:
            assert connection.execute(select(campaign_table.c.category)).scalars().all() == ["marketing"]
        with pytest.raises(LedgerError, match="another category"):
            campaigns.run(platform, category="notice")

    def test_a_list_that_can_not_be_asked_lets_no_plan_through(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*arguments: object) -> None:
            raise LedgerUnreachableError("away")

        monkeypatch.setattr(opt_outs.Lookup, "among", away)
        platform = Platform()
        with pytest.raises(LedgerUnreachableError):
            campaigns.run(platform, category="marketing")
        assert platform.requests == []

    def test_nor_a_claim(self, campaigns: Campaigns, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(send_steps, "SETTLE_LIMIT", 0.0)

        def lose_the_list(sender: Sender) -> None:
            with ledger.writing() as connection:
                connection.exec_driver_sql("ALTER TABLE sms_opt_out RENAME TO sms_opt_out_lost")

        platform = Platform()
        try:
            with pytest.raises((CampaignError, LedgerError)):
                campaigns.run(platform, category="marketing", before_sending=lose_the_list)
        finally:
            with ledger.writing() as connection:
                connection.exec_driver_sql("ALTER TABLE sms_opt_out_lost RENAME TO sms_opt_out")
        assert platform.requests == []
        assert {batch.state for batch in campaigns.batches()} == {BatchState.PLANNED}
        assert campaigns.run(platform, category="marketing").accepted == 10
