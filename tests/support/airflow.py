"""A real Airflow for tests: the throw-away AIRFLOW_HOME of this test run, migrated, and DAGs run to their end in it."""

from __future__ import annotations

import os
import runpy
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

from airflow.utils.session import create_session

from tests.support.shared import made_once

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "example_dags"
_DATABASE = "airflow.db"


def airflow_home() -> Path:
    """The AIRFLOW_HOME that tests/conftest.py made."""
    return Path(os.environ["AIRFLOW_HOME"])


def new_home(folder: Path) -> Path:
    """Make a folder an AIRFLOW_HOME with a migrated database that nobody has used."""
    folder.mkdir(exist_ok=True)
    shutil.copy(made_once("airflow", _migrate) / _DATABASE, folder)
    return folder


def migrate() -> None:
    """Make the database of the tests' own AIRFLOW_HOME."""
    # Airflow may have the file open, and the file may be there, without a table.
    with (
        closing(sqlite3.connect(made_once("airflow", _migrate) / _DATABASE)) as new,
        closing(sqlite3.connect(airflow_home() / _DATABASE)) as own,
    ):
        if not own.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall():
            new.backup(own)


def _migrate(home: Path) -> None:
    command = [sys.executable, "-m", "airflow", "db", "migrate"]
    env = {**os.environ, "AIRFLOW_HOME": str(home)}
    finished = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def put_dag(source: Path) -> Path:
    """Copy a DAG file into the DAGs folder, where Airflow 3 wants it to be."""
    return write_dag(source.name, source.read_text("utf-8"))


def write_dag(name: str, source: str) -> Path:
    """Write the only file of the DAGs folder: some Airflows read all that are there whenever they test a DAG."""
    folder = airflow_home() / "dags"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    file = folder / name
    file.write_text(source, "utf-8")
    return file


def make_one_api_for_all_tasks() -> None:
    """Spare this process seconds of a core, and on Airflow before 3.3 a part of one for each task of `DAG.test()`.

    To be called before the first task.
    """
    _make_the_newest_version_only()
    try:
        from airflow.sdk.execution_time import supervisor
    except ImportError:
        return
    if not hasattr(supervisor.in_process_api_server, "cache_info"):
        # As it is from 3.3 on.
        supervisor.in_process_api_server = lru_cache(maxsize=1)(supervisor.in_process_api_server)


def _make_the_newest_version_only() -> None:
    """Of all versions of the API of tasks, `DAG.test()` speaks the newest."""
    try:
        from airflow.api_fastapi.execution_api import versions
        from airflow.api_fastapi.execution_api.routes import execution_api_router
        from cadwyn import HeadVersion, Version, VersionBundle
        from cadwyn.route_generation import _DELETED_ROUTE_TAG
    except ImportError:
        return
    for route in [each for each in execution_api_router.routes if _DELETED_ROUTE_TAG in getattr(each, "tags", ())]:
        execution_api_router.routes.remove(route)
    versions.bundle = VersionBundle(HeadVersion(), Version(versions.bundle.versions[0].value))


def load_dag(file: Path, name: str = "dag") -> Any:
    """Run a DAG file as Airflow would, and return its `dag`, or what it calls otherwise."""
    return runpy.run_path(str(file))[name]


def run_dag(file: Path, conf: dict[str, Any] | None = None) -> Any:
    """Run a DAG to its end; its run."""
    return load_dag(file).test(run_conf=conf)


def states(run: Any) -> dict[str, str]:
    """The state of every task of a run."""
    return {each.task_id: str(each.state) for each in run.get_task_instances()}


def xcom(run: Any, task_id: str, key: str = "return_value") -> Any:
    """What a task of a run left behind, as the next task gets it.

    Not by the task instance's own `xcom_pull`: on the server, Airflow 3 makes a number of a text of digits.
    """
    try:
        from airflow.models.xcom import XComModel
    except ImportError:
        instance = next(each for each in run.get_task_instances() if each.task_id == task_id)
        return instance.xcom_pull(task_ids=task_id, key=key)
    with create_session() as session:
        rows = session.query(XComModel.value)
        return rows.filter_by(run_id=run.run_id, task_id=task_id, key=key).scalar()


def rendered_fields(run: Any, task_id: str) -> list[dict[str, Any]]:
    """The rendered fields that Airflow stored for a task of a run, one for each mapped instance."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields as Stored

    with create_session() as session:
        rows = session.query(Stored).filter(Stored.run_id == run.run_id, Stored.task_id == task_id)
        return [row.rendered_fields for row in rows]
