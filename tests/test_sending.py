"""The send: what each answer means for a batch, for the others, and for the try; and what passes by itself."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_sms import sending
from airflow_provider_sms.gateway import errors, times
from airflow_provider_sms.gateway.account import Account
from airflow_provider_sms.gateway.answers import Acceptance
from airflow_provider_sms.guards import Guards, OutsideHours
from airflow_provider_sms.ledger import reports
from airflow_provider_sms.ledger.claims import Claim
from airflow_provider_sms.ledger.errors import LedgerError, LedgerUnreachableError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.outbox import Outbox, SettledOtherwiseError
from airflow_provider_sms.ledger.owners import own_name
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.reports import Report
from airflow_provider_sms.ledger.schema import BatchState, batch_table
from airflow_provider_sms.ledger.settling import Answer
from airflow_provider_sms.send_judging import CampaignError
from airflow_provider_sms.send_progress import Progress
from airflow_provider_sms.sending import Sender
from tests.support.campaigns import ACCOUNT, NOON, PHONES, SENDER, Campaigns, Deferred, Platform, defer

LOST = errors.AnswerLostError("The request left, but no answer came: Connection reset by peer.")
UNSENT = errors.UnsentError("The platform can not be reached: Connection refused.")
UNLISTED = errors.UnlistedRefusalError("The platform refused: 别的.")
NO_MONEY = errors.BalanceTooLowError("The platform refused: 余额不足.")
TOO_OFTEN = errors.PhoneTooOftenError("The platform refused: 一分钟.")
PHONE_CAP = errors.PhoneDailyCapError("The platform refused: 该号码今日发送次数已达上限.")
BAD_PHONE = errors.PhoneFormatError("The platform refused: 手机号码格式不正确.")
DAY_CAP = errors.AccountDailyCapError("The platform refused: 当日发送量已超出最大发送限制.")
TOO_MANY = errors.HttpTooManyError("HTTP status 429.", 429)
WRONG_HOST = errors.HttpRefusedError("HTTP status 404.", 404)
DEAD = " ".join([*own_name().split(" ")[:-2], "99999999", "1"])
BATCHES = [tuple(PHONES[start : start + 2]) for start in range(0, 10, 2)]


def states(campaigns: Campaigns) -> list[str]:
    return [row.state for row in campaigns.batches()]


def failure(campaigns: Campaigns, platform: Platform, **changes: object) -> CampaignError:
    with pytest.raises(CampaignError) as caught:
        campaigns.run(platform, **changes)  # type: ignore[arg-type]
    return caught.value


class TestAccepted:
    def test_every_batch_goes_out_once_and_the_ledger_says_so(self, campaigns: Campaigns) -> None:
        platform = Platform()
        report = campaigns.run(platform)
        assert platform.requests == BATCHES
        assert (report.accepted, report.not_sent, report.in_doubt, report.refused) == (10, 0, 0, 0)
        assert report.task_ids == ("T1", "T2", "T3", "T4", "T5")
        assert report.remain_point == 995
        assert {row.account for row in campaigns.batches()} == {"FAKE-APP-ID"}

    def test_the_claim_is_in_the_ledger_before_the_first_byte(self, campaigns: Campaigns) -> None:
        seen: list[list[str]] = []

        def look(platform: Platform) -> None:
            seen.append(states(campaigns))

        campaigns.run(Platform(look, look), PHONES[:4])
        assert seen == [["sending", "planned"], ["accepted", "sending"]]

    def test_a_retry_of_a_campaign_that_is_done_sends_nothing_and_says_the_same(self, campaigns: Campaigns) -> None:
        first = campaigns.run(Platform())
        again = Platform()
        assert campaigns.run(again) == first
        assert again.requests == []

    def test_fewer_counted_than_sent_is_said_and_not_repeated(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture
    ) -> None:
        report = campaigns.run(Platform(Acceptance("T9", 1, 7)), PHONES[:2])
        assert (report.accepted, report.refused, report.refused_batches) == (1, 1, 0)
        assert "counts 1 of 2 phones" in caplog.text

    def test_task_ids_are_told_with_those_of_earlier_tries(self, campaigns: Campaigns) -> None:
        told: list[Report] = []
        failure(campaigns, Platform(None, NO_MONEY), on_accepted=told.append)
        assert list(told[-1].task_ids) == ["T1"]
        campaigns.run(Platform(Acceptance("U1", None, None)), on_accepted=told.append)
        assert list(told[-1].task_ids) == ["T1", "U1", "T2", "T3", "T4"]

    def test_several_in_flight_send_each_batch_once(self, campaigns: Campaigns) -> None:
        platform = Platform()
        phones = [f"138{number:08d}" for number in range(101)]
        report = campaigns.run(platform, phones, max_in_flight=8)
        assert sorted(platform.accepted) == phones
        assert report.accepted == 101
        assert len(set(report.task_ids)) == 51


class TestProgress:
    @pytest.fixture(autouse=True)
    def looks_often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sending, "TELL_INTERVAL", 0.01)

    def lines(self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture, seconds: float) -> list[str]:
        """What is said while five batches take so many seconds each."""
        passed = 0.0

        def time_passes(platform: Platform) -> None:
            nonlocal passed
            passed += seconds
            # Until the main thread has looked at the clock.
            looked.clear()
            assert looked.wait(10)

        def clock() -> float:
            looked.set()
            return passed

        looked = threading.Event()

        with caplog.at_level(logging.INFO):
            campaigns.run(Platform(*[time_passes] * 5), clock=clock)
        return [each.getMessage() for each in caplog.records if each.getMessage().startswith("Progress")]

    def test_counts_rate_and_remaining_time_are_said(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture
    ) -> None:
        lines = self.lines(campaigns, caplog, seconds=20)
        assert len(lines) >= 4
        assert lines[-1].startswith("Progress: ")
        assert " of 10 phones (" in lines[-1]
        assert " a second, " in lines[-1]
        assert " s left; 99" in lines[-1]

    def test_the_rate_is_that_of_this_try_from_its_first_line_on_also_if_nobody_wants_task_ids(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture
    ) -> None:
        failure(campaigns, Platform(None, *[UNSENT] * 4))
        campaign = Plans(campaigns.ledger, own_name()).find(CampaignKey("", SENDER))
        assert campaign is not None
        passed = 100.0
        progress = Progress(campaigns.ledger, campaign, campaigns.log, lambda: passed, None)
        progress.begin()
        with caplog.at_level(logging.INFO):
            for number in (2, 3, 4):
                campaigns.change_batches(batch_table.c.number == number, state=BatchState.ACCEPTED, accepted=2)
                passed += 10
                progress.tell()
        lines = [each.getMessage() for each in caplog.records if each.getMessage().startswith("Progress")]
        assert [line.partition(" (")[0] for line in lines] == [f"Progress: {done} of 10 phones" for done in (4, 6, 8)]
        assert [line.partition("), ")[2].partition(";")[0] for line in lines] == [
            "0.2 a second, 30 s left",
            "0.2 a second, 20 s left",
            "0.2 a second, 10 s left",
        ]

    def test_a_ledger_that_is_away_at_first_is_measured_from_when_it_is_back(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*args: object) -> None:
            raise LedgerUnreachableError("away")

        failure(campaigns, Platform(None, *[UNSENT] * 4))
        campaign = Plans(campaigns.ledger, own_name()).find(CampaignKey("", SENDER))
        assert campaign is not None
        passed = 100.0
        progress = Progress(campaigns.ledger, campaign, campaigns.log, lambda: passed, None)
        with monkeypatch.context() as while_away:
            while_away.setattr(reports, "report", away)
            progress.begin()
        with caplog.at_level(logging.INFO):
            passed += 50
            progress.tell()
            assert "Progress" not in caplog.text
            campaigns.change_batches(batch_table.c.number == 2, state=BatchState.ACCEPTED, accepted=2)
            passed += 10
            progress.tell()
        assert "Progress: 4 of 10 phones" in caplog.text
        assert " 0.2 a second, 30 s left;" in caplog.text

    def test_at_a_bounded_pace(self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture) -> None:
        assert len(self.lines(campaigns, caplog, seconds=4)) <= 2


class TestUnsent:
    def test_it_is_tried_again_in_place(self, campaigns: Campaigns) -> None:
        platform = Platform(UNSENT, UNSENT, None)
        assert campaigns.run(platform, PHONES[:2]).accepted == 2
        assert campaigns.pauses == [2.0, 4.0]

    def test_after_a_few_tries_the_batch_stays_planned_and_a_retry_of_the_task_carries_on(
        self, campaigns: Campaigns
    ) -> None:
        error = failure(campaigns, Platform(None, UNSENT, UNSENT, UNSENT, UNSENT))
        assert error.passes_by_itself
        assert states(campaigns) == ["accepted", "planned", "planned", "planned", "planned"]
        again = Platform()
        assert campaigns.run(again).accepted == 10
        assert again.requests == BATCHES[1:]

    def test_a_lease_that_ended_before_the_first_byte_keeps_the_request_back(self, campaigns: Campaigns) -> None:
        def lease_ends(platform: Platform) -> None:
            campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001 - as the ledger keeps it

        platform = Platform(lease_ends, None)
        assert campaigns.run(platform, PHONES[:2]).accepted == 2
        assert platform.requests == BATCHES[:1]

    def test_a_batch_that_another_has_put_in_doubt_meanwhile_does_not_leave(self, campaigns: Campaigns) -> None:
        def overtaken(platform: Platform) -> None:
            campaigns.change_batches(state=BatchState.IN_DOUBT)

        platform = Platform(overtaken, None)
        assert campaigns.run(platform, PHONES[:2]).accepted == 2
        assert platform.requests == BATCHES[:1]

    def test_a_send_time_that_is_too_soon_is_refused_before_anything_is_stored(self, campaigns: Campaigns) -> None:
        with pytest.raises(errors.SendTimeError):
            campaigns.run(Platform(), send_time=campaigns.now + timedelta(minutes=20))
        assert campaigns.batches() == []


class TestRefused:
    @pytest.mark.parametrize("refusal", [NO_MONEY, WRONG_HOST], ids=["balance", "host"])
    def test_what_a_person_can_lift_ends_the_try_for_good_and_a_clear_carries_on(
        self, campaigns: Campaigns, refusal: errors.RefusedError
    ) -> None:
        error = failure(campaigns, Platform(None, refusal))
        assert not error.passes_by_itself
        assert refusal.remedy in str(error)
        assert states(campaigns) == ["accepted", "refused", "planned", "planned", "planned"]
        again = Platform()
        assert campaigns.run(again).accepted == 10
        assert again.requests == BATCHES[1:]

    def test_a_refusal_that_nobody_knows_is_never_repeated_and_the_others_go_out(self, campaigns: Campaigns) -> None:
        error = failure(campaigns, Platform(None, UNLISTED))
        assert not error.passes_by_itself
        assert (error.report.accepted, error.report.refused) == (8, 2)
        again = Platform()
        assert failure(campaigns, again).report.refused == 2
        assert again.requests == []

    def test_three_of_them_in_a_row_stop_the_campaign(self, campaigns: Campaigns) -> None:
        error = failure(campaigns, Platform(None, UNLISTED, UNLISTED, UNLISTED))
        assert (error.report.refused, error.report.not_sent) == (6, 2)
        assert not error.passes_by_itself

    def test_three_that_are_not_in_a_row_do_not(self, campaigns: Campaigns) -> None:
        error = failure(campaigns, Platform(UNLISTED, None, UNLISTED, None, UNLISTED))
        assert (error.report.accepted, error.report.refused) == (4, 6)


class TestPhoneRefused:
    def test_the_batch_is_halved_until_the_phone_stands_alone(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture
    ) -> None:
        platform = Refusing({PHONES[6]: BAD_PHONE})
        report = campaigns.run(platform, batch_size=8)
        assert sorted(platform.accepted) == sorted(set(PHONES) - {PHONES[6]})
        assert (report.accepted, report.refused, report.refused_batches) == (9, 1, 0)
        assert "Refused by the platform: 1 phones" in caplog.text
        assert platform.alone == [PHONES[6]]

    def test_a_phone_that_stood_alone_is_not_tried_again_by_a_clear(self, campaigns: Campaigns) -> None:
        campaigns.run(Refusing({PHONES[6]: BAD_PHONE}), batch_size=8)
        again = Platform()
        assert campaigns.run(again, batch_size=8).refused == 1
        assert again.requests == []

    def test_fail_refuses_the_whole_batch_and_sends_the_others(self, campaigns: Campaigns) -> None:
        error = failure(campaigns, Refusing({PHONES[1]: BAD_PHONE}), on_phone_refused="fail")
        assert (error.report.accepted, error.report.refused) == (8, 2)
        assert not error.passes_by_itself

    def test_a_campaign_of_which_no_phone_is_taken_fails(self, campaigns: Campaigns) -> None:
        error = failure(campaigns, Refusing({PHONES[0]: BAD_PHONE}), phones=PHONES[:1])
        assert not error.passes_by_itself
        assert error.report.refused == 1

    def test_a_half_that_is_refused_as_too_often_has_probably_gone_out_before(self, campaigns: Campaigns) -> None:
        error = failure(campaigns, Platform(BAD_PHONE, TOO_OFTEN, None), phones=PHONES[:2])
        assert (error.report.in_doubt, error.report.accepted) == (1, 1)
        assert not error.passes_by_itself

    def test_several_in_flight_may_halve_at_once(self, campaigns: Campaigns) -> None:
        platform = Refusing(dict.fromkeys(PHONES[::3], BAD_PHONE))
        report = campaigns.run(platform, batch_size=3, max_in_flight=4)
        assert (report.accepted, report.refused, report.refused_batches) == (6, 4, 0)

    def test_a_daily_cap_of_one_phone_alone_is_waited_for_if_that_is_allowed(self, campaigns: Campaigns) -> None:
        campaigns.now = datetime(2030, 1, 31, 15, 30, tzinfo=UTC)  # half an hour before midnight in Beijing
        with pytest.raises(Deferred) as deferred:
            campaigns.run(
                Refusing({PHONES[0]: PHONE_CAP}), PHONES[:2], defer=defer, max_wait=timedelta(hours=1), valid_for=YEARS
            )
        assert deferred.value.seconds == 31 * 60

    def test_a_daily_cap_of_one_phone_does_not_keep_the_others(self, campaigns: Campaigns) -> None:
        campaigns.now = NOON
        report = campaigns.run(Refusing({PHONES[0]: PHONE_CAP}), valid_for=YEARS)
        assert (report.accepted, report.refused) == (9, 1)


YEARS = timedelta(days=3650)


class Refusing(Platform):
    """Refuses every request that holds one of these phones."""

    def __init__(self, bad: dict[str, errors.RefusedError]) -> None:
        super().__init__()
        self.bad = bad
        self.alone: list[str] = []

    def send(self, phones, content, send_time=None, *, leaving):  # type: ignore[no-untyped-def]
        for phone, refusal in self.bad.items():
            if phone in phones:
                leaving(self.account.timeout)
                if len(phones) == 1:
                    self.alone.append(phone)
                raise refusal
        return super().send(phones, content, send_time, leaving=leaving)


class TestWaiting:
    @pytest.mark.parametrize("refusal", [TOO_OFTEN, TOO_MANY])
    def test_a_minute_is_waited_in_place_and_the_whole_batch_sent_again(
        self, campaigns: Campaigns, refusal: errors.RefusedError
    ) -> None:
        platform = Platform(None, refusal)
        assert campaigns.run(platform).accepted == 10
        assert sum(campaigns.pauses) == 60
        assert platform.requests == [BATCHES[0], BATCHES[1], *BATCHES[1:]]

    def test_what_takes_longer_than_max_wait_fails_as_retryable_and_nothing_is_lost(self, campaigns: Campaigns) -> None:
        campaigns.now = NOON
        error = failure(campaigns, Platform(None, DAY_CAP), valid_for=YEARS)
        assert error.passes_by_itself
        assert states(campaigns) == ["accepted", "planned", "planned", "planned", "planned"]
        assert campaigns.pauses == []

    def test_waits_add_up_within_a_try(self, campaigns: Campaigns) -> None:
        error = failure(campaigns, Platform(*[TOO_OFTEN] * 10), phones=PHONES[:2])
        assert error.passes_by_itself
        assert sum(campaigns.pauses) == 300

    def test_what_was_waited_before_a_deferral_counts(self, campaigns: Campaigns) -> None:
        failure(campaigns, Platform(TOO_OFTEN), phones=PHONES[:2], waited=250.0)
        assert campaigns.pauses == []

    def test_a_long_wait_leaves_the_process(self, campaigns: Campaigns) -> None:
        campaigns.now = datetime(2030, 1, 31, 14, 0, tzinfo=UTC)
        with pytest.raises(Deferred) as deferred:
            campaigns.run(Platform(DAY_CAP), defer=defer, max_wait=timedelta(hours=3), valid_for=YEARS)
        assert deferred.value.seconds == deferred.value.waited == 2 * 3600 + 60
        assert set(states(campaigns)) == {"planned"}


class TestInDoubt:
    def test_the_others_still_go_out_and_the_try_fails_for_good(self, campaigns: Campaigns) -> None:
        error = failure(campaigns, Platform(None, LOST))
        assert not error.passes_by_itself
        assert (error.report.accepted, error.report.in_doubt) == (8, 2)
        assert "airflow-sms status dag/run/send" in str(error)
        assert "airflow-sms resolve dag/run/send --batch 2 --sent|--not-sent" in str(error)

    def test_a_clear_does_not_repeat_it(self, campaigns: Campaigns) -> None:
        failure(campaigns, Platform(None, LOST))
        again = Platform()
        assert failure(campaigns, again).report.in_doubt == 2
        assert again.requests == []

    def test_three_in_a_row_stop_the_campaign_early(self, campaigns: Campaigns) -> None:
        error = failure(campaigns, Platform(LOST, LOST, LOST))
        assert (error.report.in_doubt, error.report.not_sent) == (6, 4)
        assert not error.passes_by_itself

    def test_assume_sent_ends_well_and_says_so(self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture) -> None:
        report = campaigns.run(Platform(None, LOST), on_in_doubt="assume_sent")
        assert (report.accepted, report.in_doubt) == (8, 2)
        assert "taken for sent (on_in_doubt): 2 phones" in caplog.text

    def test_resend_waits_for_the_lease_and_sends_once_more(self, campaigns: Campaigns) -> None:
        def lease_over(seconds: float) -> None:
            campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001
            campaigns.pauses += [seconds]

        platform = Platform(None, LOST)
        report = campaigns.run(platform, on_in_doubt="resend", defer=lambda seconds, waited: lease_over(seconds))
        assert report.accepted == 10
        assert platform.requests == [*BATCHES, BATCHES[1]]
        assert 60 < campaigns.pauses[0] <= 90

    def test_a_resend_that_is_refused_as_too_often_probably_went_out_and_stays_in_doubt(
        self, campaigns: Campaigns
    ) -> None:
        failure(campaigns, Platform(LOST), phones=PHONES[:2])
        campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001
        again = Platform(TOO_OFTEN)
        error = failure(campaigns, again, phones=PHONES[:2], on_in_doubt="resend")
        assert error.report.in_doubt == 2
        assert len(again.requests) == 1

    def test_what_is_too_late_to_be_resent_stays_in_doubt(self, campaigns: Campaigns) -> None:
        failure(campaigns, Platform(LOST), phones=PHONES[:2])
        campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001
        campaigns.now += timedelta(hours=25)
        again = Platform()
        error = failure(campaigns, again, phones=PHONES[:2], on_in_doubt="resend")
        assert again.requests == []
        assert (error.report.in_doubt, error.report.expired) == (2, 0)
        assert not error.passes_by_itself

    def test_so_does_what_is_too_late_once_the_lease_is_over(self, campaigns: Campaigns) -> None:
        def a_day_passes() -> None:
            campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001
            campaigns.now += timedelta(hours=25)

        campaigns.pauses = Watching(a_day_passes)
        error = failure(campaigns, Platform(LOST), phones=PHONES[:2], on_in_doubt="resend")
        assert (error.report.in_doubt, error.report.expired) == (2, 0)

    def test_after_a_signal_nothing_in_doubt_is_planned_again(self, campaigns: Campaigns) -> None:
        def stop() -> None:
            campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001
            senders[0].stop()

        senders: list[Sender] = []
        campaigns.pauses = Watching(stop)
        platform = Platform(LOST)
        failure(campaigns, platform, phones=PHONES[:2], on_in_doubt="resend", before_sending=senders.append)
        assert states(campaigns) == ["in_doubt"]

    def test_a_batch_is_resent_once_a_try_and_three_times_in_all(self, campaigns: Campaigns) -> None:
        requests = 0
        for _ in range(6):
            platform = Platform(LOST, LOST)
            failure(campaigns, platform, phones=PHONES[:2], on_in_doubt="resend")
            requests += len(platform.requests)
            campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001
        assert requests == 1 + 3

    def test_wait_leaves_the_process_to_look_for_receipts_later(self, campaigns: Campaigns) -> None:
        with pytest.raises(Deferred) as deferred:
            campaigns.run(Platform(None, LOST), on_in_doubt="wait", defer=defer)
        assert deferred.value.seconds == 120

    def test_wait_fails_as_retryable_when_nothing_comes(self, campaigns: Campaigns) -> None:
        error = failure(campaigns, Platform(None, LOST), on_in_doubt="wait")
        assert error.passes_by_itself
        assert error.report.in_doubt == 2
        assert sum(campaigns.pauses) == 240


class TestTimes:
    def test_what_is_left_after_valid_for_expires(self, campaigns: Campaigns) -> None:
        failure(campaigns, Platform(None, UNSENT, UNSENT, UNSENT, UNSENT))
        campaigns.now += timedelta(hours=25)
        again = Platform()
        error = failure(campaigns, again)
        assert again.requests == []
        assert (error.report.accepted, error.report.expired) == (2, 8)
        assert not error.passes_by_itself
        assert "on_expired='send_now'" in str(error)

    def test_send_now_sends_even_what_has_expired(self, campaigns: Campaigns) -> None:
        failure(campaigns, Platform(None, UNSENT, UNSENT, UNSENT, UNSENT))
        campaigns.now += timedelta(hours=25)
        failure(campaigns, Platform())
        assert campaigns.run(Platform(), on_expired="send_now").accepted == 10

    def test_a_send_time_is_handed_on(self, campaigns: Campaigns) -> None:
        platform = Platform()
        later = (campaigns.now + timedelta(hours=2)).replace(microsecond=0)
        campaigns.run(platform, PHONES[:2], send_time=later)
        assert platform.send_times == [later]

    def test_a_send_time_that_has_gone_stale_expires(self, campaigns: Campaigns) -> None:
        later = (campaigns.now + timedelta(hours=2)).replace(microsecond=0)
        failure(campaigns, Platform(None, UNSENT, UNSENT, UNSENT, UNSENT), send_time=later)
        campaigns.now += timedelta(minutes=100)
        error = failure(campaigns, Platform(), send_time=later)
        assert (error.report.accepted, error.report.expired) == (2, 8)

    def test_or_goes_out_at_once_if_that_is_wanted(self, campaigns: Campaigns) -> None:
        later = (campaigns.now + timedelta(hours=2)).replace(microsecond=0)
        failure(campaigns, Platform(None, UNSENT, UNSENT, UNSENT, UNSENT), send_time=later)
        campaigns.now += timedelta(minutes=100)
        platform = Platform()
        assert campaigns.run(platform, send_time=later, on_expired="send_now").accepted == 10
        assert set(platform.send_times) == {None}

    @pytest.mark.parametrize("choice", ["fail", "send_now"])
    def test_a_send_time_that_goes_stale_between_claim_and_request(self, campaigns: Campaigns, choice: str) -> None:
        later = (campaigns.now + timedelta(minutes=40)).replace(microsecond=0)

        def ten_minutes_pass(platform: Platform) -> None:
            campaigns.now += timedelta(minutes=10)

        platform = Prompt(campaigns, None, ten_minutes_pass)
        if choice == "send_now":
            assert campaigns.run(platform, send_time=later, on_expired=choice).accepted == 10
            assert platform.send_times == [later, None, None, None, None]
        else:
            error = failure(campaigns, platform, send_time=later, on_expired=choice)
            assert (error.report.accepted, error.report.expired, error.report.not_sent) == (2, 8, 0)

    def test_a_clock_that_differs_from_the_client_s_ends_it(self, campaigns: Campaigns) -> None:
        stale = errors.SendTimeError("send_time: too soon.")
        later = (campaigns.now + timedelta(minutes=40)).replace(microsecond=0)
        platform = Platform(*[stale] * 100)
        error = failure(campaigns, platform, send_time=later)
        assert (error.report.not_sent, len(platform.answers)) == (10, 96)

    @pytest.mark.parametrize("choice", ["fail", "send_now"])
    def test_so_it_does_where_nothing_has_left_yet(self, campaigns: Campaigns, choice: str) -> None:
        later = (campaigns.now + timedelta(hours=2)).replace(microsecond=0)
        failure(campaigns, Platform(UNSENT, UNSENT, UNSENT, UNSENT), send_time=later)
        campaigns.now += timedelta(minutes=100)
        platform = Platform()
        if choice == "send_now":
            assert campaigns.run(platform, send_time=later, on_expired=choice).accepted == 10
            assert set(platform.send_times) == {None}
        else:
            assert failure(campaigns, platform, send_time=later, on_expired=choice).report.expired == 10
            assert platform.requests == []

    def test_valid_for_counts_from_the_send_time(self, campaigns: Campaigns) -> None:
        later = (campaigns.now + timedelta(hours=48)).replace(microsecond=0)
        failure(campaigns, Platform(UNSENT, UNSENT, UNSENT, UNSENT), send_time=later)
        campaigns.now += timedelta(hours=30)
        assert campaigns.run(Platform(), send_time=later).accepted == 10


class TestHoursInTheMiddle:
    def marketing(self, campaigns: Campaigns, platform: Platform, **changes: Any) -> Any:
        return campaigns.run(platform, category="marketing", guards=Guards(opt_out_wording=None), **changes)

    def test_a_clock_that_jumps_ends_the_wait_for_them(self, campaigns: Campaigns) -> None:
        def morning() -> None:
            campaigns.now = NIGHT + timedelta(hours=11)

        campaigns.now, campaigns.pauses = NIGHT, Watching(morning)
        assert self.marketing(campaigns, Platform(), valid_for=YEARS).accepted == 10
        assert len(campaigns.pauses) == 1

    def test_a_ledger_that_goes_away_while_a_claim_is_put_off_leaves_nothing_claimed(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        claim = Outbox.claim

        def evening(outbox: Outbox, *arguments: Any) -> Any:
            claimed = claim(outbox, *arguments)
            campaigns.now = NIGHT
            return claimed

        monkeypatch.setattr(Outbox, "claim", evening)
        Away(monkeypatch, "schedule", times=10_000)
        campaigns.now = NIGHT - timedelta(hours=2)
        guards = Guards(outside_hours=OutsideHours.SCHEDULE, opt_out_wording=None)
        error = failure_in_time(campaigns, Platform(), category="marketing", guards=guards, valid_for=YEARS)
        assert error.passes_by_itself
        assert states(campaigns) == ["planned"] * 5

    def test_in_doubt_stays_in_doubt_overnight_also_if_the_evening_comes_while_a_lease_is_waited_for(
        self, campaigns: Campaigns
    ) -> None:
        def evening() -> None:
            # The lease is waited for less than a hundred seconds.
            if len(campaigns.pauses) > 60:
                campaigns.now = NIGHT + timedelta(hours=11)
                return
            campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001
            seen.extend(states(campaigns))
            campaigns.now = NIGHT

        seen: list[str] = []
        campaigns.now, campaigns.pauses = NIGHT - timedelta(minutes=1), Watching(evening)
        platform = Platform(LOST)
        report = self.marketing(campaigns, platform, phones=PHONES[:2], on_in_doubt="resend", valid_for=YEARS)
        assert set(seen) == {"in_doubt"}
        assert campaigns.now > NIGHT
        assert (report.accepted, len(platform.requests)) == (2, 2)


NIGHT = datetime(2030, 1, 31, 13, 0, tzinfo=UTC)
"""Nine in the evening in Beijing."""


class Prompt(Platform):
    """Looks at the time to send at as the client does, and at nothing else before it."""

    def __init__(self, campaigns: Campaigns, *answers: object) -> None:
        super().__init__()
        self._campaigns = campaigns
        self._before: list[Any] = list(answers)

    def send(self, phones, content, send_time=None, *, leaving):  # type: ignore[no-untyped-def]
        if self._before and (passes := self._before.pop(0)):
            passes(self)
        times.wire_time(send_time, self._campaigns.now)
        return super().send(phones, content, send_time, leaving=leaving)


class TestStopping:
    def test_after_a_signal_nothing_more_is_claimed_and_what_is_under_way_is_settled(
        self, campaigns: Campaigns
    ) -> None:
        senders: list[Sender] = []
        platform = Platform(None, lambda platform: senders[0].stop())
        error = failure(campaigns, platform, before_sending=senders.append)
        assert error.passes_by_itself
        assert states(campaigns) == ["accepted", "accepted", "planned", "planned", "planned"]

    def test_airflow_s_own_time_out_lets_the_request_end_first(self, campaigns: Campaigns) -> None:
        class TaskTimeout(BaseException):
            pass

        timed_out = threading.Event()

        def interrupted(report: Report) -> None:
            timed_out.set()
            raise TaskTimeout

        platform = Platform(None, lambda platform: timed_out.wait(10) and None)
        with pytest.raises(TaskTimeout):
            campaigns.run(platform, on_accepted=interrupted)
        assert states(campaigns)[:3] == ["accepted", "accepted", "planned"]

    def test_a_claim_that_is_won_after_the_signal_is_given_back(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The ledger may keep a claim waiting for long."""
        senders, claim = list[Sender](), Outbox.claim

        def stopped_meanwhile(outbox: Outbox, *arguments: Any) -> Claim | None:
            senders[0].stop()
            return claim(outbox, *arguments)

        monkeypatch.setattr(Outbox, "claim", stopped_meanwhile)
        platform = Platform()
        error = failure(campaigns, platform, before_sending=senders.append)
        assert platform.requests == []
        assert states(campaigns) == ["planned"] * 5
        assert (error.passes_by_itself, error.report.not_sent) == (True, 10)

    def test_a_claim_that_the_ledger_does_not_take_is_not_repeated_after_the_signal(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        senders: list[Sender] = []
        Away(monkeypatch, "claim", times=20)
        campaigns.pauses = Watching(lambda: senders[0].stop() if len(campaigns.pauses) == 2 else None)
        assert failure(campaigns, Platform(), before_sending=senders.append).passes_by_itself
        assert campaigns.pauses == [1.0, 2.0]

    def test_unless_nobody_knows_whether_it_was_taken(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        senders, claim, tries = list[Sender](), Outbox.claim, list[int]()

        def commit_unheard_of(outbox: Outbox, *arguments: Any) -> Claim | None:
            tries.append(len(tries))
            if len(tries) == 1:
                outbox.uncertain = claim(outbox, *arguments)
            if len(tries) <= 4:
                raise LedgerUnreachableError("The ledger (postgresql on nowhere) says: away.")
            return claim(outbox, *arguments)

        monkeypatch.setattr(Outbox, "claim", commit_unheard_of)
        campaigns.pauses = Watching(lambda: senders[0].stop())
        platform = Platform()
        assert failure(campaigns, platform, before_sending=senders.append).passes_by_itself
        assert platform.requests == []
        assert states(campaigns) == ["planned"] * 5

    def test_a_second_signal_too_lets_the_request_end_first(self, campaigns: Campaigns) -> None:
        class Interrupted(BaseException):
            pass

        interruptions: list[int] = []

        def interrupt(number: int, frame: object) -> None:
            interruptions.append(number)
            raise Interrupted

        def interrupted_twice(platform: Platform) -> None:
            os.kill(os.getpid(), signal.SIGUSR1)
            wait_until(lambda: len(interruptions) == 1)
            os.kill(os.getpid(), signal.SIGUSR1)
            wait_until(lambda: len(interruptions) == 2)
            answered_after_all.append(given_up.wait(0.3))

        given_up, answered_after_all = threading.Event(), list[bool]()
        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            with pytest.raises(Interrupted):
                campaigns.run(Platform(None, interrupted_twice))
        finally:
            given_up.set()
            signal.signal(signal.SIGUSR1, before)
        assert answered_after_all == [False]
        assert states(campaigns) == ["accepted", "accepted", "planned", "planned", "planned"]

    def test_threads_that_have_started_before_one_could_not_send_nothing_more(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start, started = threading.Thread.start, list[threading.Thread]()

        def start_one(thread: threading.Thread) -> None:
            if not thread.name.startswith("sms-send"):
                return start(thread)
            if started:
                raise RuntimeError("can't start new thread")
            started.append(thread)
            return start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_one)
        in_request, raised = threading.Event(), threading.Event()

        def waits(platform: Platform) -> None:
            in_request.set()
            raised.wait(0.3)

        platform = Platform(waits)
        with pytest.raises(RuntimeError, match="new thread"):
            campaigns.run(platform, max_in_flight=3)
        raised.set()
        started[0].join(0.1)
        assert not started[0].is_alive()
        assert len(platform.requests) <= 1
        assert BatchState.SENDING not in states(campaigns)

    def test_a_bug_before_the_first_byte_leaves_all_of_them_planned(self, campaigns: Campaigns) -> None:
        class NoThreads(Platform):
            def send(self, *args: object, **kwargs: object) -> Acceptance:
                raise RuntimeError("can't start new thread")

        error = failure(campaigns, NoThreads())
        assert "can't start new thread" in str(error)
        assert error.passes_by_itself
        assert states(campaigns) == ["planned"] * 5

    def test_a_bug_on_the_way_leaves_the_batch_in_doubt_and_the_rest_planned(self, campaigns: Campaigns) -> None:
        failure(campaigns, Platform(None, RuntimeError("a bug")))
        assert states(campaigns) == ["accepted", "in_doubt", "planned", "planned", "planned"]


class TestOthers:
    """Batches that another process is sending, as far as anybody knows."""

    def held_by(self, campaigns: Campaigns, owner: str, seconds: float = 60) -> None:
        failure(campaigns, Platform(None, UNSENT, UNSENT, UNSENT, UNSENT), phones=PHONES[:4])
        campaigns.change_batches(
            batch_table.c.state == BatchState.PLANNED,
            state=BatchState.SENDING,
            owner=owner,
            lease_until=(datetime.now(UTC) + timedelta(seconds=seconds)).replace(tzinfo=None),
            claimed_at=datetime.now(UTC).replace(tzinfo=None),
        )
        campaigns.pauses.clear()

    def test_one_that_is_provably_dead_is_not_waited_for(self, campaigns: Campaigns) -> None:
        self.held_by(campaigns, DEAD)
        error = failure(campaigns, Platform(), phones=PHONES[:4])
        assert campaigns.pauses == []
        assert error.report.in_doubt == 2

    def test_one_on_another_host_is_waited_for_and_the_log_says_so(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.held_by(campaigns, "elsewhere boot 1 2 3", seconds=50)
        with caplog.at_level(logging.INFO):
            campaigns.pauses = Ending(campaigns, after=3)
            error = failure(campaigns, Platform(), phones=PHONES[:4])
        assert "Another process (elsewhere boot 1 2 3) is sending batch 2; waiting for it" in caplog.text
        assert error.report.in_doubt == 2

    def test_a_lease_longer_than_a_minute_is_waited_for_outside_the_process(self, campaigns: Campaigns) -> None:
        self.held_by(campaigns, "elsewhere boot 1 2 3", seconds=90)
        with pytest.raises(Deferred) as deferred:
            campaigns.run(Platform(), PHONES[:4], defer=defer)
        assert 80 < deferred.value.seconds <= 90

    def test_an_answer_that_comes_after_the_lease_still_counts(self, campaigns: Campaigns) -> None:
        class Slow(Platform):
            def send(self, *args, **kwargs):  # type: ignore[no-untyped-def]
                answer = super().send(*args, **kwargs)
                campaigns.change_batches(state=BatchState.IN_DOUBT)
                return answer

        assert campaigns.run(Slow(), PHONES[:2]).accepted == 2

    def test_an_answer_after_a_person_has_settled_it_as_sent_adds_the_task_id(self, campaigns: Campaigns) -> None:
        class Slow(Platform):
            def send(self, *args, **kwargs):  # type: ignore[no-untyped-def]
                answer = super().send(*args, **kwargs)
                campaigns.change_batches(state=BatchState.ACCEPTED, taskid=None, accepted=2)
                return answer

        assert list(campaigns.run(Slow(), PHONES[:2]).task_ids) == ["T1"]


class Watching(list[float]):
    """Pauses in which somebody looks around."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__()
        self._look = look

    def append(self, seconds: float) -> None:
        super().append(seconds)
        self._look()


class Ending(list[float]):
    """Pauses after some of which every lease has ended."""

    def __init__(self, campaigns: Campaigns, after: int) -> None:
        super().__init__()
        self._campaigns, self._after = campaigns, after

    def append(self, seconds: float) -> None:
        super().append(seconds)
        if len(self) == self._after:
            self._campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001


class TestTheLedgerGoesAway:
    def test_a_settle_is_repeated_and_nothing_is_claimed_meanwhile(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Away(monkeypatch, "accept", times=3)
        platform = Platform()
        assert campaigns.run(platform).accepted == 10
        assert campaigns.pauses == [1.0, 2.0, 4.0]
        assert platform.requests == BATCHES

    def test_while_one_settles_again_the_others_claim_nothing(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Away(monkeypatch, "accept", times=6)
        platform = Platform()
        seen: list[int] = []
        campaigns.pauses = Watching(lambda: seen.append(len(platform.requests)))
        assert campaigns.run(platform, max_in_flight=2).accepted == 10
        # What was under way when the ledger went away, and not one more.
        assert max(seen) <= 2
        assert sorted(platform.requests) == BATCHES

    def test_while_one_settles_again_the_others_claim_nothing_although_the_ledger_takes_their_steps(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accept, both, tries = Outbox.accept, threading.Barrier(2), list[int]()

        def accept_all_but_one(outbox: Outbox, claim: Claim, answer: Answer) -> None:
            if claim.number == 1:
                tries.append(len(tries))
                if len(tries) == 1:
                    both.wait(10)
                if len(tries) <= 3:
                    raise LedgerUnreachableError("The ledger (sqlite here) says: database is locked.")
                claims_meanwhile.append(claims)
            elif claim.number == 2:
                both.wait(10)
                wait_until(lambda: bool(campaigns.pauses))
            accept(outbox, claim, answer)

        claim, claims, claims_meanwhile = Outbox.claim, 0, list[int]()

        def count(outbox: Outbox, *arguments: Any) -> Claim | None:
            nonlocal claims
            claims += 1
            return claim(outbox, *arguments)

        monkeypatch.setattr(Outbox, "claim", count)
        monkeypatch.setattr(Outbox, "accept", accept_all_but_one)
        # The second of the pauses lasts until the other thread has had the time to claim.
        campaigns.pauses = Watching(lambda: len(campaigns.pauses) > 1 and threading.Event().wait(0.2) and None)
        assert campaigns.run(BothAtOnce(), max_in_flight=2).accepted == 10
        assert claims_meanwhile == [2]

    def test_an_answer_that_the_ledger_has_gone_on_without_holds_nobody_up(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        accept, tries = Outbox.accept, list[int]()

        def too_late(outbox: Outbox, claim: Claim, answer: Answer) -> None:
            accept(outbox, claim, answer)
            tries.append(claim.number)
            if len(tries) == 1:
                raise LedgerUnreachableError("The ledger (postgresql on nowhere) says: away.")
            if len(tries) == 2:
                raise SettledOtherwiseError("Batch 1: the ledger has gone on without this attempt.")

        monkeypatch.setattr(Outbox, "accept", too_late)
        assert campaigns.run(Platform()).accepted == 10

    def test_a_claim_that_can_not_be_looked_at_before_the_first_byte_was_not_sent(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        check, looks = Outbox.check, list[int]()

        def refused(outbox: Outbox, claim: Claim, seconds: float) -> None:
            looks.append(claim.number)
            if len(looks) == 1:
                raise LedgerError("The ledger (postgresql on nowhere) refuses a step: permission denied.")
            check(outbox, claim, seconds)

        monkeypatch.setattr(Outbox, "check", refused)
        platform = Platform()
        assert campaigns.run(platform).accepted == 10
        assert platform.requests == BATCHES

    def test_the_task_id_is_in_the_log_before_the_five_minutes_are_over(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Whoever kills the process meanwhile shall not lose it."""
        Away(monkeypatch, "accept", times=1)
        logged: list[str] = []
        campaigns.pauses = Watching(lambda: logged.append(caplog.text))
        campaigns.run(Platform())
        assert "airflow-sms resolve dag/run/send --batch 1 --sent T1" in logged[0]

    def test_after_five_minutes_the_task_id_and_the_command_are_in_the_message(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Away(monkeypatch, "accept", times=10_000)
        platform = Platform()
        error = failure_in_time(campaigns, platform)
        assert "airflow-sms resolve dag/run/send --batch 1 --sent T1" in str(error)
        assert not error.passes_by_itself
        assert platform.requests == BATCHES[:1]
        monkeypatch.undo()
        again = Platform()
        # This process is alive, and so is its claim; another one would find its owner dead.
        campaigns.change_batches(batch_table.c.number == 1, owner=DEAD)
        assert failure(campaigns, again).report.in_doubt == 2
        assert again.requests == BATCHES[1:]

    def test_the_command_says_what_is_known_even_if_the_counts_can_not_be_read(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*args: object) -> None:
            raise LedgerUnreachableError("The ledger (postgresql on nowhere) says: away.")

        Away(monkeypatch, "release", times=10_000)
        monkeypatch.setattr(reports, "report_of_what_stands", away)
        error = failure_in_time(campaigns, Platform(*[UNSENT] * 4))
        assert "airflow-sms resolve dag/run/send --batch 1 --not-sent" in str(error)
        assert (error.report, error.passes_by_itself) == (None, False)

    @pytest.mark.parametrize("step", ["overtake", "states", "in_doubt", "database_time", "renew"])
    def test_between_the_rounds_too_a_step_is_repeated(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        def lease_over(seconds: float, waited: float) -> None:
            campaigns.change_batches(lease_until=datetime(2020, 1, 1))  # noqa: DTZ001

        def goes_away(platform: Platform) -> None:
            Away(monkeypatch, step, times=3)

        platform = Platform(LOST, goes_away)
        report = campaigns.run(platform, PHONES[:4], on_in_doubt="resend", defer=lease_over)
        assert report.accepted == 4
        assert {1.0, 2.0, 4.0} <= set(campaigns.pauses)

    def test_so_it_is_while_others_are_waited_for(self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch) -> None:
        failure(campaigns, Platform(None, UNSENT, UNSENT, UNSENT, UNSENT), phones=PHONES[:4])
        soon = (datetime.now(UTC) + timedelta(seconds=50)).replace(tzinfo=None)
        campaigns.change_batches(
            batch_table.c.state == BatchState.PLANNED,
            state=BatchState.SENDING,
            owner="elsewhere boot 1 2 3",
            lease_until=soon,
        )
        away: list[Away] = []

        def look() -> None:
            if not away:
                away.append(Away(monkeypatch, "overtake", times=2))
            elif away[0].calls > 2:
                campaigns.change_batches(
                    batch_table.c.state == BatchState.SENDING, state=BatchState.ACCEPTED, accepted=2
                )

        campaigns.pauses = Watching(look)
        assert campaigns.run(Platform(), PHONES[:4]).accepted == 4
        assert campaigns.pauses[:3] == [2.0, 1.0, 2.0]

    def test_before_anything_has_left_the_try_fails_as_retryable(
        self, campaigns: Campaigns, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Away(monkeypatch, "claim", times=10_000)
        platform = Platform()
        error = failure_in_time(campaigns, platform)
        assert error.passes_by_itself
        assert platform.requests == []


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


class BothAtOnce(Platform):
    """Answers the first two requests at once."""

    def __init__(self) -> None:
        super().__init__()
        self._both = threading.Barrier(2)

    def send(self, phones, content, send_time=None, *, leaving):  # type: ignore[no-untyped-def]
        if tuple(phones) in BATCHES[:2]:
            self._both.wait(10)
        return super().send(phones, content, send_time, leaving=leaving)


class Away:
    """A step of the outbox that finds the ledger away for some times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: str, times: int) -> None:
        self.calls = 0
        real = getattr(Outbox, step)

        def away(outbox: Outbox, *args: object) -> object:
            self.calls += 1
            if self.calls <= times:
                raise LedgerUnreachableError("The ledger (postgresql on nowhere) says: away.")
            return real(outbox, *args)

        monkeypatch.setattr(Outbox, step, away)


def failure_in_time(campaigns: Campaigns, platform: Platform, **changes: object) -> CampaignError:
    """Fail with a clock that each pause moves on."""
    return failure(campaigns, platform, clock=lambda: sum(campaigns.pauses), **changes)


def test_the_lease_is_the_request_s_deadline_and_half_a_minute(campaigns: Campaigns) -> None:
    account = Account("FAKE-APP-ID", "FAKE-APP-KEY", timeout=100)
    campaigns.run(Platform(account=account), PHONES[:2])
    (row,) = campaigns.batches()
    assert row.lease_until - row.claimed_at == timedelta(seconds=130)


class TestTheLookBeforeTheFirstByte:
    """The lease has to last for as long as the request may take: whoever overtakes it then finds it over."""

    def leave_of_the_lease(self, campaigns: Campaigns, seconds: float) -> Callable[[Platform], None]:
        def passes(platform: Platform) -> None:
            until = datetime.now(UTC) + timedelta(seconds=seconds)
            campaigns.change_batches(batch_table.c.state == BatchState.SENDING, lease_until=until.replace(tzinfo=None))

        return passes

    @pytest.mark.parametrize("seconds", [-1, 1, ACCOUNT.timeout - 1])
    def test_a_lease_that_ends_before_the_request_must_is_given_back_and_claimed_anew(
        self, campaigns: Campaigns, caplog: pytest.LogCaptureFixture, seconds: float
    ) -> None:
        platform = Platform(None, self.leave_of_the_lease(campaigns, seconds))
        assert campaigns.run(platform).accepted == 10
        assert platform.requests == BATCHES
        assert "Nothing of batch 2 was sent" in caplog.text
        assert [row.attempt for row in campaigns.batches()] == [1, 2, 1, 1, 1]

    def test_one_that_lasts_as_long_is_enough(self, campaigns: Campaigns) -> None:
        platform = Platform(self.leave_of_the_lease(campaigns, ACCOUNT.timeout + 5))
        assert campaigns.run(platform, PHONES[:2]).accepted == 2
        assert [row.attempt for row in campaigns.batches()] == [1]

    def test_so_too_where_a_batch_in_doubt_is_sent_again(self, campaigns: Campaigns) -> None:
        platform = Platform(LOST, self.leave_of_the_lease(campaigns, 1))
        campaigns.pauses = Ending(campaigns, after=3)
        assert campaigns.run(platform, PHONES[:2], on_in_doubt="resend").accepted == 2
        assert len(platform.requests) == 2
        assert [row.attempt for row in campaigns.batches()] == [3]

    def test_when_it_is_too_short_every_time_the_try_ends(self, campaigns: Campaigns) -> None:
        platform = Platform(*[self.leave_of_the_lease(campaigns, 1)] * 100)
        error = failure(campaigns, platform)
        assert error.passes_by_itself
        assert "Batch 1: its lease ends before the request's deadline" in str(error)
        assert platform.requests == []
        assert states(campaigns) == ["planned"] * 5


def test_moving_to_a_second_account_carries_on(campaigns: Campaigns) -> None:
    failure(campaigns, Platform(None, NO_MONEY))
    other = Account("FAKE-OTHER-ID", "FAKE-OTHER-KEY", batch_size=5)
    platform = Platform(account=other)
    assert campaigns.run(platform).accepted == 10
    assert [row.account for row in campaigns.batches()] == ["FAKE-APP-ID", *["FAKE-OTHER-ID"] * 4]
