"""What importing this provider may not pull in. How long it takes, benchmarks/import_cost.py measures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_provider_sms

# The decorator brings the operators.
DAG_FACING = ("decorators", "hooks", "notifications", "sensors", "triggers")
WEB_FRAMEWORKS = {"aiohttp", "cadwyn", "connexion", "django", "fastapi", "flask", "starlette", "werkzeug"}
FORBIDDEN = {"requests", "urllib3", "sqlalchemy", *WEB_FRAMEWORKS}

# What a DAG file has imported before it comes to a provider.
AIRFLOW = """
try:
    import airflow.sdk
except ModuleNotFoundError:  # before 3.0
    import airflow.hooks.base, airflow.models.baseoperator, airflow.sensors.base
"""


# Prints what each statement adds, in a process of its own that has imported what came before.
PROGRAM = """
import os, sys
for statement in STATEMENTS:
    if not os.fork():
        known = set(sys.modules)
        exec(statement)
        print(*sorted(set(sys.modules) - known), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


def newly_imported(*statements: str, after: str, home: Path) -> list[set[str]]:
    """For each statement the names of the modules that it adds, in a fresh process, to what `after` has imported."""
    # No json for the answer: what the process has imported for itself, it can not report.
    program = f"{after}\nSTATEMENTS = {list(statements)!r}\n{PROGRAM}"
    kept = {name: value for name, value in os.environ.items() if "AIRFLOW_" not in name}
    checkout = str(Path(airflow_provider_sms.__file__).parents[1])
    environment = {**kept, "AIRFLOW_HOME": str(home), "PYTHONPATH": checkout}
    command = [sys.executable, "-P", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [set(line.split()) for line in done.stdout.splitlines()[-len(statements) :]]


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.fixture(scope="module")
def imported_for_a_dag_file(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """By kind, what a DAG file imports that imports ours."""
    # And where a DAG's phones come from.
    statements = [f"import airflow_provider_sms.{kind}.sms, airflow_provider_sms.unreached" for kind in DAG_FACING]
    return dict(
        zip(DAG_FACING, newly_imported(*statements, after=AIRFLOW, home=tmp_path_factory.mktemp("home")), strict=True)
    )


@pytest.mark.parametrize("kind", DAG_FACING)
def test_a_dag_file_gets_no_http_library_database_or_web_framework_from_us(
    kind: str, imported_for_a_dag_file: dict[str, set[str]]
) -> None:
    new = imported_for_a_dag_file[kind]
    assert {f"airflow_provider_sms.{kind}.sms", "airflow_provider_sms.unreached"} <= new
    # Also more of a package that Airflow had begun to import.
    assert packages(new) & FORBIDDEN == set()


def test_the_provider_info_imports_nothing_but_typing(tmp_path: Path) -> None:
    (new,) = newly_imported(
        "import airflow_provider_sms.get_provider_info as it; it.get_provider_info()",
        after="import __future__, typing",
        home=tmp_path,
    )
    assert new == {"airflow_provider_sms", "airflow_provider_sms.get_provider_info"}


def test_the_commands_import_nothing_but_the_standard_library(tmp_path: Path) -> None:
    # Airflow imports them with every `airflow` command.
    (new,) = newly_imported("import airflow_provider_sms.cli", after="", home=tmp_path)
    assert packages(new) - sys.stdlib_module_names == {"airflow_provider_sms"}
