"""A whole Airflow 3, its own triggerer included: 200 sensors that wait for one account share one question.

Takes minutes, so only with SMS_LIVE=1.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.processes import Children
from tests.support.airflow_rest import Airflow, airflow_with_dags, start_airflow
from tests.support.fixtures import APP_KEY
from tests.support.simulator import Simulator

DAG_ID = "many_waiters"
TASK_ID = "enough_points"
# As in dags/many_waiters.py.
WAITERS = 200
INTERVAL = 10
# How many questions to watch once all wait.
WATCHED = 4
TOO_FEW, ENOUGH = 1, 241


@pytest.fixture
def platform() -> Iterator[Simulator]:
    with Simulator("--balance", str(TOO_FEW), app_id="FAKE-APP-ID", app_key=APP_KEY) as simulator:
        yield simulator


@pytest.fixture
def home(children: Children, platform: Simulator, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of an Airflow that says all it has to say."""
    file = Path(__file__).with_name("dags") / f"{DAG_ID}.py"
    changes = {
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW_CONN_SMS_DEFAULT": platform.as_connection(),
    }
    with airflow_with_dags(children, [file], tmp_path, **changes) as env:
        yield env


@pytest.fixture
def airflow(children: Children, home: dict[str, str], tmp_path: Path) -> Airflow:
    airflow = start_airflow(children, home, tmp_path, "scheduler", "triggerer")
    airflow.until("Airflow is ready", lambda: airflow.is_ready(DAG_ID), 180)
    return airflow


def test_200_waiters_share_one_question(
    platform: Simulator,
    airflow: Airflow,
    home: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def questions() -> int:
        return int(platform.requests()["counters"]["balance"])

    def all_are(state: str) -> bool:
        assert airflow.count(DAG_ID, run_id, "failed") == 0
        return airflow.count(DAG_ID, run_id, state) == WAITERS

    begun = time.monotonic()
    run_id = airflow.trigger(DAG_ID)
    airflow.until("the first question", lambda: questions() >= 1, 120)
    first = time.monotonic()
    airflow.until("all are deferred", lambda: all_are("deferred"), 420)
    deferred = time.monotonic()

    before = questions()
    airflow.until("a question", lambda: questions() > before, 2 * INTERVAL)
    start, asked = time.monotonic(), questions()
    airflow.until("more questions", lambda: questions() >= asked + WATCHED, 2 * INTERVAL * WATCHED)
    watched = time.monotonic() - start
    assert all_are("deferred")
    assert questions() == asked + WATCHED
    # A question is seen up to a second after it came: one interval is given away for that.
    assert watched >= INTERVAL * (WATCHED - 1)
    # While they were still coming in, too.
    total, elapsed = questions(), time.monotonic() - first
    assert total <= elapsed / INTERVAL + 2

    platform.settings(balance=ENOUGH)
    raised = time.monotonic()
    airflow.until("all have succeeded", lambda: all_are("success"), 420)
    succeeded = time.monotonic()
    values = [airflow.xcom(DAG_ID, run_id, TASK_ID, map_index=number) for number in range(WAITERS)]
    assert values == [ENOUGH] * WAITERS
    assert questions() <= total + 2

    size = _assert_nowhere(platform.app_key, [Path(home["AIRFLOW_HOME"]), tmp_path])
    with capsys.disabled():
        print(
            f"\n{WAITERS} waiters: {WATCHED} questions in {watched:.1f} s ({watched / INTERVAL:.2f} intervals of "
            f"{INTERVAL} s); {total} in the {elapsed:.1f} s since the first, {questions()} in all; all deferred after "
            f"{deferred - begun:.0f} s, all successful {succeeded - raised:.0f} s after the rise; "
            f"no App Key in {size / 1e6:.1f} MB"
        )


def _assert_nowhere(secret: str, folders: list[Path]) -> int:
    """Look into every file; the bytes that were looked at."""
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert any(file.name.endswith(".log") and TASK_ID in str(file) for file in files), "no task's log"
    assert b"[debug" in b"".join(file.read_bytes() for file in files if file.name == "triggerer.log"), "not DEBUG"
    size = 0
    for file in files:
        data = file.read_bytes()
        size += len(data)
        at = data.find(secret.encode())
        assert at < 0, f"{secret} in {file}: {data[max(0, at - 500) : at + 200]!r}"
    return size
