"""Texts cut to fit, and brought to what the platform takes."""

from __future__ import annotations

import pytest

from airflow_provider_sms.gateway import cutting, texts

FAMILY = "👨‍👩‍👧"
RARE = "𠮷"


@pytest.mark.parametrize(
    ("text", "most", "cut"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        (RARE * 3, 6, RARE * 3),
        (RARE * 3, 5, RARE * 2 + "…"),
        (RARE * 3, 4, RARE + "…"),
        ("cafe\u0301s", 5, "caf…"),
        ("cafe\u0301s", 6, "cafe\u0301s"),
        ("ab cd", 4, "ab…"),
        ("abc", 1, "…"),
        ("abc", 0, ""),
    ],
)
def test_a_text_is_cut_between_characters(text: str, most: int, cut: str) -> None:
    assert cutting.cut(text, most) == cut
    assert texts.length(cutting.cut(text, most)) <= most


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("dag【其它】", "dag〔其它〕"),
        (f"a{FAMILY}b", "a□b"),
        ("☎️ 1️⃣", "□ □"),
        ("two\nlines\tand\x00NUL\ud800", "two lines and NUL"),
        (f"{RARE}田", f"{RARE}田"),
        (7, "7"),
    ],
)
def test_a_value_brings_no_signature_and_no_emoji(value: object, safe: str) -> None:
    assert cutting.made_safe(value) == safe
    texts.prepare(f"x{cutting.made_safe(value)}", "云通信")


@pytest.mark.parametrize(
    ("content", "sendable"),
    [
        ("【云通信】all is well", "【云通信】all is well"),
        ("all is well【云通信】", "all is well【云通信】"),
        ("【云通信】from 【other】 and 】", "【云通信】from 〔other〕 and 〕"),
        ("【云通信】x【other】", "【云通信】x〔other〕"),
        ("a 【b】 c", "a 〔b〕 c"),
        (f"【云通信】{FAMILY}\n\x07", "【云通信】□"),
        ("【云通信】", ""),
        ("  ", ""),
    ],
)
def test_what_the_platform_refuses_is_replaced(content: str, sendable: str) -> None:
    assert cutting.made_sendable(content) == sendable


def test_a_long_text_is_cut_and_its_link_is_not() -> None:
    link = "https://airflow.example/dags/a/runs/b"
    sendable = cutting.made_sendable(f"【云通信】{RARE * 400} {link}")
    assert sendable.endswith(f"{RARE}… {link}")
    assert texts.prepare(sendable).units <= texts.LONGEST_TEXT
    assert texts.prepare(cutting.made_sendable("x" * 600), "签" * 20).units == texts.LONGEST_TEXT


@pytest.mark.parametrize(
    ("content", "noted"),
    [
        ("【云通信】failed", "【云通信】failed(另有3条)"),
        ("failed【云通信】", "failed(另有3条)【云通信】"),
        ("【云通信】failed http://x/log", "【云通信】failed(另有3条) http://x/log"),
        ("【云通信】http://x/log", "【云通信】http://x/log(另有3条)"),
    ],
)
def test_a_note_stands_before_what_has_to_stay_whole(content: str, noted: str) -> None:
    assert cutting.with_note(content, "(另有3条)") == noted


def test_a_note_finds_room() -> None:
    full = "【云通信】" + "x" * 495
    noted = cutting.with_note(full, "(另有3条)")
    assert noted.endswith("x…(另有3条)")
    assert texts.prepare(noted).units == texts.LONGEST_TEXT


def test_a_text_taken_apart_to_be_quoted() -> None:
    assert cutting.quoted("【云通信】failed http://x/log") == ("【云通信】", "failed")
    assert cutting.quoted("failed【云通信】") == ("【云通信】", "failed")
    assert cutting.quoted("http://x/log") == ("", "http://x/log")
