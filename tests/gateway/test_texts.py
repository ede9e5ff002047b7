"""The text: signature, forbidden characters, price."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_sms.gateway import texts
from airflow_provider_sms.gateway.errors import AccountError, TextError


@pytest.mark.parametrize("content", ["【云通信】您好", "您好【云通信】", "  【云通信】您好 \n"])
def test_a_signature_that_is_there_stays(content: str) -> None:
    assert texts.prepare(content, "别家").content == content.strip()


def test_a_missing_signature_comes_from_the_connection() -> None:
    assert texts.prepare("您好", "云通信") == texts.Text("【云通信】您好", 7, 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("您好", "content: no signature.*signature.*extras"),
        ("", "content: the text is empty"),
        ("   ", "content: the text is empty"),
        ("【云通信】【别家】您好", "content: more than one signature"),
        ("【云通信】您好【别家】", "content: more than one signature"),
        ("您【云通信】好", "content: the signature .* must be at the start or at the end"),
        ("【云通信您好", "content: a bracket"),
        ("云通信】您好", "content: a bracket"),
        ("】云通信【您好", "content: a bracket"),
        ("【云】您好", "content: signature: 1 characters"),
        ("【】您好", "content: signature: 0 characters"),
        ("【" + "云" * 21 + "】您好", "content: signature: 21 characters"),
        ("【云通信】", "content: there is nothing but the signature"),
        ("【云通信】您好\x00", r"content: .*U\+0000"),
        ("【云通信】您好\ud800", r"content: .*U\+D800"),
        ("【云通信】" + "好" * 496, "content: 501 characters"),
    ],
)
def test_texts_that_can_not_be_sent(content: str, said: str) -> None:
    with pytest.raises(TextError, match=said):
        texts.prepare(content)


@pytest.mark.parametrize(
    "emoji", ["😀", "🀄", "❤\ufe0f", "1\ufe0f\u20e3", "🇨🇳", "👍🏽", "👨\u200d👩\u200d👧", "🌶", "🅰", "⏰", "✨"]
)
def test_an_emoji_is_refused_and_named(emoji: str) -> None:
    with pytest.raises(TextError, match=r"content: the emoji .* at character 8"):
        texts.prepare(f"【云通信】您好{emoji}")


@pytest.mark.parametrize("character", ["𠮷", "䶮", "㼆", "©", "®", "™", "☎", "✔", "★", "①", "℃", "—", "…", "¥"])
def test_what_only_looks_unusual_is_text(character: str) -> None:
    assert texts.prepare(f"【云通信】{character}").content == f"【云通信】{character}"


@pytest.mark.parametrize(
    ("units", "segments"), [(1, 1), (70, 1), (71, 2), (134, 2), (135, 3), (201, 3), (202, 4), (500, 8)]
)
def test_what_a_phone_is_charged_for(units: int, segments: int) -> None:
    assert texts.segments(units) == segments


def test_a_rare_han_character_counts_two() -> None:
    assert texts.prepare("【云通信】𠮷").units == 7


def test_line_breaks_of_every_kind_count_one() -> None:
    assert texts.prepare("【云通信】a\r\nb\rc\u2028d").content == "【云通信】a\nb\nc\nd"


@pytest.mark.parametrize("setting", ["云通信", "【云通信】", " 【 云通信 】 "])
def test_a_signature_setting_with_or_without_brackets(setting: str) -> None:
    assert texts.signature_name(setting) == "云通信"


@pytest.mark.parametrize("setting", ["", "云", "云" * 21, "【云】通信】", "【【云通信】】", "云通信】"])
def test_a_signature_setting_that_is_none(setting: str) -> None:
    with pytest.raises(AccountError, match="signature:"):
        texts.signature_name(setting)


@given(st.text(max_size=600))
def test_whatever_comes_ends_in_a_signed_text_or_a_sentence(content: str) -> None:
    try:
        text = texts.prepare(content, "云通信")
    except TextError as error:
        said = str(error)
    else:
        said = "content: "
        assert text.content.count("【") == text.content.count("】") == 1
        assert len(text.content.encode("utf-16-le")) == 2 * text.units
    assert said.startswith("content: ")
