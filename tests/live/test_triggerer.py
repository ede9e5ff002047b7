"""A whole Airflow 3, its own triggerer included: 200 sensors that wait for one account share one question.

Takes minutes, so only with SMS_LIVE=1.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.airflow_ui import HOST, settings
from scripts.processes import Child, Children
from scripts.sandbox import AIRFLOW, airflow_home, last_lines
from tests.support.fixtures import APP_KEY
from tests.support.simulator import Simulator

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.environ.get("SMS_LIVE") != "1", reason="takes minutes: SMS_LIVE=1"),
]

DAG_ID = "many_waiters"
# As in dags/many_waiters.py.
WAITERS = 200
INTERVAL = 10
# How many questions to watch once all wait.
WATCHED = 4
TOO_FEW, ENOUGH = 1, 241
PARTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Airflow:
    """Its four parts, asked by REST; every wait ends early when a part has died."""

    def __init__(self, children: Children, parts: list[Child], address: str) -> None:
        self._children = children
        self._parts = parts
        self._address = address
        self._run = ""

    def until(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        """Wait; fail if it takes longer."""

        def holds() -> bool:
            for part in self._parts:
                part.check_alive()
            return condition()

        log = self._parts[0].log
        assert self._children.wait_until(holds, seconds), f"not within {seconds} s: {what}\n{last_lines(log, 40)}"

    def is_ready(self) -> bool:
        """Whether all its parts are well and it knows the DAG."""
        try:
            health = self.ask("monitor/health")
            self.ask(f"dags/{DAG_ID}")
        except (OSError, ValueError):
            return False
        return all(health[name]["status"] == "healthy" for name in ("scheduler", "dag_processor", "triggerer"))

    def trigger(self) -> None:
        self._run = urllib.parse.quote(self.ask(f"dags/{DAG_ID}/dagRuns", {"logical_date": None})["dag_run_id"])

    def count(self, state: str) -> int:
        """How many task instances are in this state."""
        found = self.ask(f"dags/{DAG_ID}/dagRuns/{self._run}/taskInstances?state={state}&limit=1")
        return int(found["total_entries"])

    def all_are(self, state: str) -> bool:
        """Whether all task instances have come to this state; fails at once if one has failed."""
        assert self.count("failed") == 0
        return self.count(state) == WAITERS

    def return_value(self, number: int) -> Any:
        """What a mapped task has returned."""
        task = f"dags/{DAG_ID}/dagRuns/{self._run}/taskInstances/enough_points"
        return self.ask(f"{task}/xcomEntries/return_value?map_index={number}&deserialize=true")["value"]

    def ask(self, page: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._address}/api/v2/{page}", data, {"Content-Type": "application/json"})
        with _DIRECT.open(request, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture
def platform() -> Iterator[Simulator]:
    with Simulator("--balance", str(TOO_FEW), app_id="FAKE-APP-ID", app_key=APP_KEY) as simulator:
        yield simulator


@pytest.fixture
def children() -> Iterator[Children]:
    with Children(patience=10) as children:
        yield children


@pytest.fixture
def home(children: Children, platform: Simulator, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of an Airflow that says all it has to say."""
    dags = tmp_path / "dags"
    dags.mkdir()
    shutil.copy(Path(__file__).with_name("dags") / f"{DAG_ID}.py", dags)
    account = {"conn_type": "sms", "host": platform.base_url, "login": platform.app_id, "password": platform.app_key}
    changes = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW_CONN_SMS_DEFAULT": json.dumps(account),
    }
    with airflow_home(children, **{**settings(_free_port()), **changes}) as env:
        yield env


@pytest.fixture
def airflow(children: Children, home: dict[str, str], tmp_path: Path) -> Airflow:
    children.run("airflow db migrate", [*AIRFLOW, "db", "migrate"], home, tmp_path / "migrate.log")
    parts = [
        children.start(name, [*AIRFLOW, *command], home, tmp_path / f"{name}.log") for name, command in PARTS.items()
    ]
    airflow = Airflow(children, parts, home["AIRFLOW__API__BASE_URL"])
    airflow.until("Airflow is ready", airflow.is_ready, 180)
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

    begun = time.monotonic()
    airflow.trigger()
    airflow.until("the first question", lambda: questions() >= 1, 120)
    first = time.monotonic()
    airflow.until("all are deferred", lambda: airflow.all_are("deferred"), 420)
    deferred = time.monotonic()

    before = questions()
    airflow.until("a question", lambda: questions() > before, 2 * INTERVAL)
    start, asked = time.monotonic(), questions()
    airflow.until("more questions", lambda: questions() >= asked + WATCHED, 2 * INTERVAL * WATCHED)
    watched = time.monotonic() - start
    assert airflow.all_are("deferred")
    assert questions() == asked + WATCHED
    # A question is seen up to a second after it came: one interval is given away for that.
    assert watched >= INTERVAL * (WATCHED - 1)
    # While they were still coming in, too.
    total, elapsed = questions(), time.monotonic() - first
    assert total <= elapsed / INTERVAL + 2

    platform.settings(balance=ENOUGH)
    raised = time.monotonic()
    airflow.until("all have succeeded", lambda: airflow.all_are("success"), 420)
    succeeded = time.monotonic()
    assert [airflow.return_value(number) for number in range(WAITERS)] == [ENOUGH] * WAITERS
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
    assert any(file.name.endswith(".log") and "enough_points" in str(file) for file in files), "no task's log"
    assert b"[debug" in b"".join(file.read_bytes() for file in files if file.name == "triggerer.log"), "not DEBUG"
    size = 0
    for file in files:
        data = file.read_bytes()
        size += len(data)
        at = data.find(secret.encode())
        assert at < 0, f"{secret} in {file}: {data[max(0, at - 500) : at + 200]!r}"
    return size


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])
