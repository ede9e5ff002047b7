"""How faults are ordered and whose turn it is; what they look like on the wire is in test_faults.py."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from airflow_provider_sms.simulator import faults
from airflow_provider_sms.simulator.faults import KINDS, Fault, Faults, read_fault
from airflow_provider_sms.simulator.values import BadValue


def test_every_field_of_every_kind_is_known_and_every_default_is_right() -> None:
    assert {name for what in KINDS.values() for name in what.fields} == set(faults._SPECIAL)
    assert {each.name for each in dataclasses.fields(Fault)} == {*faults._COMMON, *faults._SPECIAL}
    for kind, what in KINDS.items():
        assert read_fault({"kind": kind, **what.fields}) == read_fault({"kind": kind})


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"kind": "explode"}, "there is no fault kind 'explode'; the kinds are refuse, unknown_reason, "),
        ({}, "there is no fault kind None"),
        ({"kind": ["slow"]}, "there is no fault kind"),
        ("slow", "a fault is a JSON object"),
        (
            {"kind": "slow", "second": 1},
            "the fault slow has no field 'second'; its fields are kind, on, skip, ",
        ),
        ({"kind": "cut_after", "accept": False}, "the fault cut_after has no field 'accept'"),
        ({"kind": "slow", "seconds": "1"}, "seconds must be a number, not '1'"),
        ({"kind": "slow", "seconds": -1}, "seconds must be between 0 and"),
        ({"kind": "slow", "seconds": float("nan")}, "seconds must be a number"),
        ({"kind": "slow", "times": 0}, "times must be between 1 and"),
        ({"kind": "slow", "times": True}, "times must be a whole number, not True"),
        ({"kind": "slow", "skip": -1}, "skip must be between 0 and"),
        ({"kind": "slow", "on": "both"}, "on must be one of send, balance, any, not 'both'"),
        ({"kind": "slow", "accept": 1}, "accept must be true or false"),
        ({"kind": "status", "status": 99}, "status must be between 200 and 599, not 99"),
        ({"kind": "status", "location": "/a\r\nSet-Cookie: b"}, "location must be printable ASCII"),
        (
            {"kind": "charset", "charset": "no-such"},
            "charset must be a character set such as gbk, not 'no-such'",
        ),
        ({"kind": "big", "size": 65 * 1024 * 1024}, "size must be between 1 and 67108864"),
        ({"kind": "truncated", "missing": "all"}, "missing must be one of text, bytes"),
        ({"kind": "refuse", "message": None}, "message must be a text, not None"),
    ],
)
def test_a_wrong_order_is_told_in_a_sentence(asked: Any, sentence: str) -> None:
    with pytest.raises(BadValue) as told:
        read_fault(asked)
    assert sentence in str(told.value)


def test_a_list_with_one_mistake_orders_nothing() -> None:
    pending = Faults()
    with pytest.raises(BadValue):
        pending.order([{"kind": "slow"}, {"kind": "explode"}])
    assert pending.pending() == []


def kinds_taken(pending: Faults, count: int, interface: str = "send", phones: str = "1") -> list[str | None]:
    taken = [pending.take(interface, phones) for _ in range(count)]
    return [None if fault is None else fault.kind for fault in taken]


def test_faults_come_in_the_order_they_were_ordered() -> None:
    pending = Faults()
    pending.order([{"kind": "html"}, {"kind": "empty", "times": 2}])
    assert kinds_taken(pending, 4) == ["html", "empty", "empty", None]


def test_skip_lets_requests_pass_first() -> None:
    pending = Faults()
    pending.order([{"kind": "html", "skip": 2}, {"kind": "empty", "skip": 1}])
    assert kinds_taken(pending, 6) == [None, None, "html", None, "empty", None]


def test_times_null_goes_on_until_it_is_cleared() -> None:
    pending = Faults()
    pending.order({"kind": "html", "times": None})
    assert kinds_taken(pending, 5) == ["html"] * 5
    pending.clear()
    assert kinds_taken(pending, 1) == [None]


def test_a_fault_waits_for_its_interface() -> None:
    pending = Faults()
    pending.order([{"kind": "html", "on": "balance"}, {"kind": "empty", "on": "send"}])
    assert kinds_taken(pending, 2, "send") == ["empty", None]
    assert kinds_taken(pending, 2, "balance") == ["html", None]


def test_a_fault_on_any_takes_the_first_of_both() -> None:
    pending = Faults()
    pending.order({"kind": "html"})
    assert kinds_taken(pending, 1, "balance") == ["html"]


def test_a_fault_may_wait_for_a_phone() -> None:
    pending = Faults()
    pending.order({"kind": "refuse", "phone": "13800130002", "times": None})
    assert kinds_taken(pending, 1, phones="13800130001,13800130003") == [None]
    assert kinds_taken(pending, 1, phones="13800130001,13800130002") == ["refuse"]
    assert kinds_taken(pending, 1, "balance", "") == [None]
