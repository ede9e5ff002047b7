"""Phones as people hand them in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_sms.gateway import phones
from airflow_provider_sms.gateway.errors import PhonesError
from airflow_provider_sms.gateway.phones import Reason


@pytest.mark.parametrize(
    "written",
    [
        "13800130001",
        " 138 0013 0001 ",
        "138-0013-0001",
        "+86 138-0013-0001",
        "+8613800130001",
        "8613800130001",
        "008613800130001",
        "(+86)13800130001",
        "\uff11\uff13\uff18\uff10\uff10\uff11\uff13\uff10\uff10\uff10\uff11",
        "\u200e13800130001\u200b",
        "\ufeff13800130001",
        "'13800130001'",
        13800130001,
        13800130001.0,
        8613800130001,
    ],
)
def test_many_ways_to_write_one_phone(written: object) -> None:
    assert phones.normalise(written) == "13800130001"


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        None,
        "1380013000",
        "138001300011",
        "12800130001",
        "+85213800130001",
        "1380013000a",
        True,
        [],
        1.5,
        float("nan"),
        "+86+8613800130001",
        "868613800130001",
        "١٣800130001",
        b"13800130001",
    ],
)
def test_what_is_no_mainland_mobile(written: object) -> None:
    assert phones.normalise(written) is None


@pytest.mark.parametrize("prefix", [140, 144, 146, 148, 149, 154, 160, 163, 164, 168, 169, 179, 194, 199])
def test_prefixes_that_libraries_do_not_know_yet(prefix: int) -> None:
    assert phones.normalise(f"{prefix}00130001") == f"{prefix}00130001"


@pytest.mark.parametrize(
    "text",
    [
        "13800130001,13800130002",
        "13800130001\uff0c13800130002\uff0c",
        "13800130001\u300113800130002",
        "13800130001;13800130002",
        "13800130001\r\n13800130002\n",
        "['13800130001', '13800130002']",
        '["13800130001", "13800130002"]',
        "[13800130001, 13800130002]",
    ],
)
def test_comma_text_and_a_list_that_went_through_a_template(text: str) -> None:
    assert phones.read(text) == phones.Phones(("13800130001", "13800130002"), ())


def test_each_phone_once_and_what_is_left_out_with_the_reason() -> None:
    found = phones.read(["13800130002", "13800130001", "+86 13800130002", "rubbish 13800130003", None])
    assert found.included == ("13800130002", "13800130001")
    assert [(each.position, each.reason) for each in found.excluded] == [
        (3, Reason.DUPLICATE),
        (4, Reason.MALFORMED),
        (5, Reason.MALFORMED),
    ]
    assert found.counted() == {"duplicate": 1, "malformed": 2}


def test_what_is_left_out_is_explained_without_being_shown() -> None:
    found = phones.read(["13800130001", "13800130001", "identity 110101199001011234"] + ["x"] * 10)
    said = found.explained()
    assert "1 duplicate, 11 malformed" in said
    assert "item 2: 138****0001" in said
    assert "and 7 more" in said
    assert "13800130001" not in said
    assert "11010119900101" not in said


@pytest.mark.parametrize("nothing", ["", " , ,", [], (), iter(())])
def test_no_phone_at_all(nothing: object) -> None:
    with pytest.raises(PhonesError, match="phones: there is none"):
        phones.read(nothing)


def test_none_that_can_be_sent_to() -> None:
    with pytest.raises(PhonesError, match="phones: none of 2 is a mainland mobile"):
        phones.read(["x", "y"])


@pytest.mark.parametrize("rubbish", [None, 1.5, {"13800130001": 1}, b"13800130001", True, object()])
def test_what_is_no_list(rubbish: object) -> None:
    with pytest.raises(PhonesError, match="phones: expected a list or comma text"):
        phones.read(rubbish)


def test_one_number() -> None:
    assert phones.read(13800130001).included == ("13800130001",)


def test_phones_inside_a_text_are_masked() -> None:
    assert phones.mask_inside("call 13800130001 or 010-12345678, id 110101199001011234") == (
        "call 138****0001 or 010-12345678, id 110101199001011234"
    )


@given(st.lists(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.from_regex(r"\A1[3-9]\d{9}\Z"))))
def test_every_item_ends_in_exactly_one_place(items: list[object]) -> None:
    try:
        found = phones.read(items)
    except PhonesError:
        return
    assert len(found.included) + len(found.excluded) == len(items)
    assert len(set(found.included)) == len(found.included)
    assert all(phones.normalise(phone) == phone for phone in found.included)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.binary()))
def test_a_mask_never_shows_seven_digits_in_a_row(item: object) -> None:
    import re

    shown = phones.mask(item)
    assert not re.search(r"\d{7}", shown)
