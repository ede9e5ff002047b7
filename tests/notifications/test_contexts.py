"""What has happened, read from the contexts that Airflow's versions call back with."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_sms.notifications.alarms import read

ENDED = datetime(2030, 1, 31, 20, 5, tzinfo=UTC)
LOG = "https://airflow.example/dags/etl/runs/run/tasks/load?try_number=2"


def instance(**changes: Any) -> Any:
    fields = {"dag_id": "etl", "run_id": "run", "task_id": "load", "map_index": -1, "try_number": 2, "max_tries": 3}
    fields |= {"state": "failed", "start_date": ENDED, "end_date": ENDED, "log_url": LOG, "task": None}
    return SimpleNamespace(**{**fields, **changes})


def test_a_task() -> None:
    event = read({"ti": instance(map_index=4)})
    assert (event.kind, event.dag_id, event.task_id, event.map_index, event.try_number) == (
        *("failed", "etl", "load"),
        *(4, 2),
    )
    assert (event.happened_at, event.link) == (ENDED, LOG)
    assert event.place == "etl/run/load/4/2"


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"state": "up_for_retry"}, "up_for_retry"),
        # A process other than the task's own says nothing of its state.
        ({"state": None}, "up_for_retry"),
        ({"state": None, "max_tries": 1}, "failed"),
        ({"state": SimpleNamespace(value="success")}, "success"),
        ({"state": "running"}, "running"),
        ({"state": "scheduled"}, "running"),
        ({"state": "running", "task": type("HITLOperator", (), {})()}, "awaiting_input"),
    ],
)
def test_what_has_become_of_a_task(changes: dict[str, Any], kind: str) -> None:
    assert read({"ti": instance(**changes)}).kind == kind
    assert read({"ti": instance(**changes)}, "late data").kind == "late data"


def test_half_a_task_instance() -> None:
    half = SimpleNamespace(dag_id="etl", run_id="run 1", task_id="load", try_number=1, max_tries=0)
    event = read({"ti": half})
    assert (event.kind, event.map_index) == ("failed", -1)
    assert event.link.endswith("/dags/etl/runs/run%201") or event.link == ""


RUN = SimpleNamespace(dag_id="etl", run_id="run", end_date=ENDED)


@pytest.mark.parametrize(
    ("context", "kind"),
    [
        ({"reason": "task_failure", "ti": instance(), "dag_run": RUN}, "failed"),
        ({"reason": "task_failure", "ti": instance(task_id="another"), "dag_run": RUN}, "failed"),
        ({"reason": "success", "ti": instance(), "dag_run": RUN}, "success"),
        # Without any task of the run.
        ({"reason": "timed_out", "dag": SimpleNamespace(dag_id="etl"), "run_id": "run"}, "failed"),
    ],
)
def test_a_run(context: dict[str, Any], kind: str) -> None:
    event = read(context)
    assert (event.kind, event.dag_id, event.task_id) == (kind, "etl", "")
    assert event.parts == ("etl", "run", context["reason"])
    assert event.link.endswith("/dags/etl/runs/run") or "ti" not in context


def test_a_run_that_was_cleared_and_fails_again_is_another_alarm() -> None:
    runs = [SimpleNamespace(dag_id="etl", run_id="run", end_date=ENDED, clear_number=number) for number in (0, 1, 1, 2)]
    found = [read({"reason": "task_failure", "ti": instance(), "dag_run": run}).parts for run in runs]
    assert found[1] == found[2]
    assert len(set(found)) == 3


def test_a_run_of_an_older_airflow_has_its_page_elsewhere() -> None:
    page = "https://airflow.example/dags/etl/grid?dag_run_id=run&task_id=load"
    ti = instance(log_url=f"{page}&map_index=-1&base_date=2030-01-31T20%3A05%3A00%2B0000&tab=logs")
    assert read({"ti": ti}).link == f"{page}&tab=logs"
    event = read({"reason": "task_failure", "ti": ti, "dag_run": RUN})
    assert event.link == "https://airflow.example/dags/etl/grid?dag_run_id=run"


def test_a_deadline() -> None:
    deadline = {"id": "0197", "deadline_time": "2030-01-31T20:05:00+00:00"}
    event = read({"dag_run": {"dag_id": "etl", "dag_run_id": "run"}, "deadline": deadline})
    assert (event.kind, event.dag_id, event.happened_at) == ("deadline", "etl", ENDED)
    assert event.parts == ("etl", "run", "deadline", "0197")
    deadline["deadline_time"] = ENDED  # type: ignore[assignment]
    assert read({"dag_run": {"dag_id": "etl", "dag_run_id": "run"}, "deadline": deadline}).happened_at == ENDED


def test_a_deadline_without_a_run_is_told_from_others_by_its_id() -> None:
    found = [read({"dag_run": None, "deadline": {"id": number}}) for number in ("0197", "0197", "0198")]
    assert found[0].parts == found[1].parts != found[2].parts
    assert (found[0].kind, found[0].link) == ("deadline", "")


def test_slas_that_an_older_airflow_s_dag_has_missed() -> None:
    dag = SimpleNamespace(dag_id="etl")
    load, store = (SimpleNamespace(task_id=task_id, execution_date=ENDED) for task_id in ("load", "store"))
    event = read({"dag": dag, "slas": [load]})
    assert (event.kind, event.dag_id, event.task_id) == ("deadline", "etl", "load")
    both = read({"dag": dag, "slas": [store, load]})
    assert (both.dag_id, both.task_id) == ("etl", "")
    assert both.parts == read({"dag": dag, "slas": [load, store]}).parts != event.parts
    assert read({"dag": dag, "slas": []}).parts is None


def test_a_context_that_says_nothing() -> None:
    assert read({}).parts is None
    assert read({"dag_run": {}, "deadline": {}}).parts is None
