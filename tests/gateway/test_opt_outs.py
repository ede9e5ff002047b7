"""Which replies opt out: those that are such a word, however they are written."""

from __future__ import annotations

import time

import pytest

from airflow_provider_sms.gateway.categories import Category, read_category
from airflow_provider_sms.gateway.opt_outs import OptOutWords

WORDS = OptOutWords(["R", "T", "TD", "N", "退订", "拒收"])


@pytest.mark.parametrize(
    "content",
    [
        "R",
        "r",
        "\uff32",
        "\uff52",
        " R\n",
        "R。",
        "“R”",
        "TD",
        "td!",
        "Td",
        "退订",
        "【退订】",
        "退订!!",
        "\u200bN\ufeff",
        "(n)",
        "。T",
    ],
)
def test_a_reply_that_is_such_a_word_opts_out(content: str) -> None:
    assert WORDS.are_in(content)


@pytest.mark.parametrize(
    "content",
    [
        "",
        " ",
        "。",
        "Y",
        "RR",
        "R2",
        "N 123456",
        "N123456",
        "不退订",
        "退订吗",
        "No",
        "T D",
        "Thanks",
        "我要退订短信",
        "\x00",
        "\ud800",
    ],
)
def test_a_reply_that_merely_holds_one_does_not(content: str) -> None:
    assert not WORDS.are_in(content)


def test_words_are_compared_as_replies_are() -> None:
    words = OptOutWords(["stop。", " ", "。"])
    assert words.are_in("Stop")
    assert not words.are_in("")
    assert not words.are_in("!")


def test_no_words_no_opt_out() -> None:
    assert not OptOutWords([]).are_in("R")


@pytest.mark.parametrize("content", ["。" * 1_000_000, "R" * 1_000_000, "ﷺ" * 1_000_000, "R" + " " * 1_000_000 + "R"])
def test_a_long_reply_takes_no_time(content: str) -> None:
    began = time.process_time()
    assert not WORDS.are_in(content)
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(("written", "read"), [(None, None), ("marketing", Category.MARKETING), ("notice", "notice")])
def test_a_category(written: str | None, read: object) -> None:
    assert read_category(written) == read


@pytest.mark.parametrize("category", ["", "Marketing", "advert", 1])
def test_no_category(category: str) -> None:
    with pytest.raises(ValueError, match="^category: .* is none of 'marketing', 'notice'.$"):
        read_category(category)
