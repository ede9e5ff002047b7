"""An Airflow plugin with one page, without a log-in: who opens it has the server ask where the ledger is."""

from __future__ import annotations

from typing import Any

import airflow
from airflow.plugins_manager import AirflowPlugin

from tests.dags.settings_probe import tell

PREFIX = "/sms-test"
PATH = "/settings"


def _ask() -> str:
    tell("server")
    return "told"


def _app() -> dict[str, Any]:
    from fastapi import FastAPI

    app = FastAPI()
    app.get(PATH)(_ask)
    return {"app": app, "url_prefix": PREFIX, "name": "settings"}


def _blueprint() -> Any:
    from flask import Blueprint  # type: ignore[import-not-found]  # Airflow 2 brings it

    blueprint = Blueprint("settings", __name__, url_prefix=PREFIX)
    blueprint.get(PATH)(_ask)
    return blueprint


class SettingsPlugin(AirflowPlugin):
    """The page, as either Airflow takes it."""

    name = "sms_settings_test"
    if airflow.__version__.startswith("2."):
        flask_blueprints = [_blueprint()]
    else:
        fastapi_apps = [_app()]
