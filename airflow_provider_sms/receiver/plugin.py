"""Mounts the receiver in Airflow 3's API server. Loaded wherever plugins are: imports next to nothing."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

URL_PREFIX = "/sms"

log = logging.getLogger(__name__)


class SmsPlugin(AirflowPlugin):
    """The receiver, as Airflow mounts it."""

    name = "sms"
    _mounted: ClassVar[list[dict[str, Any]]] = []

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The receiver under `/sms`.

        It never raises: that would keep the whole API server from starting, and with it every task.
        """
        if not self._mounted:
            try:
                # Asked for by the API server; whatever else loads plugins needs no receiver.
                from airflow_provider_sms.receiver.app import App

                self._mounted.append({"app": App(prefix=""), "url_prefix": URL_PREFIX, "name": "SMS receiver"})
            except Exception as error:  # noqa: BLE001 - whatever it is, Airflow comes first
                log.error(
                    "The receiver of SMS receipts and replies is not mounted: %s: %s", type(error).__name__, error
                )
                return []
        return list(self._mounted)
