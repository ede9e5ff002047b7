"""A whole Airflow 3: the task's process is killed while it sends, the scheduler tries again by itself.

Takes minutes, so only with SMS_LIVE=1. SMS_SCHEDULER_RUNS says how many DAG runs.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from airflow_provider_sms.ledger.schema import BatchState
from scripts.processes import Children
from tests.crash import promises
from tests.crash.books import Auditor, Batch, Books, Platform
from tests.crash.tries import FAILED, SUCCEEDED, Ended, HandedIn
from tests.support.airflow_rest import ENDED, Airflow, airflow_with_dags, start_airflow
from tests.support.simulator import Simulator

pytestmark = [pytest.mark.crash, pytest.mark.live, pytest.mark.timeout(1800)]

# As in dags/crashed_campaign.py.
DAG_ID = "crashed_campaign"
RETRIES = 3
PHONES = 23
LATENCY = 0.4
TASK_ID = "send"
_OUTCOMES = {"success": SUCCEEDED, "failed": FAILED}


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
def home(children: Children, platform: Platform, postgresql_url: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Airflow's own database is PostgreSQL; the ledger is what it is by default."""
    file = Path(__file__).with_name("dags") / f"{DAG_ID}.py"
    changes = {"AIRFLOW_CONN_SMS_DEFAULT": platform.connection(timeout=30)}
    with airflow_with_dags(children, [file], tmp_path, database=postgresql_url, **changes) as env:
        yield env


@pytest.fixture
def airflow(children: Children, home: dict[str, str], tmp_path: Path) -> Airflow:
    airflow = start_airflow(children, home, tmp_path, "scheduler")
    airflow.until("Airflow is ready", lambda: airflow.is_ready(DAG_ID), 180)
    return airflow


def test_airflow_tries_again_and_every_phone_gets_its_text_once(
    airflow: Airflow,
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
    scheduler = airflow.parts["scheduler"].process.pid
    killer = Killer(auditor, scheduler, dice, {run_id: dice.randint(1, RETRIES) for run_id in runs})
    for run_id, phones in runs.items():
        airflow.trigger(DAG_ID, {"phones": ",".join(phones)}, run_id)

    def all_have_ended() -> bool:
        states = airflow.states(DAG_ID)
        return len(states) == count and set(states.values()) <= ENDED

    def all_have_ended_in_spite_of_the_killer() -> bool:
        killer.look()
        return all_have_ended()

    airflow.until("all have ended", all_have_ended_in_spite_of_the_killer, 60 + 30 * count)
    doubtful, tries = 0, 0
    for run_id, phones in runs.items():
        books = _check(airflow, auditor, platform, run_id, phones)
        tries += airflow.task(DAG_ID, run_id, TASK_ID)["try_number"]
        for batch in books.batches:
            if batch.state is BatchState.IN_DOUBT:
                doubtful += len(batch.phones)
                auditor.settle(batch, _task_id(batch, platform))
        airflow.clear(DAG_ID, run_id)
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
    ended = Ended(outcome=_OUTCOMES[airflow.states(DAG_ID)[run_id]], pushed=_pushed(airflow, run_id))
    books = auditor.read(run_id)
    problems = promises.broken(books, sent, handed_in, {-1: ended})
    if whole:
        problems += promises.still_to_do(books, sent, {-1: ended})
    assert not problems, f"{run_id}: {problems}"
    return books


def _task_id(batch: Batch, platform: Platform) -> str | None:
    return promises.who_was_texted(batch, [platform])


def _pushed(airflow: Airflow, run_id: str) -> list[str]:
    """What the task pushed as `taskId`."""
    value = airflow.xcom(DAG_ID, run_id, TASK_ID, "taskId")
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
