"""`airflow providers` and `airflow config` show what is there, on every Airflow that we support."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from airflow_provider_sms.get_provider_info import get_provider_info

COMMANDS = {
    "list": ("providers", "list", "--output", "json"),
    "get": ("providers", "get", "airflow-provider-sms", "--output", "json"),
    "hooks": ("providers", "hooks", "--output", "json"),
    "config": ("config", "list", "--section", "sms", "--include-descriptions", "--include-examples"),
}

# To load Airflow takes longer than each of the commands.
PROGRAM = """
import os, sys
from airflow.__main__ import main
for name, command in COMMANDS.items():
    if not os.fork():
        os.dup2(os.open(f"{FOLDER}/{name}", os.O_WRONLY | os.O_CREAT), 1)
        sys.argv = ["airflow", *command]
        main()
        sys.exit()
    assert os.wait()[1] == 0, name
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each of these commands of `airflow` prints, run as a person would."""
    folder = tmp_path_factory.mktemp("printed")
    done = subprocess.run(
        [sys.executable, "-c", f"FOLDER, COMMANDS = {str(folder)!r}, {COMMANDS}\n{PROGRAM}"],
        env=os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "airflow-provider-sms" not in done.stderr, done.stderr
    return {name: (folder / name).read_text() for name in COMMANDS}


def rows(printed: str) -> Any:
    """What `airflow providers …` has printed."""
    # Airflow 3.0 logs to the same stream first.
    return json.loads(printed[printed.index("[{") :])


def test_providers_list_names_it(printed: dict[str, str]) -> None:
    [ours] = [row for row in rows(printed["list"]) if row["package_name"] == "airflow-provider-sms"]
    assert ours["version"] == "0.1.0"


def test_providers_get_describes_it(printed: dict[str, str]) -> None:
    [ours] = rows(printed["get"])
    assert ours == {"Provider": "airflow-provider-sms", "Version": "0.1.0"}


def test_providers_hooks_names_the_connection_type(printed: dict[str, str]) -> None:
    [ours] = [row for row in rows(printed["hooks"]) if row["connection_type"] == "sms"]
    assert ours["class"] == "airflow_provider_sms.hooks.sms.SmsHook"
    assert ours["conn_id_attribute_name"] == "sms_conn_id"
    assert ours["package_name"] == "airflow-provider-sms"
    assert ours["hook_name"] == "SMS"


def test_config_list_shows_the_options_and_explains_them(printed: dict[str, str]) -> None:
    [section] = get_provider_info()["config"].values()
    options = section["options"]
    assert set(options) == {
        "sql_alchemy_conn",
        "namespace",
        "allow_sqlite",
        "retention_days",
        "push_tokens",
        "allowed_networks",
        "trusted_proxies",
        "path_tokens",
        "dry_run",
        "point_price",
        "opt_out_words",
    }
    for name, option in options.items():
        assert f"\n# {option['description']}\n" in printed["config"]
        assert f"\n# Example: {name} = {option['example']}\n" in printed["config"]
        assert re.search(rf"^(# )?{name} = ", printed["config"], re.MULTILINE)
