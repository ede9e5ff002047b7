"""The connection form reaches every supported Airflow whole, whichever way that Airflow makes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_sms.get_provider_info import get_provider_info

REPOSITORY = Path(__file__).resolve().parents[2]
DEFINITION: dict[str, Any] = get_provider_info()["connection-types"][0]
BEHAVIOUR: dict[str, Any] = DEFINITION["ui-field-behaviour"]


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The form as the installed Airflow has it, found by the provider's entry point."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    env["AIRFLOW_HOME"] = str(tmp_path_factory.mktemp("airflow"))
    # Behind what is there: an environment may name the copy of the provider to look at.
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(REPOSITORY)]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.ui.form_as_airflow_has_it"],
        env=env,
        cwd=env["AIRFLOW_HOME"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_type_is_offered_by_its_name(form: dict[str, Any]) -> None:
    assert form["hook_name"] == DEFINITION["hook-name"]


def test_every_extra_arrives_in_order(form: dict[str, Any]) -> None:
    assert list(form["extras"]) == list(DEFINITION["conn-fields"])


@pytest.mark.parametrize("name", DEFINITION["conn-fields"])
def test_an_extra_arrives_whole(form: dict[str, Any], name: str) -> None:
    field = DEFINITION["conn-fields"][name]
    assert form["extras"][name] == {
        "label": field["label"],
        "help": field["description"],
        "default": field["schema"].get("default"),
        "hidden": field["schema"].get("format") == "password",
        "type": field["schema"]["type"],
    }


@pytest.mark.parametrize("name", ["description", "host", "port", "login", "password", "schema"])
def test_a_standard_field_is_named_and_shown_as_defined(form: dict[str, Any], name: str) -> None:
    shown = form["standard"].get(name, {"hidden": False, "title": None, "placeholder": None})
    assert shown == {
        "hidden": name in BEHAVIOUR["hidden-fields"],
        "title": BEHAVIOUR["relabeling"].get(name),
        "placeholder": BEHAVIOUR["placeholders"].get(name),
    }
