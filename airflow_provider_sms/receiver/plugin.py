"""Mounts the receiver in Airflow 3's API server. Loaded wherever plugins are: imports next to nothing."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


class SmsPlugin(AirflowPlugin):
    """The receiver, as Airflow mounts it."""

    name = "sms"

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The receiver under `/sms`."""
        return []
