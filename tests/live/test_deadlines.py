"""Deadlines that are missed, in a whole Airflow: both kinds of callback are run, and each is one text.

Takes minutes, so only with SMS_LIVE=1.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.processes import Children
from tests.support.airflow_rest import Airflow, airflow_with_dags, start_airflow
from tests.support.simulator import Simulator

DAG_ID = "late"

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("airflow.models.deadline") is None, reason="this Airflow has no deadlines"
)


@pytest.fixture
def airflow(children: Children, platform: Simulator, tmp_path: Path) -> Iterator[Airflow]:
    changes = {"AIRFLOW_CONN_SMS_DEFAULT": platform.as_connection(signature="云通信")}
    file = Path(__file__).with_name("dags") / f"{DAG_ID}.py"
    with airflow_with_dags(children, [file], tmp_path, **changes) as env:
        airflow = start_airflow(children, env, tmp_path, "scheduler", "triggerer")
        airflow.until("Airflow is ready", lambda: airflow.is_ready(DAG_ID), 180)
        yield airflow


def test_a_deadline_that_is_missed_is_one_text_by_each_callback(platform: Simulator, airflow: Airflow) -> None:
    airflow.trigger(DAG_ID)
    kinds = {"13800130001": "asynchronous", "13800130002": "synchronous"}
    airflow.until("both are told", lambda: len(platform.accepted()) >= len(kinds), 300)
    texts = {batch["phones"][0]: batch["content"] for batch in platform.accepted()}
    assert texts.keys() == kinds.keys()
    assert all(text.startswith(f"【云通信】逾期:{DAG_ID} ") for text in texts.values())
