"""What keeps a campaign from going out as it is: looked at by the plan, and again before every request."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from airflow_provider_sms.gateway.categories import Category
from airflow_provider_sms.gateway.errors import (
    AnswerLostError,
    BalanceTooLowError,
    CredentialsError,
    HoursError,
    MaxPointsError,
    MessagesError,
    MinBalanceError,
    SendTimeError,
    TextError,
    UnsentError,
)
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.guards import Guards
from airflow_provider_sms.ledger import targets, views
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import PlanChangedError
from airflow_provider_sms.ledger.outbox import Outbox
from airflow_provider_sms.ledger.schema import BatchState, campaign_table
from airflow_provider_sms.send_judging import CampaignError
from tests.support.campaigns import PHONES, TEXT, Campaigns, Deferred, Platform, defer

DAY = Guards()
HOUR = timedelta(hours=1)
LONG_AGO = datetime(2020, 1, 1)  # noqa: DTZ001 - as the ledger keeps it


# The ledger goes by its own clock, so that these are the days around today, Beijing.
TODAY = datetime.now(BEIJING).replace(second=0, microsecond=0)


def at(clock: str, day: int = 1) -> datetime:
    """A time in Beijing; tomorrow's if nothing else is said."""
    hour, minute = map(int, clock.split(":"))
    return (TODAY + timedelta(days=day)).replace(hour=hour, minute=minute).astimezone(UTC)


def row(ledger: Ledger) -> Any:
    """The one campaign."""
    with ledger.reading() as connection:
        return connection.execute(select(campaign_table)).one()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sending_hours": "daytime"}, "sending_hours: expected two different times"),
        ({"outside_hours": "later"}, "outside_hours: 'later' is none of 'wait', 'schedule', 'fail'"),
        ({"max_per_phone": 0}, "max_per_phone: 0 is not between 1 and"),
        ({"max_per_phone": True}, "max_per_phone: expected a whole number, got bool"),
        ({"per": 7}, "per: expected a timedelta, got int"),
        ({"per": timedelta(0)}, "per: must be longer than nothing"),
        ({"per": timedelta(days=400)}, "no longer than 366 days"),
        ({"max_points": -1}, "max_points: -1 is not between 0 and"),
        ({"min_balance_after": "100"}, "min_balance_after: expected a whole number, got str"),
        ({"opt_out_wording": "maybe"}, "opt_out_wording: 'maybe' is none of 'add', 'require'"),
    ],
)
def test_a_wrong_one_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Guards(**wrong)


def test_what_suits_a_category_is_the_default_and_what_is_said_counts_for_all() -> None:
    assert str(DAY.hours(Category.MARKETING)) == "08:00-21:00"
    assert (DAY.hours(Category.NOTICE), DAY.hours(None), DAY.wording(Category.NOTICE)) == (None, None, None)
    assert str(Guards(sending_hours=("09:00", "18:00")).hours(None)) == "09:00-18:00"
    assert Guards(sending_hours=None, opt_out_wording=None).told(Category.MARKETING) == {"category": "marketing"}
    assert Guards(max_per_phone=3, per=timedelta(hours=36), max_points=9, min_balance_after=0).told(None) == {
        "maxPerPhone": 3,
        "perDays": 1.5,
        "maxPoints": 9,
        "minBalanceAfter": 0,
    }


