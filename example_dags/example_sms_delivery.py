"""A campaign and what became of it: send, wait for the receipts, say who was reached.

Needs a connection `sms_simulator`, and a receiver that hears it: `airflow-sms simulator` prints the connection, and
`airflow-sms push-url` an address for its `--push-url`. Unscheduled: nobody is texted by accident.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.sensors.sms import SmsDeliverySensor

CONNECTION = "sms_simulator"

with DAG(
    dag_id="example_sms_delivery",
    schedule=None,
    catchup=False,
    tags=["example", "sms"],
    doc_md=__doc__,
    params={
        "phones": Param(["13800130021", "13800130022", "13800130023"], type="array", title="Phones"),
        "content": Param("【云通信】系统将于今晚22点维护,请提前保存工作。", type="string", title="Text"),
    },
) as dag:

    @task
    def choose_phones(params: dict[str, Any]) -> list[str]:
        """Stand in for a query: whom to text today."""
        return params["phones"]

    @task
    def report(delivery: dict[str, Any]) -> None:
        """Say what became of the texts."""
        causes = ", ".join(f"{count} {cause}" for cause, count in delivery["failedByCause"].items())
        print(
            f"{delivery['delivered']} of {delivery['accepted']} delivered, {delivery['failed']} failed"
            f"{f' ({causes})' if causes else ''}, {delivery['unknown']} unknown"
        )

    send = SmsGroupSendOperator(
        task_id="send",
        sms_conn_id=CONNECTION,
        phones=choose_phones(),
        content="{{ params.content }}",
    )
    delivered = SmsDeliverySensor(
        task_id="delivered",
        batch_id=send.output["taskId"],
        min_delivered=0.9,
        deferrable=True,
        poke_interval=5,
    )
    report(delivered.output)
