"""What has happened, read from a callback's context, and an alarm's own text about it. Knows contexts, sends nothing.

Airflow calls back with a task instance, with a run and a reason, or, for a deadline, with a run alone, as JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from airflow_provider_sms.gateway import cutting, texts, times

MOST_SEGMENTS = 3
LANGUAGES = ("zh", "en")
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
_HELD_BACK = {"zh": "{}条告警未单独发送,最近一条:", "en": "{} alarms were held back, last: "}
_SHORTEST_NAME = 6
_LONGEST_PLACE = 150


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


def read(context: Any, event: str | None = None) -> Event:
    """Read what has happened.

    :param context: the callback's.
    :param event: the user's own word for it, in place of what the context says.
    """
    ti = context.get("ti") or context.get("task_instance")
    if context.get("deadline") is not None:
        return _of_deadline(context, event)
    if ti is not None and context.get("reason") is None:
        return _of_task(ti, context, event)
    return _of_run(context, ti, event)


def key(event: Event, phones: Sequence[str], template: str | None) -> str | None:
    """What makes it the same alarm.

    :param template: the text as it was written; None for the alarm's own.
    :returns: None, and no protection, where the context does not say what it is about.
    """
    if event.parts is None:
        return None
    parts = (event.parts, event.kind, sorted(phones), template)
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


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


def held_back(count: int, last: str, language: str) -> str:
    """Write the text that tells of those held back.

    :param last: the text of the last one, as it would have gone out.
    :returns: the text, without a signature.
    """
    told = _HELD_BACK[language].format(count) + cutting.made_safe(cutting.unsigned(last))
    return cutting.cut(told, texts.SINGLE_SEGMENT - texts.LONGEST_SIGNATURE - 2)


def _told(event: Event, zone: ZoneInfo, language: str, most: int) -> str:
    words = _WORDS[language]
    start = cutting.made_safe(words.get(event.kind, event.kind)) + _COLON[language]
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


def _of_task(ti: Any, context: Any, event: str | None) -> Event:
    kind = event or _state(ti)
    map_index = getattr(ti, "map_index", None)
    map_index = -1 if map_index is None else map_index
    dag_id, run_id, task_id, try_number = (
        getattr(ti, name, None) for name in ("dag_id", "run_id", "task_id", "try_number")
    )
    began = getattr(ti, "start_date", None) if kind == RUNNING else None
    return Event(
        kind,
        str(dag_id),
        str(task_id),
        map_index,
        try_number,
        _aware(began or getattr(ti, "end_date", None)) or times.now(),
        _link(ti, str(dag_id), str(run_id)),
        (dag_id, run_id, task_id, map_index, try_number),
    )


def _of_run(context: Any, ti: Any, event: str | None) -> Event:
    run, dag = context.get("dag_run"), context.get("dag")
    reason = str(context.get("reason") or "")
    dag_id = _first(_of(run, "dag_id"), getattr(ti, "dag_id", None), getattr(dag, "dag_id", None))
    run_id = _first(_of(run, "run_id"), _of(run, "dag_run_id"), getattr(ti, "run_id", None), context.get("run_id"))
    happened_at = _aware(_of(run, "end_date")) or times.now()
    if dag_id is None or run_id is None:
        return Event(event or OTHER, str(dag_id or ""), happened_at=happened_at)
    kind = event or (SUCCEEDED if reason == "success" else FAILED if reason else OTHER)
    return Event(
        kind,
        str(dag_id),
        happened_at=happened_at,
        link=_run_link(str(dag_id), str(run_id), ti),
        parts=(dag_id, run_id, reason),
    )


def _of_deadline(context: Any, event: str | None) -> Event:
    run, deadline = context.get("dag_run"), context["deadline"]
    dag_id, run_id = _of(run, "dag_id"), _first(_of(run, "dag_run_id"), _of(run, "run_id"))
    happened_at = _aware(_of(deadline, "deadline_time")) or times.now()
    if dag_id is None or run_id is None:
        return Event(event or LATE, str(dag_id or ""), happened_at=happened_at)
    return Event(
        event or LATE,
        str(dag_id),
        happened_at=happened_at,
        link=_run_link(str(dag_id), str(run_id)),
        parts=(dag_id, run_id, "deadline", str(_of(deadline, "id"))),
    )


def _state(ti: Any) -> str:
    """What the task has come to; where a task was killed, another process calls back, and does not say it."""
    state = getattr(ti, "state", None)
    kind = str(getattr(state, "value", state))
    if kind == RUNNING and any(each.__name__ == "HITLOperator" for each in type(getattr(ti, "task", None)).__mro__):
        return ASKED
    if state is not None:
        return kind
    tries, most = getattr(ti, "try_number", None), getattr(ti, "max_tries", None)
    return RETRIED if tries is not None and most is not None and tries <= most else FAILED


def _link(ti: Any, dag_id: str, run_id: str) -> str:
    return _log_url(ti) or _run_link(dag_id, run_id)


def _log_url(ti: Any) -> str:
    try:
        return cutting.made_safe(ti.log_url or "")
    except Exception:  # noqa: BLE001 - half a task instance, as a callback may come with, may lack what this needs
        return ""


def _run_link(dag_id: str, run_id: str, ti: Any = None) -> str:
    """The run's page; where the pages are, its task instance tells, or the settings of Airflow 3."""
    base, of_dag, rest = _log_url(ti).partition(f"/dags/{dag_id}/")
    if of_dag and rest.startswith("grid"):
        return f"{base}{of_dag}grid?dag_run_id={quote(run_id)}"
    if not of_dag:
        from airflow.providers.common.compat.sdk import conf

        base = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
    return f"{base}/dags/{quote(dag_id)}/runs/{quote(run_id)}" if base else ""


def _aware(time: Any) -> datetime | None:
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            return None
    return time if isinstance(time, datetime) and time.tzinfo is not None else None


def _of(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, dict) else getattr(thing, name, None)


def _first(*values: Any) -> Any:
    return next((each for each in values if each is not None), None)
