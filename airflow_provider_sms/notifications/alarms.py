"""What has happened, read from a callback's context. Knows contexts; what an alarm says of it is `alarm_texts`.

Airflow calls back with a task instance, with a run and a reason, or, for a deadline, with a run alone, as JSON;
Airflow 2 also with the SLAs that a DAG has missed.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from urllib.parse import quote

from airflow_provider_sms.alarm_texts import ASKED, FAILED, LATE, OTHER, RETRIED, RUNNING, SUCCEEDED, Event
from airflow_provider_sms.gateway import cutting, times

# What Airflow 2's `dag.test()` says of a task that begins.
_NOT_EVEN_RUNNING = {"scheduled", "queued", "restarting"}


# What Airflow 2's links say besides, and what makes them too long for a text.
_NOT_NEEDED = re.compile("&(base_date=[^&]*|map_index=-1)(?=&|$)")


def read(context: Any, event: str | None = None) -> Event:
    """Read what has happened.

    :param context: the callback's.
    :param event: the user's own word for it, in place of what the context says.
    """
    ti = context.get("ti") or context.get("task_instance")
    if context.get("deadline") is not None:
        return _of_deadline(context, event)
    if context.get("slas") is not None:
        return _of_slas(context, event)
    if ti is not None and context.get("reason") is None:
        return _of_task(ti, context, event)
    return _of_run(context, ti, event)


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
        _log_url(ti) or _task_link(str(dag_id), str(run_id), str(task_id), map_index, try_number),
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
        # Cleared, and ended anew: as a task's tries are.
        parts=(dag_id, run_id, reason, *filter(None, [_of(run, "clear_number")])),
    )


def _of_deadline(context: Any, event: str | None) -> Event:
    run, deadline = context.get("dag_run"), context["deadline"]
    dag_id, run_id = _of(run, "dag_id"), _first(_of(run, "dag_run_id"), _of(run, "run_id"))
    number = _of(deadline, "id")
    happened_at = _aware(_of(deadline, "deadline_time")) or times.now()
    has_run = dag_id is not None and run_id is not None
    return Event(
        event or LATE,
        str(dag_id or ""),
        happened_at=happened_at,
        link=_run_link(str(dag_id), str(run_id)) if has_run else "",
        parts=(dag_id, run_id, "deadline", str(number)) if has_run or number is not None else None,
    )


def _of_slas(context: Any, event: str | None) -> Event:
    missed = sorted((str(_of(sla, "task_id")), str(_of(sla, "execution_date"))) for sla in context["slas"])
    dag_id = _of(context.get("dag"), "dag_id")
    tasks = {task_id for task_id, _ in missed}
    return Event(
        event or LATE,
        str(dag_id or ""),
        tasks.pop() if len(tasks) == 1 else "",
        parts=(dag_id, "sla", *(f"{task_id} {of_run}" for task_id, of_run in missed)) if missed else None,
    )


def _state(ti: Any) -> str:
    """What the task has come to; where a task was killed, another process calls back, and does not say it."""
    state = getattr(ti, "state", None)
    kind = str(getattr(state, "value", state))
    if kind in _NOT_EVEN_RUNNING:
        kind = RUNNING
    if kind == RUNNING and any(each.__name__ == "HITLOperator" for each in type(getattr(ti, "task", None)).__mro__):
        return ASKED
    if state is not None:
        return kind
    tries, most = getattr(ti, "try_number", None), getattr(ti, "max_tries", None)
    return RETRIED if tries is not None and most is not None and tries <= most else FAILED


def _log_url(ti: Any) -> str:
    try:
        return _NOT_NEEDED.sub("", cutting.made_safe(ti.log_url or ""))
    except Exception:  # noqa: BLE001 - half a task instance, as a callback may come with, may lack what this needs
        return ""


def _task_link(dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int | None) -> str:
    """The page of a try's log, where its task instance does not tell it: on Airflow 3.0."""
    run = _run_link(dag_id, run_id)
    mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
    tried = f"?try_number={try_number}" if try_number else ""
    return f"{run}/tasks/{quote(task_id)}{mapped}{tried}" if run else ""


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
