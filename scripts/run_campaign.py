"""Run one DAG file to its end by `dag.test()` and write what came of it as JSON: DAG_FILE RESULT_FILE.

A program of its own since Airflow reads its environment when it is imported.
"""

from __future__ import annotations

import json
import runpy
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CONNECTION = "sms_simulator"


def run(dag_file: str) -> dict[str, Any]:
    """Run the DAG; the balance is asked before and after, with the same connection."""
    from airflow_provider_sms.hooks.sms import SmsHook

    before = SmsHook(CONNECTION).get_balance()
    began = datetime.now(UTC)
    finished = runpy.run_path(dag_file)["dag"].test(run_after=began, logical_date=began)
    instances = {each.task_id: each for each in finished.get_task_instances()}
    summary = instances["send"].xcom_pull(task_ids="send")
    after = SmsHook(CONNECTION).get_balance()
    # The same run again, every task of it: as after a clear by hand.
    cleared = runpy.run_path(dag_file)["dag"].test(run_after=began, logical_date=began)
    return {
        "state": str(finished.state.value),
        "tasks": {name: str(each.state) for name, each in sorted(instances.items(), key=_when)},
        "summary": summary,
        "balance_before": before,
        "balance_after": after,
        "run_id": finished.run_id,
        "cleared": {
            "run_id": cleared.run_id,
            "state": str(cleared.state.value),
            "balance_after": SmsHook(CONNECTION).get_balance(),
        },
    }


def _when(item: tuple[str, Any]) -> tuple[bool, Any]:
    started = item[1].start_date
    return started is None, started


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(run(sys.argv[1])))
