"""Every switch of the platform's rules, changed at run time over HTTP, and by flag."""

from __future__ import annotations

import json
import time

import pytest

from airflow_provider_sms.simulator.settings import Settings
from tests.simulator.client import (
    BALANCE,
    SEND,
    balance,
    balance_fields,
    phone,
    phones,
    post,
    refusal,
    send,
    send_fields,
    unanswered,
)
from tests.support.simulator import Simulator, wait_until


def test_one_text_per_minute_is_the_rule_and_time_lifts_it(simulator: Simulator) -> None:
    assert send(simulator)["message"] == "成功"
    assert send(simulator) == refusal("相同手机号码一分钟之内只可发送一次")
    simulator.settings(clock_ahead=60)
    assert send(simulator)["message"] == "成功"


def test_the_minute_rule_can_be_switched_off(simulator: Simulator) -> None:
    simulator.settings(one_per_minute=False)
    assert [send(simulator)["message"] for _ in range(2)] == ["成功", "成功"]


def test_the_cap_per_phone(simulator: Simulator) -> None:
    simulator.settings(one_per_minute=False, phone_daily_cap=1)
    assert send(simulator)["message"] == "成功"
    assert send(simulator) == refusal("该号码今日发送次数已达上限")
    simulator.settings(clock_ahead=86_400)
    assert send(simulator)["message"] == "成功"


def test_the_cap_of_the_account(simulator: Simulator) -> None:
    simulator.settings(account_daily_cap=1)
    assert send(simulator, phones(2)) == refusal("当日发送量已超出最大发送限制")
    assert send(simulator)["message"] == "成功"
    simulator.settings(account_daily_cap=None)
    assert send(simulator, [phone(2)])["message"] == "成功"


def test_a_refused_phone_may_refuse_the_batch_or_only_itself(simulator: Simulator) -> None:
    send(simulator)
    assert send(simulator, phones(3)) == refusal("相同手机号码一分钟之内只可发送一次")
    simulator.settings(on_phone_refused="partial")
    assert send(simulator, phones(3))["successCounts"] == "2"
    assert simulator.accepted()[1]["phones"] == [phone(2), phone(3)]


def test_a_locked_account_is_refused_by_both_interfaces(simulator: Simulator) -> None:
    simulator.settings(locked=True)
    assert send(simulator) == balance(simulator) == refusal("您的账户已被锁定,请联系您的专属客服")
    simulator.settings(locked=False)
    assert send(simulator)["message"] == "成功"


def test_a_barred_address_is_refused(simulator: Simulator) -> None:
    simulator.settings(ip_barred=True)
    assert send(simulator) == balance(simulator) == refusal("IP受限")


def test_the_balance_is_spent_and_can_be_topped_up(simulator: Simulator) -> None:
    simulator.settings(balance=1)
    assert send(simulator, phones(2)) == refusal("余额不足")
    assert send(simulator)["remainPoint"] == "0"
    assert simulator.settings()["balance"] == 0
    simulator.settings(balance=100)
    assert balance(simulator)["remainPoint"] == "100"


def test_another_switch_does_not_fill_the_account_up(simulator: Simulator) -> None:
    simulator.settings(balance=10)
    send(simulator)
    simulator.settings(one_per_minute=False)
    assert balance(simulator)["remainPoint"] == "9"


def test_task_ids_may_be_letters_and_digits(simulator: Simulator) -> None:
    simulator.settings(task_id_style="letters")
    task_id = send(simulator)["taskId"]
    assert len(task_id) == 32
    assert task_id.isalnum()
    assert task_id != task_id.lower()


