"""Runs the DAG file it is given, in a process whose whole output is kept; prints the state of each task at the end."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airflow_provider_sms import send_course
from tests.support.airflow import make_one_api_for_all_tasks, put_dag, run_dag, states

if __name__ == "__main__":
    make_one_api_for_all_tasks()
    send_course.TRIES_TO_REACH = 2  # The pauses between more of them add nothing here.
    print("STATES", json.dumps(states(run_dag(put_dag(Path(sys.argv[1]))))))
