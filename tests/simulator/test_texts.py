from __future__ import annotations

import pytest

from airflow_provider_sms.simulator import texts


@pytest.mark.parametrize(
    ("units", "points"),
    [(1, 1), (70, 1), (71, 2), (134, 2), (135, 3), (201, 3), (202, 4), (500, 8)],
)
def test_a_text_costs_one_point_up_to_70_units_and_then_one_per_67(units: int, points: int) -> None:
    assert texts.points("字" * units) == points


def test_latin_letters_cost_as_much_as_han_characters() -> None:
    assert texts.points("a" * 71) == texts.points("字" * 71) == 2


def test_a_character_outside_the_bmp_counts_two() -> None:
    assert texts.points("𠮷" * 35) == 1
    assert texts.points("𠮷" * 35 + "字") == 2


@pytest.mark.parametrize("text", ["【云通信】你好", "你好【云通信】", "【云通信】"])
def test_one_signature_at_the_start_or_the_end_is_in_order(text: str) -> None:
    assert texts.has_one_signature(text)


@pytest.mark.parametrize(
    "text",
    [
        "你好",
        "你好【云通信】再见",
        "【云通信】你好【云通信】",
        "【】你好",
        "【 】你好",
        "【云通信你好",
        "云通信】你好",
        "【【云通信】】你好",
        "[云通信]你好",
        " 【云通信】你好",
    ],
)
def test_anything_else_is_not(text: str) -> None:
    assert not texts.has_one_signature(text)


@pytest.mark.parametrize("text", ["😀", "你好🎉", "⭐", "✅", "❤️", "1️⃣", "🇨🇳", "👨‍👩‍👧", "🀄", "🈚", "⌚"])
def test_emoji_are_seen(text: str) -> None:
    assert texts.has_emoji(text)


@pytest.mark.parametrize("text", ["你好", "𠮷野家", "☆★→①©℃※", "—“”…", "123#*", "㊙", "☎"])
def test_rare_names_and_common_signs_are_no_emoji(text: str) -> None:
    assert not texts.has_emoji(text)
