"""A whole Airflow 3 in processes of its own, asked by REST: for tests that need its scheduler or triggerer.

    with airflow_with_dags(children, [file], folder) as env:
        airflow = start_airflow(children, env, folder, "scheduler")
        run_id = airflow.trigger("my_dag", {"phones": "…"})
        airflow.until("it has ended", lambda: airflow.states("my_dag")[run_id] in ENDED, 60)
        airflow.xcom("my_dag", run_id, "my_task", "taskId")

Knows nothing of SMS.
"""

from __future__ import annotations

import json
import shutil
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.airflow_ui import HOST, settings
from scripts.processes import Child, Children
from scripts.sandbox import AIRFLOW, airflow_home, last_lines

ENDED = frozenset(("success", "failed"))
NOT_MAPPED = -1
_COMMANDS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
_LINES = 40
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RestError(Exception):
    """Airflow does not do what it was asked for.

    :param status: the answer's.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Airflow:
    """Its parts, asked by REST. A run is named by its DAG and its id, a task by these and its own.

    :param parts: its processes, by name.
    """

    def __init__(self, children: Children, parts: Mapping[str, Child], address: str) -> None:
        self.parts = parts
        self._children = children
        self._address = address

    def until(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        """Wait; fail if it takes longer, and at once if a part has died."""

        def holds() -> bool:
            for part in self.parts.values():
                part.check_alive()
            return condition()

        if not self._children.wait_until(holds, seconds):
            raise AssertionError(f"not within {seconds} s: {what}\n{self._last_words()}")

    def is_ready(self, *dag_ids: str) -> bool:
        """Whether all its parts are well and it knows these DAGs."""
        try:
            health = self.ask("monitor/health")
            for dag_id in dag_ids:
                self.ask(f"dags/{dag_id}")
        except (OSError, ValueError, RestError):
            return False
        return all(health[name.replace("-", "_")]["status"] == "healthy" for name in self.parts if name != "api-server")

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, run_id: str | None = None) -> str:
        """Start a run; its id."""
        body = {"logical_date": None, "conf": dict(conf or {}), **({} if run_id is None else {"dag_run_id": run_id})}
        return str(self.ask(f"dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def clear(self, dag_id: str, run_id: str, *task_ids: str) -> None:
        """Have tasks of a run done again: these, or all."""
        body: dict[str, Any] = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "reset_dag_runs": True}
        self.ask(f"dags/{dag_id}/clearTaskInstances", body | ({"task_ids": list(task_ids)} if task_ids else {}))

    def states(self, dag_id: str) -> dict[str, str]:
        """The state of every run, a hundred at most."""
        return {run["dag_run_id"]: run["state"] for run in self.ask(f"dags/{dag_id}/dagRuns?limit=100")["dag_runs"]}

    def count(self, dag_id: str, run_id: str, state: str) -> int:
        """How many of a run's task instances are in a state."""
        return int(self.ask(f"{_run(dag_id, run_id)}/taskInstances?state={state}&limit=1")["total_entries"])

    def task(self, dag_id: str, run_id: str, task_id: str, map_index: int = NOT_MAPPED) -> dict[str, Any]:
        """A task instance: `state`, `try_number` and so on."""
        mapped = "" if map_index == NOT_MAPPED else f"/{map_index}"
        return self.ask(f"{_run(dag_id, run_id)}/taskInstances/{task_id}{mapped}")  # type: ignore[no-any-return]

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = NOT_MAPPED
    ) -> Any:
        """What a task instance has left behind; None if there is nothing by that name."""
        page = f"{_run(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        try:
            return self.ask(f"{page}?map_index={map_index}&deserialize=true")["value"]
        except RestError as error:
            if error.status == 404:
                return None
            raise

    def ask(self, page: str, body: object = None, method: str | None = None) -> Any:
        """What a page of its REST API says; with a body, to a POST.

        :param page: what comes after /api/v2/.
        :param method: another one than GET and POST.
        :raises RestError: it refuses; after a mistake of its own with the end of its log.
        """
        data = None if body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._address}/api/v2/{page}", data, kind, method=method)
        try:
            with _DIRECT.open(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = f"{page}: HTTP {error.code}: {error.read().decode(errors='replace')[:2000]}"
            raise RestError(error.code, said if error.code < 500 else f"{said}\n{self._last_words()}") from None

    def _last_words(self) -> str:
        return "\n".join(f"{name}:\n{last_lines(part.log, _LINES)}" for name, part in self.parts.items())


@contextmanager
def airflow_with_dags(
    children: Children, dags: Iterable[Path], folder: Path, *, database: str | None = None, **changes: str
) -> Iterator[dict[str, str]]:
    """The environment of an Airflow that has these DAG files and no others; its home is gone afterwards.

    :param folder: where the copies of the files lie.
    :param database: the URL of an empty PostgreSQL database for Airflow itself; None for a SQLite file, which is
        "locked" as soon as one of its parts writes for longer than five seconds: for tests that are not busy.
    :param changes: more variables for Airflow.
    """
    copies = folder / "dags"
    copies.mkdir()
    for file in dags:
        shutil.copy(file, copies)
    own = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(copies),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        # What the database says, which Airflow's own log leaves out.
        "AIRFLOW__API__EXPOSE_STACKTRACE": "True",
    }
    if database is not None:
        own["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = database
        # Without one there need be no asynchronous driver; nothing that a test does here asks for it.
        own["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"] = ""
    with airflow_home(children, **{**settings(_free_port()), **own, **changes}) as env:
        yield env


def start_airflow(children: Children, env: dict[str, str], folder: Path, *parts: str) -> Airflow:
    """Make Airflow's database, and start its API server, its DAG processor and these parts.

    :param env: see `airflow_with_dags`.
    :param folder: where their logs go, each named after its part.
    :param parts: `scheduler`, `triggerer`.
    :returns: as it comes up; `is_ready` tells when it has.
    """
    children.run("airflow db migrate", [*AIRFLOW, "db", "migrate"], env, folder / "migrate.log")
    started = {
        name: children.start(name, [*AIRFLOW, *_COMMANDS[name]], env, folder / f"{name}.log")
        for name in ("api-server", "dag-processor", *parts)
    }
    return Airflow(children, started, env["AIRFLOW__API__BASE_URL"])


def _run(dag_id: str, run_id: str) -> str:
    return f"dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id, safe='')}"


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])
