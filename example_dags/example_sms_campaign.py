"""A campaign: wait until the account can pay for it, send to a group, report what became of it.

Needs a connection `sms_simulator`; `airflow-sms simulator` prints one. Unscheduled: nobody is texted by accident.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.sensors.sms import SmsBalanceSensor

CONNECTION = "sms_simulator"

with DAG(
    dag_id="example_sms_campaign",
    schedule=None,
    catchup=False,
    tags=["example", "sms"],
    doc_md=__doc__,
    params={
        "phones": Param(["13800130001", "13800130002", "13800130003"], type="array", title="Phones"),
        "content": Param("【云通信】您订阅的日报已生成,请登录平台查看。", type="string", title="Text"),
    },
) as dag:

    @task
    def choose_phones(params: dict[str, Any]) -> list[str]:
        """Stand in for a query: whom to text today."""
        return params["phones"]

    @task
    def report(summary: dict[str, Any], task_id: str | list[str]) -> None:
        """Say what became of the campaign."""
        print(
            f"{summary['accepted']} accepted, {summary['excluded']} left out, taskId {task_id}, "
            f"{summary['remainPoint']} points left"
        )

    chosen = choose_phones()
    enough_points = SmsBalanceSensor(
        task_id="enough_points",
        sms_conn_id=CONNECTION,
        min_balance="{{ params.phones | length }}",
        poke_interval=30,
        timeout=60 * 60,
    )
    send = SmsGroupSendOperator(
        task_id="send",
        sms_conn_id=CONNECTION,
        phones=chosen,
        content="{{ params.content }}",
    )
    enough_points >> send
    report(send.output, send.output["taskId"])
