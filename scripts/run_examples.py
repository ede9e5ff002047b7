"""Run example DAGs to their end by `dag.test()` and write what came of them as JSON: RESULT_FILE DAG_FILE….

The first is run twice, the second time as after a clear. A program of its own since Airflow reads its environment
when it is imported.
"""

from __future__ import annotations

import json
import runpy
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CONNECTION = "sms_simulator"


def run_twice(dag_file: str) -> dict[str, Any]:
    """Run a campaign, and the very same run again; the balance is asked in between, with the same connection."""
    from airflow_provider_sms.hooks.sms import SmsHook

    before = SmsHook(CONNECTION).get_balance()
    began = datetime.now(UTC)
    first = run(dag_file, began)
    after = SmsHook(CONNECTION).get_balance()
    again = run(dag_file, began)
    return {
        **first,
        "balance_before": before,
        "balance_after": after,
        "cleared": {**again, "balance_after": SmsHook(CONNECTION).get_balance()},
    }


def run(dag_file: str, began: datetime) -> dict[str, Any]:
    """Run a DAG; every task's state and what it returned."""
    finished = runpy.run_path(dag_file)["dag"].test(run_after=began, logical_date=began)
    instances = {each.task_id: each for each in finished.get_task_instances()}
    return {
        "dag_id": finished.dag_id,
        "run_id": finished.run_id,
        "state": str(finished.state.value),
        "tasks": {name: str(each.state) for name, each in sorted(instances.items(), key=_when)},
        "returned": {name: each.xcom_pull(task_ids=name) for name, each in instances.items()},
    }


def _when(item: tuple[str, Any]) -> tuple[bool, Any]:
    started = item[1].start_date
    return started is None, started


if __name__ == "__main__":
    result_file, first_dag, *others = sys.argv[1:]
    results = [run_twice(first_dag), *(run(each, datetime.now(UTC)) for each in others)]
    Path(result_file).write_text(json.dumps(results))
