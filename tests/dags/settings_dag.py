"""A task that asks the settings where the ledger is, and one to wait for the trigger that does."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

with DAG(dag_id="settings", schedule=None, catchup=False) as dag:

    @task
    def asks() -> None:
        from tests.dags.settings_probe import tell

        tell("task")

    @task
    def waits() -> None:
        """Nothing to do: settings_run.py has it wait when it is done."""

    asks() >> waits()
