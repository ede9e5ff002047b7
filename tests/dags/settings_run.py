"""Runs the DAG file it is given, then has one of its tasks wait for the trigger: there is work for a triggerer."""

from __future__ import annotations

import sys
from pathlib import Path

from airflow.models.trigger import Trigger
from airflow.utils.session import create_session

from tests.dags.settings_trigger import SettingsTrigger
from tests.support.airflow import put_dag, run_dag, states

if __name__ == "__main__":
    run = run_dag(put_dag(Path(sys.argv[1])))
    assert set(states(run).values()) == {"success"}, states(run)
    with create_session() as session:
        trigger = Trigger.from_object(SettingsTrigger())
        session.add(trigger)
        session.flush()
        [waiting] = [each for each in run.get_task_instances(session=session) if each.task_id == "waits"]
        waiting.state = "deferred"
        waiting.trigger_id = trigger.id
