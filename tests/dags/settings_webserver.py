"""Airflow 2's webserver, as its own factory makes it, asked for the page of settings_plugin.py once."""

from __future__ import annotations

from airflow.www.app import create_app  # type: ignore[import-not-found]  # Airflow 2 only

from tests.dags.settings_plugin import PATH, PREFIX

if __name__ == "__main__":
    answer = create_app().test_client().get(PREFIX + PATH)
    assert answer.status_code == 200, answer.text
