"""A campaign, batch by batch, against a platform that answers as told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_sms.gateway import errors
from airflow_provider_sms.gateway.account import Account
from airflow_provider_sms.gateway.answers import Acceptance
from airflow_provider_sms.gateway.transport import Form
from airflow_provider_sms.sending import Campaign, CampaignError, Plan, make_plan

ACCOUNT = Account("FAKE-APP-ID", "FAKE-APP-KEY", signature="云通信", batch_size=2)
PHONES = [f"1380013{number:04d}" for number in range(1, 11)]
LOST = errors.AnswerLostError("The request left, but no answer came: Connection reset by peer.")
UNSENT = errors.UnsentError("The platform can not be reached: Connection refused.")
TOO_OFTEN = errors.PhoneTooOftenError("The platform refused.")
NO_MONEY = errors.BalanceTooLowError("The platform refused: 余额不足.")
FULL = object()


class Platform:
    """Answers each request with the next of a list, then accepts."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, ...]] = []

    def send(
        self,
        phones: Sequence[str],
        content: str,
        send_time: datetime | None = None,
        *,
        leaving: Callable[[], None] | None = None,
    ) -> Acceptance:
        answer = self.answers.pop(0) if self.answers else FULL
        self.requests.append(tuple(phones))
        if not isinstance(answer, errors.UnsentError):
            assert leaving is not None
            leaving()
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Acceptance):
            return answer
        return Acceptance(f"T{len(self.requests)}", len(phones), 1000 - len(self.requests))


def plan(phones: Sequence[str] = PHONES, **changes: object) -> Plan:
    return make_plan(ACCOUNT, phones, "您好", **changes)  # type: ignore[arg-type]


def campaign(**changes: object) -> tuple[Campaign, list[float]]:
    pauses: list[float] = []
    return Campaign(plan(), "c", pause=pauses.append, **changes), pauses  # type: ignore[arg-type]


def test_batches_go_out_one_after_the_other_and_every_task_id_is_told_at_once() -> None:
    platform, told = Platform(), []
    sending, _ = campaign()
    report = sending.send(platform, lambda ids: told.append(list(ids)))  # type: ignore[arg-type]
    assert platform.requests == [tuple(PHONES[start : start + 2]) for start in range(0, 10, 2)]
    assert told == [[f"T{last}" for last in range(1, count + 1)] for count in range(1, 6)]
    assert report.summary() == {
        "campaign": "c",
        "taskIds": ["T1", "T2", "T3", "T4", "T5"],
        "accepted": 10,
        "refused": 0,
        "inDoubt": 0,
        "excluded": 0,
        "excludedByReason": {},
        "notSent": 0,
        "segments": 1,
        "points": 10,
        "remainPoint": 995,
    }


def test_what_did_not_leave_is_tried_again_and_waited_for() -> None:
    platform = Platform(UNSENT, UNSENT)
    sending, pauses = campaign()
    assert sending.send(platform).accepted == 10  # type: ignore[arg-type]
    assert len(platform.requests) == 7
    assert pauses == [2.0, 4.0]


def test_a_platform_that_stays_away_ends_the_campaign_with_nobody_texted() -> None:
    platform = Platform(*[UNSENT] * 20)
    sending, _ = campaign()
    with pytest.raises(CampaignError) as ended:
        sending.send(platform)  # type: ignore[arg-type]
    assert len(platform.requests) == 4
    assert ended.value.report.not_sent == 10
    assert not sending.may_have_texted


def test_a_batch_in_doubt_is_never_repeated_and_the_others_still_go() -> None:
    platform = Platform(FULL, LOST)
    sending, _ = campaign()
    with pytest.raises(CampaignError, match="8 accepted, 0 refused, 2 in doubt, 0 not sent") as ended:
        sending.send(platform)  # type: ignore[arg-type]
    assert platform.requests.count(tuple(PHONES[2:4])) == 1
    assert ended.value.report.task_ids == ("T1", "T3", "T4", "T5")
    assert sending.may_have_texted


def test_three_in_doubt_in_a_row_stop_the_campaign() -> None:
    platform = Platform(LOST, LOST, LOST)
    sending, _ = campaign()
    with pytest.raises(CampaignError) as ended:
        sending.send(platform)  # type: ignore[arg-type]
    assert (ended.value.report.in_doubt, ended.value.report.not_sent) == (6, 4)
    assert len(platform.requests) == 3


def test_an_acceptance_in_between_starts_the_count_anew() -> None:
    platform = Platform(LOST, LOST, FULL, LOST, LOST)
    sending, _ = campaign()
    with pytest.raises(CampaignError) as ended:
        sending.send(platform)  # type: ignore[arg-type]
    assert (ended.value.report.accepted, ended.value.report.in_doubt, ended.value.report.not_sent) == (2, 8, 0)


