"""An alarm: when a check fails, the people on duty get a text.

Needs a connection `sms_simulator`; `airflow-sms simulator` prints one. Unscheduled: nobody is texted by accident.
"""

from __future__ import annotations

import shutil
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, TriggerRule, task

from airflow_provider_sms.operators.sms import SmsGroupSendOperator

with DAG(
    dag_id="example_sms_alarm",
    schedule=None,
    catchup=False,
    tags=["example", "sms"],
    doc_md=__doc__,
    params={
        "least_free_gib": Param(1_000_000, type="integer", title="Alarm below so many GiB of free disk space"),
        "on_duty": Param("13800130011,13800130012", type="string", title="Phones, with commas between them"),
    },
) as dag:

    @task
    def check_disk(params: dict[str, Any]) -> int:
        """Fail if the disk is too full."""
        free_gib = shutil.disk_usage("/").free // 2**30
        if free_gib < params["least_free_gib"]:
            raise RuntimeError(f"only {free_gib} GiB left")
        return free_gib

    alarm = SmsGroupSendOperator(
        task_id="alarm",
        sms_conn_id="sms_simulator",
        phones="{{ params.on_duty }}",
        content="【云通信】告警:{{ dag.dag_id }} 磁盘空间不足,请尽快处理。",
        trigger_rule=TriggerRule.ONE_FAILED,
    )
    check_disk() >> alarm
