"""Receipts and replies by themselves: lots, order, delays, on a time that the test names."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_sms.simulator.platform import Batch
from airflow_provider_sms.simulator.schedule import Push, Schedule
from airflow_provider_sms.simulator.settings import Settings
from tests.simulator.client import phones

URL = "http://127.0.0.1:9/"
AT = 1_721_880_000.0  # 2024-07-25 12:00:00 in Beijing


def batch(count: int, ordinal: int = 0, goes_out_at: float = AT) -> Batch:
    return Batch(ordinal, f"T{ordinal}", ",".join(phones(count)), "", None, count, "id", AT, goes_out_at)


def drain(schedule: Schedule, now: float, settings: Settings) -> list[Push]:
    taken = []
    while (push := schedule.take(now, settings)) is not None:
        taken.append(push)
    return taken


def pushed(count: int, seed: str = "seed", **switches: Any) -> list[dict[str, str]]:
    settings = Settings(push_url=URL, **switches)
    schedule = Schedule(seed)
    schedule.add_batch(batch(count), settings)
    return [{"kind": push.kind, **dict(push.fields)} for push in drain(schedule, AT, settings)]


def test_a_receipt_and_a_reply_carry_the_documents_fields_in_its_order() -> None:
    receipt, reply = pushed(1, reply_share=1.0)
    assert list(receipt.items()) == [
        ("kind", "receipt"),
        ("mobile", "13800130001"),
        ("taskid", "T0"),
        ("status", "1"),
        ("code", "DELIVRD"),
        ("receivetime", "2024-07-25 12:00:00"),
    ]
    assert list(reply.items()) == [
        ("kind", "reply"),
        ("mobile", "13800130001"),
        ("taskid", "T0"),
        ("content", "收到"),
        ("receivetime", "2024-07-25 12:00:00"),
    ]


def test_in_order_means_the_order_of_the_phones() -> None:
    assert [push["mobile"] for push in pushed(100)] == phones(100)


def test_shuffled_means_all_of_them_in_another_order() -> None:
    mobiles = [push["mobile"] for push in pushed(100, receipt_order="shuffled")]
    assert mobiles != phones(100)
    assert sorted(mobiles) == phones(100)


def test_batches_that_are_due_together_are_shuffled_together() -> None:
    settings = Settings(push_url=URL, receipt_order="shuffled")
    schedule = Schedule("seed")
    for ordinal in range(50):
        schedule.add_batch(batch(1, ordinal), settings)
    tasks = [dict(push.fields)["taskid"] for push in drain(schedule, AT, settings)]
    assert tasks != [f"T{ordinal}" for ordinal in range(50)]
    assert len(set(tasks)) == 50


@pytest.mark.parametrize(
    ("switch", "count"),
    [
        ({"fail_share": 0.3}, lambda all_: sum(push["status"] == "0" for push in all_)),
        ({"duplicate_share": 0.3}, lambda all_: len(all_) - 1000),
        ({"missing_share": 0.3}, lambda all_: 1000 - len(all_)),
        ({"reply_share": 0.3}, lambda all_: sum(push["kind"] == "reply" for push in all_)),
    ],
    ids=["fail", "duplicate", "missing", "reply"],
)
def test_a_share_is_about_that_share(switch: Any, count: Any) -> None:
    assert 250 < count(pushed(1000, **switch)) < 350


@pytest.mark.parametrize("switch", ["fail_share", "duplicate_share", "missing_share", "reply_share"])
def test_shares_of_nothing_and_of_everything_are_exact(switch: str) -> None:
    none_of: dict[str, Any] = {switch: 0.0}
    all_of: dict[str, Any] = {switch: 1.0}
    nothing, everything = pushed(200, **none_of), pushed(200, **all_of)
    assert len(nothing) == 200
    if switch == "fail_share":
        assert {push["status"] for push in everything} == {"0"}
    else:
        assert len(everything) == (0 if switch == "missing_share" else 400)


def test_the_same_seed_draws_the_same_lots_and_another_one_others() -> None:
    switches: dict[str, Any] = {
        "fail_share": 0.5,
        "duplicate_share": 0.5,
        "reply_share": 0.5,
        "receipt_order": "shuffled",
    }
    assert pushed(200, "a", **switches) == pushed(200, "a", **switches)
    assert pushed(200, "a", **switches) != pushed(200, "b", **switches)


def test_one_switch_does_not_change_what_another_one_draws() -> None:
    def failed(**switches: Any) -> set[str]:
        return {push["mobile"] for push in pushed(300, fail_share=0.3, **switches) if push.get("status") == "0"}

    assert failed() == failed(duplicate_share=0.5, reply_share=0.5)


def test_a_phone_that_was_not_reached_does_not_reply() -> None:
    assert {push["kind"] for push in pushed(100, fail_share=1.0, reply_share=1.0)} == {"receipt"}


def test_codes_are_as_set() -> None:
    codes = {push["status"]: push["code"] for push in pushed(100, fail_share=0.5, success_code="A", failure_code="B")}
    assert codes == {"1": "A", "0": "B"}


def test_masked_mobiles_look_like_those_of_the_document() -> None:
    assert [push["mobile"] for push in pushed(1, masked_mobiles=True, reply_share=1.0)] == ["1380013****"] * 2


def test_delays_add_up() -> None:
    settings = Settings(push_url=URL, review_delay=100, receipt_delay=10, reply_share=1.0, reply_delay=5)
    schedule = Schedule("seed")
    schedule.add_batch(batch(1), settings)
    assert schedule.next_due() == AT + 110
    assert drain(schedule, AT + 109, settings) == []
    assert [push.kind for push in drain(schedule, AT + 110, settings)] == ["receipt"]
    assert drain(schedule, AT + 114, settings) == []
    assert [push.kind for push in drain(schedule, AT + 115, settings)] == ["reply"]


def test_receipts_of_a_batch_for_later_come_later() -> None:
    schedule = Schedule("seed")
    schedule.add_batch(batch(1, goes_out_at=AT + 3600), Settings())
    assert schedule.next_due() == AT + 3600


def test_what_is_pending_is_counted() -> None:
    settings = Settings(push_url=URL, duplicate_share=1.0)
    schedule = Schedule("seed")
    schedule.add_batch(batch(3), settings)
    schedule.add_reply("13800130001", "T0", "好", AT)
    assert schedule.pending() == 4
    schedule.take(AT, settings)
    assert schedule.pending() == 6
    drain(schedule, AT, settings)
    assert schedule.pending() == 0


def test_a_million_receipts_are_not_unfolded_at_once() -> None:
    settings = Settings(push_url=URL)
    schedule = Schedule("seed")
    for ordinal in range(2000):
        schedule.add_batch(batch(500, ordinal), settings)
    schedule.take(AT, settings)
    assert schedule.pending() == 999_999
    assert len(schedule._ready) < 3000


def test_without_an_address_a_batch_is_dropped_whole() -> None:
    schedule = Schedule("seed")
    schedule.add_batch(batch(500), Settings())
    assert schedule.take(AT, Settings()) is None
    assert (schedule.dropped, schedule.pending()) == (500, 0)