def test_latency_delays_every_answer(simulator: Simulator) -> None:
    simulator.settings(latency=0.2)
    before = time.monotonic()
    post(simulator, BALANCE, balance_fields(simulator))
    assert time.monotonic() - before >= 0.2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"blance": 1}, "there is no setting 'blance'; the settings are balance, "),
        ({"balance": -1}, "balance must be between 0 and"),
        ({"balance": "5"}, "balance must be a whole number, not '5'"),
        ({"locked": "yes"}, "locked must be true or false"),
        ({"fail_share": 1.5}, "fail_share must be between 0 and 1, not 1.5"),
        ({"on_phone_refused": "maybe"}, "on_phone_refused must be one of refuse_batch, partial"),
        ({"push_url": "ftp://example.org"}, "push_url must be an address such as http://"),
        ({"push_url": "http://"}, "push_url must be an address"),
        ({"push_url": "http://example.org:99999/"}, "push_url must be an address"),
        ({"success_code": 5}, "success_code must be a text"),
        ({"push_workers": 0}, "push_workers must be between 1 and 64"),
        ({"latency": None}, "latency must be a number, not None"),
    ],
)
def test_a_wrong_setting_is_told_by_name_and_changes_nothing(
    simulator: Simulator, changes: dict[str, object], sentence: str
) -> None:
    before = simulator.settings()
    status, shown = post_settings(simulator, {"reply_text": "changed", **changes})
    assert status == 400
    assert sentence in shown["error"]
    assert simulator.settings() == before


def post_settings(simulator: Simulator, changes: object) -> tuple[int, dict[str, str]]:
    return simulator.ask_page("POST", "settings", json.dumps(changes).encode())


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"[1]", b'"a"', b"null"])
def test_a_body_that_is_no_json_object_is_told(simulator: Simulator, body: bytes) -> None:
    status, shown = simulator.ask_page("POST", "settings", body)
    assert status == 400
    assert "the body must be" in shown["error"]


def test_a_secret_in_an_address_is_not_shown(simulator: Simulator) -> None:
    shown = simulator.settings(push_url="http://user:hush@127.0.0.1:1/sms/push/1?token=hush#hush")
    assert shown["push_url"] == "http://127.0.0.1:1/sms/push/1?***"
    _, told = post_settings(simulator, {"push_url": "ftp://user:hush@127.0.0.1/?token=hush"})
    assert "hush" not in told["error"]


def test_a_reset_brings_back_what_the_simulator_was_started_with(simulator: Simulator) -> None:
    simulator.settings(balance=5, locked=True)
    simulator.fault("slow")
    simulator.reset()
    assert simulator.settings() == Settings().shown()
    assert simulator.faults() == simulator.accepted() == []
    assert simulator.requests()["requests"] == []
    assert send(simulator)["message"] == "成功"


def test_who_asked_before_a_reset_and_is_answered_after_it_is_nobodys_request(simulator: Simulator) -> None:
    answered = simulator.log().count(SEND)
    simulator.settings(latency=600)
    with unanswered(simulator, SEND, send_fields(simulator)), unanswered(simulator, BALANCE, balance_fields(simulator)):
        wait_until(lambda: simulator.requests()["counters"]["inFlight"] == 2)
        simulator.reset()
    wait_until(lambda: simulator.log().count(SEND) == answered + 2)
    page = simulator.requests()
    assert (page["requests"], page["outcomes"]) == ([], {})
    del page["counters"]["connections"]
    assert set(page["counters"].values()) == {0}
    assert simulator.accepted() == []


def test_every_switch_is_a_flag_too() -> None:
    changed: dict[str, object] = {
        "balance": 7,
        "one_per_minute": False,
        "phone_daily_cap": 3,
        "account_daily_cap": 9,
        "on_phone_refused": "partial",
        "locked": True,
        "ip_barred": True,
        "task_id_style": "letters",
        "review_delay": 1.5,
        "latency": 0.01,
        "clock_ahead": -60.0,
        "push_url": "http://127.0.0.1:1/a",
        "receipt_url": "http://127.0.0.1:1/b",
        "reply_url": "http://127.0.0.1:1/c",
        "push_ca": "ca.pem",
        "push_timeout": 3.0,
        "push_workers": 2,
        "push_repeats": 4,
        "push_repeat_delay": 0.5,
        "receipt_delay": 2.0,
        "receipt_order": "shuffled",
        "duplicate_share": 0.1,
        "missing_share": 0.2,
        "fail_share": 0.3,
        "success_code": "MA:0001",
        "failure_code": "MN:0001",
        "masked_mobiles": True,
        "reply_share": 0.4,
        "reply_text": "好",
        "reply_delay": 6.0,
    }
    assert set(changed) == set(Settings().shown())
    flags = []
    for name, value in changed.items():
        text = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
        flags.append(f"--{name.replace('_', '-')}={text}")
    with Simulator(*flags) as simulator:
        assert simulator.settings() == changed
        simulator.reset()
        assert simulator.settings() == changed
