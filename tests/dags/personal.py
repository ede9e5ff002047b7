"""Personal texts from everywhere that they can come from: a list, another task, mapped, a CSV and a SQL query."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_sms.messages import MessageFile, MessageQuery
from airflow_provider_sms.operators.sms import SmsGroupSendOperator

TEMPLATE = "【云通信】{name}:{{ run_id }}"

with DAG(dag_id="personal", schedule=None, catchup=False) as dag:

    @task
    def customers() -> list[dict[str, Any]]:
        return [
            {"phone": "13800130081", "name": "{{ ds }}{amount}"},
            {"phone": 13800130082, "name": 7},
        ]

    @task
    def parts() -> list[list[list[str]]]:
        return [
            [["13800130083", "【云通信】{{ ds }}"]],
            [["13800130084", "【云通信】四"], ["13800130083", "【云通信】{{ ds }}"]],
        ]

    SmsGroupSendOperator(
        task_id="written",
        messages=[("13800130085", "【云通信】{{ run_id }}"), ("13800130086", "【云通信】六")],
    )
    SmsGroupSendOperator(task_id="rows", messages=customers(), content=TEMPLATE)
    SmsGroupSendOperator.partial(task_id="mapped").expand(messages=parts())
    SmsGroupSendOperator(
        task_id="file",
        messages=MessageFile("{{ var.value.sms_folder }}/people.csv", phone_column="手机"),
        content="【云通信】{姓名}您好",
    )
    SmsGroupSendOperator(
        task_id="query",
        messages=MessageQuery("SELECT phone, name FROM people WHERE name != ?", "warehouse", ["{{ dag.dag_id }}"]),
        content="【云通信】{name}您好",
    )
