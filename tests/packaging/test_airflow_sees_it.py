"""`airflow providers` shows what is there, on every Airflow that we support."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


def airflow_providers(*arguments: str) -> Any:
    """Run `airflow providers …` as a person would, and read what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "providers", *arguments, "--output", "json"],
        env=os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "airflow-provider-sms" not in done.stderr, done.stderr
    # Airflow 3.0 logs to the same stream first.
    return json.loads(done.stdout[done.stdout.index("[{") :])


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
