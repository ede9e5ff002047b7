"""The rules by themselves, on a clock that the test moves."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from typing import Any

import pytest

from airflow_provider_sms.simulator import document
from airflow_provider_sms.simulator.platform import Account, Decision, Platform, TaskIds
from airflow_provider_sms.simulator.settings import Settings
from tests.simulator.client import phone, phones

TEXT = "【云通信】你好"
NOON = datetime.datetime(2024, 7, 25, 12, 0, tzinfo=document.BEIJING).timestamp()


class Bench:
    """A platform with its clock, and a short way to ask it."""

    def __init__(self, **switches: Any) -> None:
        self.time = NOON
        self.platform = Platform(Account("id", "key"), Settings(**switches), self.clock, TaskIds("seed", self.clock))

    def clock(self) -> float:
        return self.time

    def decide(self, to: Sequence[str], content: str = TEXT, send_time: str = "") -> Decision:
        fields = {
            "appId": "id",
            "appKey": "key",
            "phone": ",".join(to),
            "content": content,
            "sendTime": send_time,
        }
        return self.platform.send(fields)

    def message(self, to: Sequence[str] = (phone(1),), content: str = TEXT, send_time: str = "") -> str:
        return self.decide(to, content, send_time).answer.message

    def beijing(self, text: str) -> None:
        self.time = datetime.datetime.fromisoformat(text).replace(tzinfo=document.BEIJING).timestamp()


def test_a_phone_takes_one_text_in_sixty_seconds() -> None:
    bench = Bench()
    assert bench.message() == document.SUCCESS
    bench.time += 59.9
    assert bench.message() == document.TOO_SOON
    bench.time += 0.1
    assert bench.message() == document.SUCCESS


def test_a_refused_text_does_not_start_the_minute_again() -> None:
    bench = Bench()
    bench.message()
    bench.time += 50
    assert bench.message() == document.TOO_SOON
    bench.time += 10
    assert bench.message() == document.SUCCESS


def test_a_phone_twice_in_a_request_breaks_the_minute_rule() -> None:
    assert Bench().message([phone(1), phone(1)]) == document.TOO_SOON


def test_without_the_rule_a_phone_may_come_twice() -> None:
    bench = Bench(one_per_minute=False)
    assert bench.decide([phone(1), phone(1)]).answer.success_counts == "2"


def test_the_rule_switched_on_knows_the_last_minute_even_so() -> None:
    bench = Bench(one_per_minute=False)
    bench.message([phone(1)])
    bench.time += 30
    bench.message([phone(2)])
    bench.platform.change({"one_per_minute": True})
    bench.time += 30
    assert bench.message([phone(1)]) == document.SUCCESS
    assert bench.message([phone(2)]) == document.TOO_SOON


def test_the_minute_rule_forgets_what_it_no_longer_needs() -> None:
    bench = Bench()
    bench.message(phones(500))
    bench.time += 60
    bench.message([phone(501)])
    assert len(bench.platform._last_text) == 1


def test_the_cap_per_phone_ends_at_midnight_in_beijing() -> None:
    bench = Bench(phone_daily_cap=2, one_per_minute=False)
    bench.beijing("2024-07-25 23:59:00")
    assert [bench.message() for _ in range(3)] == [document.SUCCESS, document.SUCCESS, document.PHONE_CAPPED]
    bench.beijing("2024-07-25 23:59:59")
    assert bench.message() == document.PHONE_CAPPED
    bench.beijing("2024-07-26 00:00:00")
    assert bench.message() == document.SUCCESS


def test_the_cap_per_phone_switched_on_counts_what_went_before_today() -> None:
    bench = Bench(one_per_minute=False)
    bench.beijing("2024-07-24 23:00:00")
    bench.message([phone(2)])
    bench.beijing("2024-07-25 01:00:00")
    bench.message([phone(1)])
    bench.platform.change({"phone_daily_cap": 1})
    assert bench.message([phone(1)]) == document.PHONE_CAPPED
    assert bench.message([phone(2)]) == document.SUCCESS


def test_the_cap_of_the_account_counts_phones_and_ends_at_midnight() -> None:
    bench = Bench(account_daily_cap=3)
    assert bench.message(phones(2)) == document.SUCCESS
    assert bench.message([phone(3), phone(4)]) == document.ACCOUNT_CAPPED
    assert bench.message([phone(3)]) == document.SUCCESS
    bench.beijing("2024-07-26 00:00:00")
    assert bench.message([phone(5)]) == document.SUCCESS


@pytest.mark.parametrize(
    ("send_time", "message"),
    [
        ("2024-07-25 12:30:00", document.BAD_PARAMETER),
        ("2024-07-25 12:30:01", document.SUCCESS),
        ("2024-07-25 11:00:00", document.BAD_PARAMETER),
        ("2024-07-26 00:00:00", document.SUCCESS),
        ("2024-07-25 12:30:01.5", document.BAD_PARAMETER),
        ("2024-07-25T13:00:00", document.BAD_PARAMETER),
        ("2024/07/25 13:00:00", document.BAD_PARAMETER),
        ("2024-7-25 13:00:00", document.BAD_PARAMETER),
        ("2024-02-30 13:00:00", document.BAD_PARAMETER),
        ("2024-07-25 13:00", document.BAD_PARAMETER),
        ("2024-07-25 13:00:00 ", document.BAD_PARAMETER),
        ("tomorrow", document.BAD_PARAMETER),
    ],
)
def test_a_send_time_is_beijing_time_and_more_than_thirty_minutes_ahead(send_time: str, message: str) -> None:
    assert Bench().message(send_time=send_time) == message


def test_a_batch_for_later_goes_out_then() -> None:
    batch = Bench().decide([phone(1)], send_time="2024-07-25 13:00:00").batch
    assert batch is not None
    assert (batch.at, batch.goes_out_at, batch.send_time) == (NOON, NOON + 3600, "2024-07-25 13:00:00")


def test_points_are_taken_for_every_phone_and_only_if_there_are_enough() -> None:
    bench = Bench(balance=5)
    two_points = "【云通信】" + "字" * 66
    assert bench.message(phones(3), two_points) == document.NO_BALANCE
    answer = bench.decide(phones(2), two_points).answer
    assert (answer.message, answer.remain_point) == (document.SUCCESS, "1")
    assert bench.message([phone(3)], TEXT) == document.SUCCESS
    assert bench.message([phone(4)], TEXT) == document.NO_BALANCE


def test_one_bad_phone_refuses_all_by_default() -> None:
    bench = Bench()
    assert bench.message([phone(1), "12800130002"]) == document.BAD_PHONE
    assert bench.platform.accepted() == []
    assert bench.message([phone(1)]) == document.SUCCESS


def test_with_partial_the_others_are_accepted_and_paid() -> None:
    bench = Bench(on_phone_refused="partial", balance=10)
    bench.message([phone(2)])
    decision = bench.decide([phone(1), phone(2), "rubbish", phone(3), ""])
    assert decision.answer.success_counts == "2"
    assert decision.answer.remain_point == "7"
    assert decision.batch is not None
    assert decision.batch.phones == [phone(1), phone(3)]


def test_with_partial_nothing_is_accepted_if_no_phone_is_left() -> None:
    bench = Bench(on_phone_refused="partial")
    bench.message([phone(1)])
    assert bench.message([phone(1), "rubbish"]) == document.TOO_SOON


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "1380013000",
        "138001300011",
        "12800130001",
        "23800130001",
        "+8613800130001",
        " 13800130001",
        "1380013000a",
        "13800130001\n",
        "\uff11\uff13800130001",
        "١٣٨٠٠١٣٠٠٠١",
    ],
)
def test_a_phone_is_eleven_ascii_digits_and_starts_with_13_to_19(bad: str) -> None:
    assert Bench().message([bad, phone(1)]) == document.BAD_PHONE


@pytest.mark.parametrize(
    ("switches", "message"),
    [({"locked": True}, document.LOCKED), ({"ip_barred": True}, document.IP_BARRED)],
)
def test_a_locked_account_and_a_barred_address_get_neither_interface(switches: Any, message: str) -> None:
    bench = Bench(**switches)
    assert bench.message() == message
    assert bench.platform.balance({"appId": "id", "appKey": "key"}).answer.message == message


def test_a_wrong_key_is_told_before_anything_of_the_account() -> None:
    bench = Bench(locked=True, ip_barred=True)
    assert bench.platform.balance({"appId": "id", "appKey": "no"}).answer.message == document.WRONG_CREDENTIALS


def test_task_ids_never_repeat_in_either_style_and_not_after_a_reset() -> None:
    bench = Bench(one_per_minute=False)
    seen = []
    for style in ("digits", "letters", "digits"):
        bench.platform.change({"task_id_style": style})
        seen += [bench.decide([phone(1)]).answer.task_id for _ in range(50)]
        bench.platform.reset(Settings(one_per_minute=False))
    assert len(set(seen)) == 150
    assert all(each and each.isdigit() for each in seen[:50])
    assert all(each and len(each) == 32 and each.isascii() and each.isalnum() for each in seen[50:100])


def test_a_second_simulator_without_a_seed_gives_other_task_ids() -> None:
    first = TaskIds(None, lambda: NOON)
    second = TaskIds(None, lambda: NOON + 5)
    assert not {first.next("digits") for _ in range(1000)} & {second.next("digits") for _ in range(1000)}


def test_the_platforms_clock_may_be_ahead() -> None:
    bench = Bench(clock_ahead=3600)
    assert bench.message(send_time="2024-07-25 13:20:00") == document.BAD_PARAMETER
    assert bench.message(send_time="2024-07-25 13:31:00") == document.SUCCESS


def test_the_account_shows_no_key() -> None:
    assert "key" not in repr(Account("id", "secret-value")).replace("app_key", "")
    assert "secret-value" not in repr(Account("id", "secret-value"))


def test_500_phones_cost_the_rules_well_under_two_milliseconds() -> None:
    bench = Bench(phone_daily_cap=10, balance=10**9)
    spent = []
    for number in range(20):
        to = [f"138{number:03d}{each:05d}" for each in range(500)]
        before = time.process_time()
        assert bench.message(to) == document.SUCCESS
        spent.append(time.process_time() - before)
    assert sorted(spent)[len(spent) // 2] < 0.002
