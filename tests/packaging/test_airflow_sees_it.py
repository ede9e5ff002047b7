"""`airflow providers` and `airflow config` show what is there, on every Airflow that we support."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

from airflow_provider_sms.get_provider_info import get_provider_info


def airflow(*arguments: str) -> str:
    """Run `airflow …` as a person would; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", *arguments],
        env=os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "airflow-provider-sms" not in done.stderr, done.stderr
    return done.stdout


def airflow_providers(*arguments: str) -> Any:
    """Run `airflow providers …`, and read what it prints."""
    printed = airflow("providers", *arguments, "--output", "json")
    # Airflow 3.0 logs to the same stream first.
    return json.loads(printed[printed.index("[{") :])


def test_providers_list_names_it() -> None:
    [ours] = [row for row in airflow_providers("list") if row["package_name"] == "airflow-provider-sms"]
    assert ours["version"] == "0.1.0"


def test_providers_get_describes_it() -> None:
    [ours] = airflow_providers("get", "airflow-provider-sms")
    assert ours == {"Provider": "airflow-provider-sms", "Version": "0.1.0"}


def test_providers_hooks_names_the_connection_type() -> None:
    [ours] = [row for row in airflow_providers("hooks") if row["connection_type"] == "sms"]
    assert ours["class"] == "airflow_provider_sms.hooks.sms.SmsHook"
    assert ours["conn_id_attribute_name"] == "sms_conn_id"
    assert ours["package_name"] == "airflow-provider-sms"
    assert ours["hook_name"] == "SMS"


def test_config_list_shows_the_options_and_explains_them() -> None:
    printed = airflow("config", "list", "--section", "sms", "--include-descriptions", "--include-examples")
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
        assert f"\n# {option['description']}\n" in printed
        assert f"\n# Example: {name} = {option['example']}\n" in printed
        assert re.search(rf"^(# )?{name} = ", printed, re.MULTILINE)
