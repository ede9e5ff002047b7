"""What an alarm says: where, when, which try; in one segment, or three with the link to the log."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_sms import alarm_texts
from airflow_provider_sms.alarm_texts import Event
from airflow_provider_sms.gateway import cutting, texts

BEIJING = ZoneInfo("Asia/Shanghai")
EVENT = Event("failed", "etl", "load", -1, 2, datetime(2030, 1, 31, 20, 5, tzinfo=UTC), "https://airflow.example/log")


def written(note: str = "", language: str = "zh", zone: ZoneInfo = BEIJING, **changes: Any) -> str:
    text = alarm_texts.text(replace(EVENT, **changes), "云通信", zone, language, note)
    assert texts.prepare(text).content == text
    return text


def test_it_says_what_where_which_try_and_when() -> None:
    assert written() == "【云通信】失败:etl.load 第2次 02-01 04:05 https://airflow.example/log"
    assert written(language="en") == "【云通信】Failed: etl.load try 2 02-01 04:05 https://airflow.example/log"
    assert written(zone=ZoneInfo("Europe/Berlin"), link="") == "【云通信】失败:etl.load 第2次 01-31 21:05"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "up_for_retry"}, "将重试:etl.load 第2次 "),
        ({"kind": "running"}, "开始:etl.load 第2次 "),
        ({"kind": "awaiting_input"}, "待处理:etl.load 第2次 "),
        ({"map_index": 3}, "失败:etl.load[3] 第2次 "),
        ({"task_id": "", "try_number": None}, "失败:etl "),
        ({"kind": "deadline", "task_id": "", "try_number": None}, "逾期:etl "),
        ({"kind": "", "dag_id": "", "task_id": "", "try_number": None}, "通知: "),
        ({"kind": "数据未到"}, "数据未到:etl.load 第2次 "),
    ],
)
def test_each_kind_of_event(changes: dict[str, Any], said: str) -> None:
    assert written(**changes).startswith(f"【云通信】{said}02-01 04:05")


@pytest.mark.parametrize("note", ["", "(另有1234条)"])
@pytest.mark.parametrize(
    ("dag_id", "task_id", "kept"),
    [("d" * 250, "load", "d….load 第"), ("etl", "t" * 250, ":etl.ttt"), ("𠮷" * 250, "田" * 250, "𠮷….田")],
)
def test_long_names_are_cut_to_one_segment(dag_id: str, task_id: str, kept: str, note: str) -> None:
    text = written(note, dag_id=dag_id, task_id=task_id, link="")
    assert texts.SINGLE_SEGMENT - 1 <= texts.length(text) <= texts.SINGLE_SEGMENT
    assert text.endswith(f"第2次 02-01 04:05{note}")
    assert kept in text


def test_the_link_stays_whole_within_three_segments() -> None:
    for length in (100, 150, 200):
        link = "https://airflow.example/".ljust(length, "x")
        text = written(link=link)
        if length < 200:
            assert text.endswith(f" {link}")
            assert texts.prepare(text).segments <= 3
        else:
            assert "http" not in text
            assert texts.prepare(text).segments == 1


def test_names_give_way_to_the_link() -> None:
    link = "https://airflow.example/".ljust(120, "x")
    text = written(link=link, dag_id="d" * 200)
    assert text.endswith(f"….load 第2次 02-01 04:05 {link}")
    assert texts.prepare(text).segments == 3


def test_what_names_bring_is_replaced() -> None:
    text = written(kind="【x】", dag_id="a【b】", task_id="c🔥d")
    assert "〔x〕:a〔b〕.c□d" in text


def test_others_are_counted_before_the_link() -> None:
    note = alarm_texts.more(37, "zh")
    assert written(note) == "【云通信】失败:etl.load 第2次 02-01 04:05(另有37条) https://airflow.example/log"
    assert alarm_texts.more(37, "en") == " (+37 more)"
    assert alarm_texts.more(0, "zh") == ""


def test_those_held_back_are_told_in_one_segment() -> None:
    told = alarm_texts.held_back(37, written(), None, "zh")
    assert told == "【云通信】37条告警未单独发送,最近一条:失败:etl.load 第2次 02-01 04:05"
    long = alarm_texts.held_back(1234, "𠮷【】" * 100, "签" * 20, "en")
    assert texts.prepare(long).segments == 1
    assert long.endswith("…")


@pytest.mark.parametrize("value", ["【\U0001f600】", "【a\x00b】"])
def test_what_looks_like_a_signature_and_would_be_refused_is_none(value: str) -> None:
    for content in (f"failed {value}", f"{value} failed"):
        assert texts.prepare(cutting.made_sendable(content), "云通信").content.startswith("【云通信】")


def test_a_long_word_of_one_s_own_is_cut() -> None:
    assert "etl.load" in written(kind="late " * 150)
