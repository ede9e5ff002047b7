"""A whole Airflow 3: the task's process is killed while it sends, the scheduler tries again by itself.

Takes minutes, so only with SMS_LIVE=1. SMS_SCHEDULER_RUNS says how many DAG runs.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_provider_sms.ledger.schema import BatchState
from scripts.airflow_ui import HOST, settings
from scripts.processes import Child, Children
from scripts.sandbox import AIRFLOW, airflow_home, last_lines
from tests.crash import promises
from tests.crash.books import Auditor, Batch, Books, Platform
from tests.crash.tries import FAILED, SUCCEEDED, Ended, HandedIn
from tests.support.simulator import Simulator

pytestmark = [
    pytest.mark.crash,
    pytest.mark.live,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.environ.get("SMS_LIVE") != "1", reason="takes minutes: SMS_LIVE=1"),
]

# As in dags/crashed_campaign.py.
DAG_ID = "crashed_campaign"
RETRIES = 3
PHONES = 23
LATENCY = 0.4
PARTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
}
_ENDED = {"success": SUCCEEDED, "failed": FAILED}
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Airflow:
    """Its parts, asked by REST."""

    def __init__(self, children: Children, parts: list[Child], address: str) -> None:
        self._children = children
        self._parts = parts
        self._address = address

    def until(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        """Wait; fail if it takes longer, or if a part has died."""

        def holds() -> bool:
            for part in self._parts:
                part.check_alive()
            return condition()

        log = self._parts[1].log
        assert self._children.wait_until(holds, seconds), f"not within {seconds} s: {what}\n{last_lines(log, 40)}"

    def is_ready(self) -> bool:
        try:
            health = self.ask("monitor/health")
            self.ask(f"dags/{DAG_ID}")
        except (OSError, ValueError):
            return False
        return all(health[name]["status"] == "healthy" for name in ("scheduler", "dag_processor"))

    def trigger(self, run_id: str, phones: list[str]) -> None:
        body = {"dag_run_id": run_id, "logical_date": None, "conf": {"phones": ",".join(phones)}}
        self.ask(f"dags/{DAG_ID}/dagRuns", body)

    def clear(self, run_id: str) -> None:
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "reset_dag_runs": True}
        self.ask(f"dags/{DAG_ID}/clearTaskInstances", body)

    def states(self) -> dict[str, str]:
        """The state of every run."""
        return {run["dag_run_id"]: run["state"] for run in self.ask(f"dags/{DAG_ID}/dagRuns?limit=100")["dag_runs"]}

    def task(self, run_id: str) -> dict[str, Any]:
        return self.ask(f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/send")  # type: ignore[no-any-return]

    def task_ids(self, run_id: str) -> list[str]:
        """What the task pushed as `taskId`."""
        page = f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/send/xcomEntries"
        if not any(each["key"] == "taskId" for each in self.ask(page)["xcom_entries"]):
            return []
        value = self.ask(f"{page}/taskId?deserialize=true")["value"]
        return value if isinstance(value, list) else [value]

    def ask(self, page: str, body: object = None) -> Any:
        """What a page says. Airflow's own database is SQLite here: it is locked now and then, and asked again."""
        for _ in range(10):
            try:
                return self._ask(page, body)
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    raise
            self._children.wait_until(lambda: False, 1)
        return self._ask(page, body)

    def _ask(self, page: str, body: object) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._address}/api/v2/{page}", data, {"Content-Type": "application/json"})
        with _DIRECT.open(request, timeout=30) as answer:
            return json.load(answer)


@dataclass
class Killer:
    """Kills the processes that send, each at some moment of its requests.

    :param root: the scheduler's process; nothing but what descends from it is killed.
    :param kills: how many tries of each run are still to be killed.
    """

    auditor: Auditor
    root: int
    random: random.Random
    kills: dict[str, int]
    killed: int = 0
    _due: dict[tuple[str, int], float] = field(default_factory=dict)

    def look(self) -> None:
        """Kill who is due. A process is due at one moment only, once it has been seen to send."""
        now = time.monotonic()
        for run_id, pid in self._senders():
            if self.kills[run_id] and (run_id, pid) not in self._due:
                self._due[run_id, pid] = now + self.random.uniform(0, 3 * LATENCY)
        for (run_id, pid), moment in list(self._due.items()):
            if self.kills[run_id] and moment <= now:
                self._due[run_id, pid] = float("inf")
                if self._kill(pid):
                    self.kills[run_id] -= 1
                    self.killed += 1

    def _senders(self) -> Iterator[tuple[str, int]]:
        for run_id, owner in self.auditor.owners(BatchState.SENDING):
            # Host, boot, process namespace, process id, start.
            yield run_id, int(owner.split(" ")[3])

    def _kill(self, pid: int) -> bool:
        try:
            process = psutil.Process(pid)
            assert self.root in (each.pid for each in process.parents()), f"{pid} is none of this Airflow's"
            process.kill()
        except psutil.NoSuchProcess:
            return False
        return True


