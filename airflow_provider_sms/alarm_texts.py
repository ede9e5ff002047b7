"""What an alarm is about, and what it says: short, cut to fit, in its reader's time. Knows no callback."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from airflow_provider_sms.gateway import cutting, texts, times

MOST_SEGMENTS = 3
FAILED, RETRIED, SUCCEEDED = "failed", "up_for_retry", "success"
RUNNING, SKIPPED, LATE, ASKED, OTHER = "running", "skipped", "deadline", "awaiting_input", ""
_WORDS = {
    "zh": {
        FAILED: "失败",
        RETRIED: "将重试",
        SUCCEEDED: "成功",
        RUNNING: "开始",
        SKIPPED: "跳过",
        LATE: "逾期",
        ASKED: "待处理",
        OTHER: "通知",
    },
    "en": {
        FAILED: "Failed",
        RETRIED: "Will retry",
        SUCCEEDED: "Succeeded",
        RUNNING: "Started",
        SKIPPED: "Skipped",
        LATE: "Late",
        ASKED: "Waits for you",
        OTHER: "Notice",
    },
}
_TRY = {"zh": " 第{}次", "en": " try {}"}
_COLON = {"zh": ":", "en": ": "}
_MORE = {"zh": "(另有{}条)", "en": " (+{} more)"}
_MAYBE_AGAIN = {"zh": "(可能重复)", "en": " (may be a repeat)"}
_HELD_BACK = {"zh": "{}条告警未单独发送,最近一条:", "en": "{} alarms were held back, last: "}
_LONGEST_WORD = 30
_SHORTEST_NAME = 6
_LONGEST_PLACE = 150
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Event:
    """Something that somebody is told of.

    :param kind: what has happened: a task's state, `failed` or `success` of a run, `deadline`, or the user's own word.
    :param happened_at: aware.
    :param parts: what tells it from everything else; None if the context does not say.
    """

    kind: str
    dag_id: str = ""
    task_id: str = ""
    map_index: int = -1
    try_number: int | None = None
    happened_at: datetime = field(default_factory=times.now)
    link: str = ""
    parts: tuple[Any, ...] | None = None

    @property
    def place(self) -> str:
        """Where it happened, in a campaign's name."""
        shown = "/".join(str(part) for part in self.parts or ())
        return "".join(each for each in shown if each.isprintable())[:_LONGEST_PLACE]


def key(event: Event, phones: Sequence[str], template: str | None) -> str | None:
    """What makes it the same alarm.

    :param template: the text as it was written; None for the alarm's own.
    :returns: None, and no protection, where the context does not say what it is about.
    """
    if event.parts is None:
        return None
    parts = (event.parts, event.kind, sorted(phones), template)
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def named(campaign_key: str) -> str:
    """Call an alarm's campaigns by the user's own name for it, as far as they can be called so.

    :returns: never what a campaign's own `campaign_key` is: that of the very task whose failure it tells of, say.
    """
    name = "".join(each for each in campaign_key if each.isprintable()).strip()
    if name == campaign_key and len(name) <= _LONGEST_NAME:
        return f"alarm {name}"
    digest = hashlib.sha256(campaign_key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return " ".join(filter(None, ("alarm", name[:_LONGEST_PLACE], digest)))


def text(event: Event, signature: str | None, zone: ZoneInfo, language: str, note: str = "") -> str:
    """Write an alarm's own text: one segment if that is possible, three with the link to the log.

    :param signature: the connection's; a text without one can not be sent, and says so when it is.
    :param zone: where its reader is.
    :param note: such as `(+37 more)`.
    :returns: the text, signature included.
    """
    opening = f"【{signature}】" if signature else ""
    link = f" {event.link}" if event.link else ""
    most = MOST_SEGMENTS * texts.JOINED_SEGMENT
    short = _told(event, zone, language, texts.SINGLE_SEGMENT - texts.length(opening + note))
    for told in (_told(event, zone, language, most), short):
        whole = f"{opening}{told}{note}{link}"
        if link and texts.length(whole) <= most:
            return whole
    return f"{opening}{short}{note}"


def more(others: int, language: str) -> str:
    """Say how many others were held back; empty if none was."""
    return _MORE[language].format(others) if others else ""


def maybe_again(language: str) -> str:
    """Say that nobody knows whether this text has gone out before."""
    return _MAYBE_AGAIN[language]


def held_back(count: int, last: str, signature: str | None, language: str) -> str:
    """Write the text that tells of those held back, in one segment.

    :param last: the text of the last one, as it would have gone out.
    :param signature: the connection's; None for the last one's.
    :returns: the text, signature included.
    """
    opening, quoted = cutting.quoted(last)
    opening = f"【{signature}】" if signature else opening
    told = _HELD_BACK[language].format(count) + cutting.made_safe(quoted)
    return opening + cutting.cut(told, texts.SINGLE_SEGMENT - texts.length(opening))


def _told(event: Event, zone: ZoneInfo, language: str, most: int) -> str:
    words = _WORDS[language]
    start = cutting.cut(cutting.made_safe(words.get(event.kind, event.kind)), _LONGEST_WORD) + _COLON[language]
    end = ""
    if event.map_index >= 0:
        end += f"[{event.map_index}]"
    if event.task_id and event.try_number:
        end += _TRY[language].format(event.try_number)
    end += f" {event.happened_at.astimezone(zone):%m-%d %H:%M}"
    room = most - texts.length(start + end)
    return start + _named(event, max(room, 2 * _SHORTEST_NAME)) + end


def _named(event: Event, most: int) -> str:
    """DAG and task, the longer one cut first."""
    dag, task = (cutting.made_safe(each) for each in (event.dag_id, event.task_id))
    if not task or not dag:
        return cutting.cut(dag or task, most)
    room = most - 1
    half, rest = room // 2, room - room // 2
    if texts.length(dag) <= half:
        return f"{dag}.{cutting.cut(task, room - texts.length(dag))}"
    if texts.length(task) <= rest:
        return f"{cutting.cut(dag, room - texts.length(task))}.{task}"
    return f"{cutting.cut(dag, half)}.{cutting.cut(task, rest)}"