class TestSendingHours:
    def test_in_them_it_goes_out_at_once(self, campaigns: Campaigns, ledger: Ledger) -> None:
        campaigns.now, platform = at("20:59", 0), Platform()
        report = campaigns.run(platform, category="marketing", guards=DAY)
        assert (report.accepted, platform.send_times) == (10, [None] * 5)
        assert report.summary()["guards"] == {
            "category": "marketing",
            "sendingHours": "08:00-21:00",
            "outsideHours": "wait",
            "optOutWording": "added",
        }

    def test_outside_them_it_leaves_the_process_and_no_wait_is_used_up(
        self, campaigns: Campaigns, ledger: Ledger
    ) -> None:
        campaigns.now, platform = at("22:00", 0), Platform()
        with pytest.raises(Deferred) as left:
            campaigns.run(
                platform, category="marketing", guards=DAY, defer=defer, waited=7.0, max_wait=timedelta(seconds=9)
            )
        assert (left.value.seconds, left.value.waited) == (10 * 3600.0, 7.0)
        assert platform.requests == []
        (heading,) = views.find(ledger, "dag/run/send")
        assert heading.waits_until == at("08:00")

    def test_the_time_to_send_counts_from_when_they_begin(self, campaigns: Campaigns, ledger: Ledger) -> None:
        campaigns.now, platform = at("22:00", 0), Platform()
        again: dict[str, Any] = {"category": "marketing", "guards": DAY, "valid_for": timedelta(hours=1)}
        with pytest.raises(Deferred):
            campaigns.run(platform, defer=defer, **again)
        assert row(ledger).valid_until == at("09:00").replace(tzinfo=None)
        # A retry in the night sends nothing, and loses nothing.
        campaigns.now = at("03:00")
        with pytest.raises(Deferred):
            campaigns.run(platform, defer=defer, **again)
        campaigns.now = at("08:59")
        assert campaigns.run(platform, **again).accepted == 10
        assert platform.send_times == [None] * 5

    def test_a_campaign_that_runs_into_the_evening_goes_on_in_the_morning(
        self, campaigns: Campaigns, ledger: Ledger
    ) -> None:
        campaigns.now, campaigns.time_passes = at("20:59", 0), True

        def evening(platform: Platform) -> None:
            campaigns.now = at("21:00", 0)

        platform = Platform(None, evening)
        report = campaigns.run(platform, category="marketing", guards=DAY)
        assert report.accepted == 10
        assert row(ledger).valid_until == at("08:00", 2).replace(tzinfo=None)
        assert campaigns.now >= at("08:00")
        assert sum(campaigns.pauses) >= 11 * 3600

    def test_the_evening_may_come_while_a_batch_is_claimed(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = Outbox.claim

        def until_nine(self: Outbox, *arguments: Any) -> Any:
            claim = real(self, *arguments)
            campaigns.now = at("21:00", 0)
            return claim

        monkeypatch.setattr(Outbox, "claim", until_nine)
        campaigns.now, platform = at("20:59", 0), Platform()
        with pytest.raises(Deferred):
            campaigns.run(platform, category="marketing", guards=DAY, defer=defer)
        assert platform.requests == []
        assert {batch.state for batch in campaigns.batches()} == {BatchState.PLANNED}

    def test_in_place_too_the_time_to_send_counts_from_the_morning(self, campaigns: Campaigns) -> None:
        campaigns.now, campaigns.time_passes = at("20:59", 0), True

        def evening(platform: Platform) -> None:
            campaigns.now = at("21:00", 0)

        soon = 2 * HOUR + (at("20:59", 0) - datetime.now(UTC))
        report = campaigns.run(Platform(evening), category="marketing", guards=DAY, valid_for=max(soon, HOUR))
        assert report.accepted == 10

    def test_a_campaign_of_which_nothing_is_left_waits_for_nothing(self, campaigns: Campaigns) -> None:
        campaigns.now, platform = at("20:00", 0), Platform()
        first = campaigns.run(platform, category="marketing", guards=DAY)
        campaigns.now = at("03:00")
        assert campaigns.run(platform, category="marketing", guards=DAY) == first

    def test_in_doubt_is_not_sent_again_at_three_in_the_night(self, campaigns: Campaigns) -> None:
        days: dict[str, Any] = {"category": "marketing", "guards": DAY, "valid_for": timedelta(days=3)}
        campaigns.now, platform = at("20:00", 0), Platform(AnswerLostError("lost"))
        with pytest.raises(CampaignError):
            campaigns.run(platform, PHONES[:2], **days)
        campaigns.change_batches(lease_until=LONG_AGO)
        campaigns.now = at("03:00")
        with pytest.raises(Deferred):
            campaigns.run(platform, PHONES[:2], **days, on_in_doubt="resend", defer=defer)
        assert len(platform.requests) == 1
        assert [batch.state for batch in campaigns.batches()] == [BatchState.IN_DOUBT]
        campaigns.now = at("08:00")
        report = campaigns.run(platform, PHONES[:2], **days, on_in_doubt="resend")
        assert report.accepted == 2

    def test_nor_is_what_was_too_late(self, campaigns: Campaigns) -> None:
        campaigns.now, platform = at("20:00", -1), Platform(BalanceTooLowError("no points"))
        with pytest.raises(CampaignError):
            campaigns.run(platform, category="marketing", guards=DAY)
        campaigns.now = at("03:00", 3)
        with pytest.raises(CampaignError, match="too late"):
            campaigns.run(platform, category="marketing", guards=DAY)
        with pytest.raises(Deferred):
            campaigns.run(platform, category="marketing", guards=DAY, on_expired="send_now", defer=defer)
        assert len(platform.requests) == 1

    def test_schedule_has_the_platform_wait(self, campaigns: Campaigns, ledger: Ledger) -> None:
        campaigns.now, platform = at("22:00", 0), Platform()
        guards = Guards(outside_hours="schedule")  # type: ignore[arg-type]
        report = campaigns.run(platform, category="marketing", guards=guards)
        assert platform.send_times == [at("08:00")] * 5
        assert report.summary()["scheduledFor"] == at("08:00").astimezone(BEIJING).isoformat()
        # Receipts are waited for from then on.
        assert targets.campaign(ledger, report.campaign, "").send_time == at("08:00")
        assert targets.batches(ledger, report.task_ids).send_time == at("08:00")
        campaigns.now = at("12:00", 0)
        assert campaigns.run(platform, category="marketing", guards=guards) == report

    def test_shortly_before_they_begin_it_is_scheduled_half_an_hour_later(self, campaigns: Campaigns) -> None:
        campaigns.now, platform = at("07:45"), Platform()
        guards = Guards(outside_hours="schedule")  # type: ignore[arg-type]
        campaigns.run(platform, PHONES[:2], category="marketing", guards=guards)
        assert platform.send_times == [at("08:17")]

    def test_fail_says_so_before_anything_is_stored_or_sent(self, campaigns: Campaigns) -> None:
        campaigns.now, platform = at("22:10"), Platform()
        guards = Guards(outside_hours="fail")  # type: ignore[arg-type]
        with pytest.raises(HoursError, match=r"^sending_hours: it is 22:10 Beijing time, outside 08:00-21:00"):
            campaigns.run(platform, category="marketing", guards=guards)
        assert (platform.requests, campaigns.batches()) == ([], [])

    def test_fail_ends_what_runs_into_the_evening_for_good(self, campaigns: Campaigns) -> None:
        def evening(platform: Platform) -> None:
            campaigns.now = at("21:00", 0)

        campaigns.now, platform = at("20:59", 0), Platform(evening)
        guards = Guards(outside_hours="fail")  # type: ignore[arg-type]
        with pytest.raises(CampaignError, match="sending_hours: ") as error:
            campaigns.run(platform, category="marketing", guards=guards)
        assert not error.value.passes_by_itself
        assert [batch.state for batch in campaigns.batches()] == [BatchState.ACCEPTED, *[BatchState.PLANNED] * 4]

    def test_a_send_time_outside_them_is_a_mistake(self, campaigns: Campaigns) -> None:
        campaigns.now, platform = at("12:00", 0), Platform()
        with pytest.raises(SendTimeError, match="send_time: .* 21:30 Beijing time is outside"):
            campaigns.run(platform, category="marketing", guards=DAY, send_time=at("21:30", 0))
        campaigns.now = at("03:00")
        campaigns.run(platform, PHONES[:2], category="marketing", guards=DAY, send_time=at("08:30"))
        assert platform.send_times == [at("08:30")]

    def test_notices_go_out_at_any_time_unless_they_have_hours_of_their_own(self, campaigns: Campaigns) -> None:
        campaigns.now, platform = at("03:00", 0), Platform()
        with pytest.raises(Deferred):
            campaigns.run(platform, category="notice", guards=Guards(sending_hours=("09:00", "18:00")), defer=defer)
        assert campaigns.run(platform, category="notice", guards=DAY).accepted == 10


class TestMaxPoints:
    def test_a_plan_that_costs_more_is_not_stored(self, campaigns: Campaigns) -> None:
        platform = Platform()
        with pytest.raises(MaxPointsError, match=r"^max_points: the plan costs 20 points, and it may cost 19\."):
            campaigns.run(platform, [*PHONES, "rubbish"], TEXT + "好" * 65, guards=Guards(max_points=19))
        assert (platform.requests, campaigns.batches()) == ([], [])
        assert campaigns.run(platform, content=TEXT + "好" * 65, guards=Guards(max_points=20)).accepted == 10

    def test_of_personal_texts_each_counts_what_it_costs(self, campaigns: Campaigns) -> None:
        platform = Platform()
        rows = [(PHONES[0], TEXT), (PHONES[1], TEXT + "好" * 65)]
        with pytest.raises(MaxPointsError, match=r"the plan costs 3 points, and it may cost 2\."):
            campaigns.run(platform, messages=rows, guards=Guards(max_points=2))
        assert (platform.requests, campaigns.batches()) == ([], [])
        assert campaigns.run(platform, messages=rows, guards=Guards(max_points=3)).points == 3

    def test_one_that_is_lowered_stops_what_is_left(self, campaigns: Campaigns) -> None:
        platform = Platform(None, BalanceTooLowError("no points"))
        with pytest.raises(CampaignError):
            campaigns.run(platform, guards=Guards(max_points=20))
        said = r"the plan costs 10 points, and it may cost 9\. Nothing was sent by this try"
        with pytest.raises(MaxPointsError, match=said):
            campaigns.run(platform, guards=Guards(max_points=9))
        assert len(platform.requests) == 2
        assert campaigns.run(platform, guards=Guards(max_points=10)).accepted == 10
        # Nothing is left that it could stop.
        assert campaigns.run(platform, guards=Guards(max_points=9)).accepted == 10

    @pytest.mark.parametrize("state", [BatchState.IN_DOUBT, BatchState.SENDING])
    def test_it_stops_also_what_may_have_left_and_would_be_sent_again(
        self, campaigns: Campaigns, state: BatchState
    ) -> None:
        platform = Platform(AnswerLostError("lost"))
        with pytest.raises(CampaignError):
            campaigns.run(platform, PHONES[:2])
        campaigns.change_batches(lease_until=LONG_AGO, state=state)
        with pytest.raises(MaxPointsError):
            campaigns.run(platform, PHONES[:2], guards=Guards(max_points=1), on_in_doubt="resend")
        assert len(platform.requests) == 1


class TestChangedBetweenTwoTries:
    """What holds a campaign back is what its report says, and what was sent is not told anew."""

    ANY_HOUR: dict[str, Any] = {"sending_hours": None}  # noqa: RUF012

    def half_sent(self, campaigns: Campaigns, **guards: Any) -> Platform:
        platform = Platform(None, BalanceTooLowError("no points"))
        with pytest.raises(CampaignError):
            campaigns.run(platform, category="marketing", guards=Guards(**self.ANY_HOUR, **guards))
        return platform

    def test_the_new_ones_count_for_what_is_left(self, campaigns: Campaigns) -> None:
        platform = self.half_sent(campaigns)
        guards = Guards(**self.ANY_HOUR, max_per_phone=3)
        report = campaigns.run(platform, category="marketing", guards=guards)
        said = {"category": "marketing", "maxPerPhone": 3, "perDays": 7, "optOutWording": "added"}
        assert report.summary()["guards"] == said
        # Nothing was sent under these.
        later = Guards(**self.ANY_HOUR, max_per_phone=9)
        assert campaigns.run(platform, category="marketing", guards=later).summary()["guards"] == said

    def test_its_category_stays_what_it_was(self, campaigns: Campaigns) -> None:
        platform = self.half_sent(campaigns)
        with pytest.raises(PlanChangedError, match="another content and category"):
            campaigns.run(platform, category="notice")
        campaigns.now = at("12:00", 0)
        report = campaigns.run(platform, category="notice", guards=DAY, on_changed="resume")
        assert report.summary()["guards"] == {
            "category": "marketing",
            "sendingHours": "08:00-21:00",
            "outsideHours": "wait",
            "optOutWording": "added",
        }

    def test_so_does_its_text_whatever_would_be_added_now(self, campaigns: Campaigns) -> None:
        platform = self.half_sent(campaigns, opt_out_wording=None)
        guards = Guards(**self.ANY_HOUR)
        report = campaigns.run(platform, category="marketing", guards=guards, on_changed="resume")
        assert all(texts == [TEXT] for texts in platform.texts.values())
        assert report.summary()["guards"] == {"category": "marketing"}


class TestMinBalanceAfter:
    GUARDS = Guards(min_balance_after=100)

    def test_too_few_points_stop_it_before_the_first_request(self, campaigns: Campaigns) -> None:
        platform = Platform()
        platform.balances = [109]
        with pytest.raises(MinBalanceError, match="the account has 109 points .* costs 10: 99 would be left") as error:
            campaigns.run(platform, guards=self.GUARDS)
        assert "Top up" in str(error.value)
        assert platform.requests == []
        platform.balances = [110]
        assert campaigns.run(platform, guards=self.GUARDS).accepted == 10
        assert platform.asked == 2

    def test_personal_texts_cost_what_those_left_cost(self, campaigns: Campaigns) -> None:
        platform = Platform(None, BalanceTooLowError("no points"))
        platform.balances = [103, 101, 102]
        rows = [(PHONES[0], TEXT), (PHONES[1], TEXT + "好" * 65)]
        with pytest.raises(CampaignError):
            campaigns.run(platform, messages=rows, guards=self.GUARDS)
        with pytest.raises(MinBalanceError, match="has 101 points and what is left to send costs 2"):
            campaigns.run(platform, messages=rows, guards=self.GUARDS)
        assert campaigns.run(platform, messages=rows, guards=self.GUARDS).accepted == 2

    def test_a_retry_counts_what_is_left_and_one_that_is_done_asks_nothing(self, campaigns: Campaigns) -> None:
        platform = Platform(None, None, BalanceTooLowError("no points"))
        platform.balances = [500]
        with pytest.raises(CampaignError):
            campaigns.run(platform, guards=self.GUARDS)
        platform.balances = [106]
        assert campaigns.run(platform, guards=self.GUARDS).accepted == 10
        campaigns.run(platform, guards=self.GUARDS)
        assert platform.asked == 2

    def test_it_is_asked_when_the_hours_begin_not_before(self, campaigns: Campaigns) -> None:
        campaigns.now, platform = at("03:00"), Platform()
        platform.balances = [0]
        with pytest.raises(Deferred):
            campaigns.run(platform, category="marketing", guards=Guards(min_balance_after=100), defer=defer)
        assert platform.asked == 0

    def test_a_balance_that_is_not_known_sends_nothing(self, campaigns: Campaigns) -> None:
        platform = Platform()
        platform.balances = [UnsentError("away"), UnsentError("away"), 500]
        assert campaigns.run(platform, PHONES[:2], guards=self.GUARDS).accepted == 2
        platform.balances = [UnsentError("away")]
        with pytest.raises(CampaignError, match="The balance is not known") as error:
            campaigns.run(platform, PHONES[2:], map_index=1, guards=self.GUARDS)
        assert error.value.passes_by_itself
        platform.balances = [CredentialsError("no")]
        with pytest.raises(CampaignError, match="App Key") as error:
            campaigns.run(platform, PHONES[2:], map_index=1, guards=self.GUARDS)
        assert not error.value.passes_by_itself
        assert len(platform.requests) == 1


class TestOptOutWording:
    def test_marketing_gets_it_and_is_charged_for_it(self, campaigns: Campaigns, ledger: Ledger) -> None:
        campaigns.now, platform = at("12:00", 0), Platform()
        content = "【云通信】" + "好" * 60
        report = campaigns.run(platform, content=content, category="marketing", guards=DAY)
        assert row(ledger).content == content + "拒收请回复R"
        assert (report.segments, report.points, report.guards["optOutWording"]) == (2, 20, "added")
        # Every try adds the same.
        assert campaigns.run(platform, content=content, category="marketing", guards=DAY) == report

    def test_personal_texts_get_it_where_they_lack_it(self, campaigns: Campaigns, ledger: Ledger) -> None:
        campaigns.now, platform = at("12:00", 0), Platform()
        long, own = "【云通信】" + "好" * 60, "【云通信】您好,回TD退订"
        rows = [(PHONES[0], long), (PHONES[1], own)]
        report = campaigns.run(platform, messages=rows, category="marketing", guards=DAY)
        assert platform.texts == {PHONES[0]: [long + "拒收请回复R"], PHONES[1]: [own]}
        assert (report.segments, report.points, report.guards["optOutWording"]) == (2, 3, "added")
        assert campaigns.run(platform, messages=rows, category="marketing", guards=DAY) == report
        assert len(platform.requests) == 2

    def test_of_personal_texts_it_can_be_required_too(self, campaigns: Campaigns) -> None:
        campaigns.now, platform = at("12:00", 0), Platform()
        rows = [(PHONES[0], "【云通信】您好,回TD退订"), (PHONES[1], "【云通信】您好")]
        with pytest.raises(MessagesError, match=r"does not say how to opt out, .* in 1 row \(2\)"):
            campaigns.run(platform, messages=rows, category="marketing", guards=Guards(opt_out_wording="require"))
        assert platform.requests == []

    def test_a_text_that_says_it_in_its_own_way_stays_as_it_is(self, campaigns: Campaigns, ledger: Ledger) -> None:
        campaigns.now = at("12:00", 0)
        report = campaigns.run(Platform(), content=TEXT + ",回TD退订", category="marketing", guards=DAY)
        assert row(ledger).content == TEXT + ",回TD退订"
        assert report.guards["optOutWording"] == "present"

    def test_it_can_be_required(self, campaigns: Campaigns) -> None:
        campaigns.now, platform = at("12:00", 0), Platform()
        guards = Guards(opt_out_wording="require")
        with pytest.raises(TextError, match=r"^content: the text does not say how to opt out, such as 拒收请回复R"):
            campaigns.run(platform, category="marketing", guards=guards)
        assert platform.requests == []

    def test_a_text_that_is_too_long_with_it_says_so(self, campaigns: Campaigns) -> None:
        with pytest.raises(TextError, match="501 characters .* with 拒收请回复R, which was added"):
            campaigns.run(Platform(), content="【云通信】" + "好" * 490, category="marketing", guards=DAY)


def test_the_log_says_what_is_waited_for(campaigns: Campaigns, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    campaigns.now = at("22:00", 0)
    with pytest.raises(Deferred):
        campaigns.run(Platform(), category="marketing", guards=DAY, defer=defer)
    opens = f"{at('08:00').astimezone(BEIJING):%Y-%m-%d} 08:00"
    said = f"Outside the sending hours, 08:00-21:00: waiting until {opens} Beijing time."
    assert said in caplog.messages


def test_a_text_that_only_its_wording_tells_from_the_stored_one_says_so(campaigns: Campaigns) -> None:
    """As after an upgrade from a version that added none."""
    campaigns.now = at("12:00", 0)
    with pytest.raises(CampaignError):
        campaigns.run(Platform(None, BalanceTooLowError("no points")), category="marketing")
    with pytest.raises(PlanChangedError, match=r"another content.*opt_out_wording=None leaves the text as it was"):
        campaigns.run(Platform(), category="marketing", guards=DAY)
    platform = Platform()
    assert campaigns.run(platform, category="marketing").accepted == len(PHONES)
    assert platform.accepted == PHONES[2:]
