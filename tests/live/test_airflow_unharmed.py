"""Airflow's API server is as quick as ever, whatever state the receiver's ledger and settings are in.

In turn with one whose receiver has nothing to do; takes minutes, so only with SMS_LIVE=1.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from scripts.airflow_ui import settings
from scripts.processes import Children
from scripts.sandbox import AIRFLOW, airflow_home, last_lines
from tests.support.push_load import Receipt
from tests.support.receiver_process import HOST, TOKEN, free_port, status_of
from tests.support.wire import Server, serving

pytestmark = pytest.mark.timeout(1200)

PAGES = ("/api/v2/version", "/api/v2/monitor/health")
ROUNDS = 10
ASKED = 40
PUSHING = 20
FORM = "application/x-www-form-urlencoded;charset=utf-8"
# Two that are alike differ by about a tenth, and by a fraction of a millisecond where an answer takes one or two.
MOST_SLOWER = 1.2
NOISE = 0.001
STANDSTILL = 1.0
MOST_PLUGIN = 0.020


@contextmanager
def api_server(folder: Path, name: str, **options: str) -> Iterator[tuple[int, Path]]:
    """An API server of one worker with these options of `[sms]`; its port and its log."""
    port = free_port()
    log = folder / f"{name}.log"
    ours = {f"AIRFLOW__SMS__{option.upper()}": value for option, value in options.items()}
    with Children() as children, airflow_home(children, **settings(port), **ours) as env:
        children.run("airflow db migrate", [*AIRFLOW, "db", "migrate"], env, folder / f"{name}-migrate.log")
        server = children.start(name, [*AIRFLOW, "api-server"], env, log)

        def is_up() -> bool:
            server.check_alive()
            return status_of(port, PAGES[0]) == 200

        assert children.wait_until(is_up, 180), last_lines(log)
        yield port, log
        server.check_alive()


def seconds_of(port: int, page: str) -> list[float]:
    """How long it takes to answer, asked over one connection."""
    found = []
    connection = HTTPConnection(HOST, port, timeout=30)
    try:
        for _ in range(ASKED):
            started = time.perf_counter()
            connection.request("GET", page)
            answer = connection.getresponse()
            answer.read()
            found.append(time.perf_counter() - started)
            assert answer.status == 200
    finally:
        connection.close()
    return found


def hang(server: Server, connection: object) -> None:
    """Take a connection, and never say anything."""
    server.closing.wait()


class Pushing:
    """Some who push once a second each, with or without success, while the block lasts."""

    def __init__(self, port: int) -> None:
        self.statuses: Counter[int | None] = Counter()
        self._port = port
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._push, args=(number,)) for number in range(PUSHING)]

    def __enter__(self) -> Pushing:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def _push(self, number: int) -> None:
        body = Receipt("T", f"1380013{number:04d}").body()
        # Not all at the same moment.
        while not self._ended.wait(1 if self.statuses else number / PUSHING):
            connection = HTTPConnection(HOST, self._port, timeout=20)
            try:
                connection.request("POST", f"/sms/push?token={TOKEN}", body, {"Content-Type": FORM})
                self.statuses[connection.getresponse().status] += 1
            except OSError:
                self.statuses[None] += 1
            finally:
                connection.close()


def nowhere(folder: Path) -> str:
    return f"postgresql+psycopg2://sms:FAKE@{HOST}:{free_port()}/missing"


@pytest.mark.parametrize(
    ("state", "options"),
    [
        ("hangs", lambda folder: {}),
        ("is missing", lambda folder: {"sql_alchemy_conn": nowhere(folder)}),
        ("is no ledger", lambda folder: {"sql_alchemy_conn": "oracle://somewhere"}),
        ("has wrong settings", lambda folder: {"push_tokens": "short", "allowed_networks": "here and there"}),
    ],
    ids=["hanging ledger", "missing ledger", "no ledger", "wrong settings"],
)
def test_pages_are_as_quick_as_ever(
    state: str,
    options: Callable[[Path], dict[str, str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with (
        serving(hang) as silent,
        api_server(tmp_path, "well", push_tokens=TOKEN) as (well, _),
        api_server(
            tmp_path,
            "harmed",
            **{
                "push_tokens": TOKEN,
                "sql_alchemy_conn": f"postgresql+psycopg2://sms:FAKE@{HOST}:{silent.port}/silent",
                **options(tmp_path),
            },
        ) as (harmed, log),
    ):
        taken_by: dict[tuple[int, str], list[float]] = {}
        with Pushing(well) as taken, Pushing(harmed) as not_taken:
            # In turn, while as many pushes go to both.
            for _ in range(ROUNDS):
                for port in (well, harmed):
                    for page in PAGES:
                        taken_by.setdefault((port, page), []).extend(seconds_of(port, page))
        assert set(taken.statuses) == {200}
        assert set(not_taken.statuses) == {503}
        for page in PAGES:
            good, bad = (statistics.median(taken_by[port, page]) for port in (well, harmed))
            with capsys.disabled():
                print(f"\nledger {state}: {page}: {good * 1000:.2f} ms, {bad * 1000:.2f} ms: {bad / good:.3f}", end="")
            assert bad < good * MOST_SLOWER + NOISE
            # Nor does it stand still now and then.
            assert max(taken_by[harmed, page]) < max(taken_by[well, page]) + STANDSTILL
        assert TOKEN not in log.read_text(errors="replace")


LOAD_PLUGINS = """
import time
import airflow.plugins_manager as manager
import importlib.metadata
ours = [each for each in importlib.metadata.entry_points(group="airflow.plugins") if each.name == "sms"]
assert len(ours) == 1
import logging, typing, airflow.plugins_manager
started = time.perf_counter()
ours[0].load()
print(time.perf_counter() - started)
"""


def test_the_plugin_costs_next_to_nothing_where_plugins_are_merely_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
    env["AIRFLOW_HOME"] = str(tmp_path)
    found = []
    for _ in range(7):
        done = subprocess.run(
            [sys.executable, "-c", LOAD_PLUGINS], env=env, capture_output=True, text=True, timeout=120, check=True
        )
        found.append(float(done.stdout.splitlines()[-1]))
    # The first one may have had to compile.
    with capsys.disabled():
        print(f"\nthe plugin's module: {statistics.median(found) * 1000:.2f} ms", end="")
    assert statistics.median(found) < MOST_PLUGIN