def test_a_refusal_for_one_phone_s_sake_lets_the_other_batches_go() -> None:
    platform = Platform(TOO_OFTEN)
    sending, _ = campaign()
    with pytest.raises(CampaignError) as ended:
        sending.send(platform)  # type: ignore[arg-type]
    assert (ended.value.report.accepted, ended.value.report.refused) == (8, 2)


def test_a_refusal_for_the_account_s_sake_stops_the_campaign() -> None:
    platform = Platform(FULL, NO_MONEY)
    sending, _ = campaign()
    with pytest.raises(CampaignError, match="Top up") as ended:
        sending.send(platform)  # type: ignore[arg-type]
    report = ended.value.report
    assert (report.accepted, report.refused, report.not_sent) == (2, 2, 6)
    assert len(platform.requests) == 2


def test_a_refused_campaign_has_texted_nobody() -> None:
    sending, _ = campaign()
    with pytest.raises(CampaignError):
        sending.send(Platform(NO_MONEY))  # type: ignore[arg-type]
    assert not sending.may_have_texted


@pytest.mark.parametrize(("counted", "accepted", "refused"), [(1, 9, 1), (0, 8, 2), (5, 10, 0), (None, 10, 0)])
def test_partial_acceptance_is_reported_and_not_repeated(
    counted: int | None, accepted: int, refused: int, caplog: pytest.LogCaptureFixture
) -> None:
    platform = Platform(Acceptance("T1", counted, None))
    sending, _ = campaign()
    with caplog.at_level(logging.WARNING):
        report = sending.send(platform)  # type: ignore[arg-type]
    assert (report.accepted, report.refused, report.points) == (accepted, refused, accepted)
    assert len(platform.requests) == 5
    assert ("does not say which" in caplog.text) is (counted in (0, 1, 5))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(), MemoryError()])
def test_an_interruption_while_a_request_is_out_leaves_it_in_doubt(interruption: BaseException) -> None:
    sending, _ = campaign()
    with pytest.raises(type(interruption)):
        sending.send(Platform(FULL, interruption))  # type: ignore[arg-type]
    assert sending.may_have_texted
    assert (sending.report().accepted, sending.report().in_doubt, sending.report().not_sent) == (2, 2, 6)


def test_progress_is_told_at_a_bounded_pace(caplog: pytest.LogCaptureFixture) -> None:
    ticks = iter(range(0, 1000, 4))
    sending, _ = campaign(clock=lambda: float(next(ticks)))
    with caplog.at_level(logging.INFO):
        sending.send(Platform())  # type: ignore[arg-type]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "Batch 3 of 5, 6 of 10 phones" in told[0]
    assert "Batch 5 of 5" in told[1]


def test_no_log_line_shows_a_phone(caplog: pytest.LogCaptureFixture) -> None:
    sending, _ = campaign()
    with caplog.at_level(logging.DEBUG), pytest.raises(CampaignError):
        sending.send(Platform(LOST, TOO_OFTEN, UNSENT, Acceptance("T", 1, 1)))  # type: ignore[arg-type]
    assert not any(phone in caplog.text for phone in PHONES)


class TestPlan:
    def test_the_plan_says_what_it_costs(self) -> None:
        made = make_plan(ACCOUNT, PHONES[:3], "好" * 70)
        assert (made.text.segments, made.points, len(made.batches)) == (2, 6, 2)

    def test_an_argument_beats_the_connection(self) -> None:
        assert len(plan(batch_size=10).batches) == 1

    def test_three_hundred_thousand_phones_are_too_many_for_one_task(self) -> None:
        with pytest.raises(errors.PhonesError, match=r"phones: 300,000 in one task.*expand"):
            plan([f"138{number:08d}" for number in range(300_000)])

    def test_a_hundred_thousand_are_not(self) -> None:
        assert len(plan([f"138{number:08d}" for number in range(100_000)], batch_size=500).batches) == 200

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"batch_size": 0}, "batch_size: 0"),
            ({"batch_size": 100_001}, "batch_size: 100001 is"),
            ({"send_time": datetime.now(UTC) - timedelta(days=1)}, "send_time: .*is past"),
            ({"send_time": "tomorrow"}, "send_time: not a time"),
        ],
    )
    def test_mistakes_are_found_before_anything_is_sent(self, changes: dict[str, object], said: str) -> None:
        with pytest.raises(errors.InputError, match=said):
            plan(**changes)


def test_no_repr_shows_a_phone_or_the_text_to_a_traceback_that_prints_variables() -> None:
    sending, _ = campaign()
    shown = repr([sending.plan, sending.plan.phones, sending.plan.text, *sending.batches, Form({"appKey": PHONES[0]})])
    assert not any(phone in shown for phone in PHONES)
    assert "您好" not in shown
