"""Wherever the provider's code runs, it finds the ledger, however its address was given.

Each place is a process that nothing has prepared: before 3.2, the first to read has to make Airflow read the
providers' options, and where Airflow has done so by itself, a test would prove nothing for the other places.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import airflow
import pytest

from scripts.processes import Child, Children
from scripts.sandbox import last_lines
from tests.dags.settings_plugin import PATH, PREFIX
from tests.dags.settings_probe import ANSWERS, FORMS, OPTION
from tests.support import settings_backend
from tests.support.airflow import ROOT, new_home

pytestmark = [pytest.mark.live, pytest.mark.everywhere]

HERE = Path(__file__).parent
HOST = "127.0.0.1"
WITHIN = 120
PLACES = ("command", "server", "task", "trigger")
# By the suffix of the environment variable that leads to it.
ADDRESSES = {
    "_CMD": "postgresql://sms:fake%2Fcommand-pw@db.example/from_a_command",
    "_SECRET": settings_backend.URL,
    "": "postgresql://sms:fake%2Fplain-pw@db.example/from_the_environment",
}
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Asking:
    """Processes that ask where the ledger is, and a folder with their homes, logs and answers."""

    def __init__(self, folder: Path, children: Children) -> None:
        self.folder = folder
        self._children = children
        # A file that ends in a newline, as they do.
        (folder / "address").write_text(ADDRESSES["_CMD"] + "\n")
        self._forms = {"_CMD": f"cat {folder / 'address'}", "_SECRET": settings_backend.KEY, "": ADDRESSES[""]}

    def home(self, name: str) -> dict[str, str]:
        """The environment of an Airflow of its own, migrated already."""
        home = new_home(self.folder / name)
        return {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__SECRETS__BACKEND": f"{settings_backend.__name__}.{settings_backend.SettingsBackend.__name__}",
            "PYTHONPATH": str(ROOT),
            f"{OPTION}_CMD": self._forms["_CMD"],
            FORMS: json.dumps(self._forms),
            ANSWERS: str(self.folder),
        }

    def start(self, name: str, *module: str, env: dict[str, str]) -> Child:
        return self._children.start(name, [sys.executable, "-m", *module], env, self.folder / f"{name}.log")

    def wait(self, child: Child, condition: Callable[[], bool]) -> None:
        """Until the condition holds; the process has to live, or to have ended well."""

        def holds() -> bool:
            assert not child.process.poll(), f"{child.name} failed:\n{last_lines(child.log, 40)}"
            return condition()

        done = self._children.wait_until(holds, WITHIN)
        assert done, f"{child.name}: not within {WITHIN} s\n{last_lines(child.log, 40)}"

    def wait_for_end(self, child: Child) -> None:
        self.wait(child, lambda: child.process.poll() == 0)

    def wait_for_answer(self, child: Child, place: str) -> None:
        self.wait(child, (self.folder / f"{place}.json").exists)

    def answer(self, place: str) -> dict[str, str]:
        return json.loads((self.folder / f"{place}.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture
def asking(tmp_path_factory: pytest.TempPathFactory) -> Asking:
    """All have asked, each in a process of its own."""
    with Children(patience=5) as children:
        asking = Asking(tmp_path_factory.mktemp("settings"), children)
        ask_server = _start_server(asking)
        home = asking.home("airflow")
        asking.wait_for_end(asking.start("command", "tests.dags.settings_probe", "command", env=home))
        dag = HERE / "settings_dag.py"
        asking.wait_for_end(asking.start("task", "tests.dags.settings_run", str(dag), env=home))
        triggerer = asking.start("trigger", "airflow", "triggerer", "--skip-serve-logs", env=home)
        asking.wait_for_answer(triggerer, "trigger")
        ask_server()
    return asking


def _start_server(asking: Asking) -> Callable[[], None]:
    """Start it early, since it takes its time; what is returned waits for its answer."""
    env = asking.home("server")
    plugins = Path(env["AIRFLOW_HOME"], "plugins")
    plugins.mkdir()
    shutil.copy(HERE / "settings_plugin.py", plugins)
    if airflow.__version__.startswith("2."):
        server = asking.start("server", "tests.dags.settings_webserver", env=env)
        return lambda: asking.wait_for_end(server)
    port = _free_port()
    options = ["--host", HOST, "--port", str(port), "--workers", "1"]
    server = asking.start("server", "airflow", "api-server", *options, env=env)
    return lambda: asking.wait(server, lambda: _opens(f"http://{HOST}:{port}{PREFIX}{PATH}"))


def test_the_address_arrives_as_it_was_given_and_airflow_hides_it_in_a_triggers_log(asking: Asking) -> None:
    answers = {place: asking.answer(place) for place in PLACES}
    assert answers == dict.fromkeys(PLACES, ADDRESSES)
    # One: the others' Airflow, where triggers of other tests may lie about, has nothing to do with this one.
    [log] = asking.folder.glob("airflow/logs/**/*.trigger.*.log")
    logged = log.read_text()
    assert logged.count("the ledger: ***") == len(ADDRESSES)
    assert logged.count("its password: ***, that is ***") == len(ADDRESSES)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def _opens(address: str) -> bool:
    try:
        with _DIRECT.open(address, timeout=30) as answer:
            return answer.status == 200  # type: ignore[no-any-return]
    except urllib.error.HTTPError:
        raise
    except OSError:
        return False
