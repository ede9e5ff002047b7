"""Airflow's own human in the loop, notified by SMS: a whole Airflow, and the answer given by its REST interface.

Takes minutes, so only with SMS_LIVE=1.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from scripts.processes import Children
from tests.support.airflow import EXAMPLES
from tests.support.airflow_rest import ENDED, Airflow, airflow_with_dags, start_airflow
from tests.support.simulator import Simulator

DAG_ID = "example_sms_hitl"


@pytest.fixture
def airflow(children: Children, platform: Simulator, tmp_path: Path) -> Iterator[Airflow]:
    changes = {"AIRFLOW_CONN_SMS_SIMULATOR": platform.as_connection()}
    with airflow_with_dags(children, [EXAMPLES / f"{DAG_ID}.py"], tmp_path, **changes) as env:
        # Before 3.3 the triggerer looks for the answer.
        airflow = start_airflow(children, env, tmp_path, "scheduler", "triggerer")
        airflow.until("Airflow is ready", lambda: airflow.is_ready(DAG_ID), 180)
        yield airflow


def test_who_shall_decide_is_texted_and_answers_in_airflow(platform: Simulator, airflow: Airflow) -> None:
    for number, (choice, published) in enumerate([("Approve", "success"), ("Reject", "skipped")], 1):
        run_id = airflow.trigger(DAG_ID)
        # An answer that is quicker than the scheduler's own books fails the task, in Airflow 3.3.2.
        airflow.until("it is known to wait", partial(is_known_to_wait, airflow, run_id), 120)
        batch = platform.accepted()[-1]
        assert batch["phones"] == ["13800130043"]
        assert batch["content"].startswith(f"【云通信】报表待审批:{DAG_ID} approve")
        page = f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
        airflow.ask(page, {"chosen_options": [choice], "params_input": {}}, "PATCH")
        airflow.until("the run has ended", partial(has_ended, airflow, run_id), 120)
        assert airflow.task(DAG_ID, run_id, "publish")["state"] == published
        assert len(platform.accepted()) == number


def is_known_to_wait(airflow: Airflow, run_id: str) -> bool:
    said = airflow.parts["scheduler"].log.read_text("utf-8")
    return any(
        "Received executor event" in line and "'approve'" in line and run_id in line for line in said.split("\n")
    )


def has_ended(airflow: Airflow, run_id: str) -> bool:
    return airflow.states(DAG_ID)[run_id] in ENDED