@pytest.fixture
def simulator_with_patience() -> Iterator[Simulator]:
    with Simulator("--balance", "1000000", app_id="FAKE-APP-ID", app_key="FAKE-APP-KEY-5d41402a") as simulator:
        simulator.settings(one_per_minute=False, latency=LATENCY)
        yield simulator


@pytest.fixture
def platform(simulator_with_patience: Simulator) -> Platform:
    simulator = simulator_with_patience
    return Platform("sms_default", simulator.base_url, simulator.app_id, simulator.app_key)


@pytest.fixture
def children() -> Iterator[Children]:
    with Children(patience=10) as children:
        yield children


@pytest.fixture
def home(children: Children, platform: Platform, tmp_path: Path) -> Iterator[dict[str, str]]:
    dags = tmp_path / "dags"
    dags.mkdir()
    shutil.copy(Path(__file__).with_name("dags") / f"{DAG_ID}.py", dags)
    changes = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW_CONN_SMS_DEFAULT": platform.connection(timeout=30),
    }
    with airflow_home(children, **{**settings(_free_port()), **changes}) as env:
        yield env


@pytest.fixture
def parts(children: Children, home: dict[str, str], tmp_path: Path) -> list[Child]:
    children.run("airflow db migrate", [*AIRFLOW, "db", "migrate"], home, tmp_path / "migrate.log")
    return [
        children.start(name, [*AIRFLOW, *command], home, tmp_path / f"{name}.log") for name, command in PARTS.items()
    ]


@pytest.fixture
def airflow(children: Children, parts: list[Child], home: dict[str, str]) -> Airflow:
    airflow = Airflow(children, parts, home["AIRFLOW__API__BASE_URL"])
    airflow.until("Airflow is ready", airflow.is_ready, 180)
    return airflow


def test_airflow_tries_again_and_every_phone_gets_its_text_once(
    airflow: Airflow,
    parts: list[Child],
    platform: Platform,
    home: dict[str, str],
    seed: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun = time.monotonic()
    dice = random.Random(f"{seed} scheduler")
    count = int(os.environ.get("SMS_SCHEDULER_RUNS", "20"))
    runs = {f"run_{number}": [f"1380013{number:02d}{each:02d}" for each in range(PHONES)] for number in range(count)}
    # By default in AIRFLOW_HOME, made by whichever task comes first.
    auditor = Auditor(f"sqlite:///{home['AIRFLOW_HOME']}/sms_ledger.db")
    killer = Killer(auditor, parts[1].process.pid, dice, {run_id: dice.randint(1, RETRIES) for run_id in runs})
    for run_id, phones in runs.items():
        airflow.trigger(run_id, phones)

    def all_have_ended() -> bool:
        states = airflow.states()
        return len(states) == count and set(states.values()) <= _ENDED.keys()

    def all_have_ended_in_spite_of_the_killer() -> bool:
        killer.look()
        return all_have_ended()

    airflow.until("all have ended", all_have_ended_in_spite_of_the_killer, 60 + 30 * count)
    doubtful, tries = 0, 0
    for run_id, phones in runs.items():
        books = _check(airflow, auditor, platform, run_id, phones)
        tries += airflow.task(run_id)["try_number"]
        for batch in books.batches:
            if batch.state is BatchState.IN_DOUBT:
                doubtful += len(batch.phones)
                auditor.settle(batch, _task_id(batch, platform))
        airflow.clear(run_id)
    airflow.until("all have ended after the clear", all_have_ended, 60 + 10 * count)
    for run_id, phones in runs.items():
        _check(airflow, auditor, platform, run_id, phones, whole=True)
    with capsys.disabled():
        print(
            f"\nscheduler, seed {seed}: {count} runs, {tries} tries, {killer.killed} killed while sending; "
            f"{len(promises.sent([platform]))} phones accepted, 0 twice, {doubtful} were in doubt; "
            f"{time.monotonic() - begun:.0f} s"
        )
    assert killer.killed >= count


def _check(
    airflow: Airflow, auditor: Auditor, platform: Platform, run_id: str, phones: list[str], *, whole: bool = False
) -> Books:
    """See that all promises hold for one run; `whole`: and that all of it has been sent."""
    handed_in = {-1: HandedIn(tuple(phones))}
    sent = {phone: batches for phone, batches in promises.sent([platform]).items() if phone in phones}
    ended = Ended(outcome=_ENDED[airflow.states()[run_id]], pushed=airflow.task_ids(run_id))
    books = auditor.read(run_id)
    problems = promises.broken(books, sent, handed_in, {-1: ended})
    if whole:
        problems += promises.still_to_do(books, sent, {-1: ended})
    assert not problems, f"{run_id}: {problems}"
    return books


def _task_id(batch: Batch, platform: Platform) -> str | None:
    return promises.who_was_texted(batch, [platform])


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])
