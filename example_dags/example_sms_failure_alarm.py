"""A nightly job: when one of its tasks has failed for good, the people on duty get a text.

Airflow calls a failure callback more than once now and then; the notifier texts once for each task's try.

Needs a connection `sms_simulator`; `airflow-sms simulator` prints one. Unscheduled: nobody is texted by accident.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_sms.notifications.sms import SmsNotifier

with DAG(
    dag_id="example_sms_failure_alarm",
    schedule=None,  # a job of your own: "0 2 * * *"
    catchup=False,
    tags=["example", "sms"],
    doc_md=__doc__,
    params={
        "orders": Param(0, type="integer", title="Orders of the day"),
        "on_duty": Param("13800130051,13800130052", type="string", title="Phones, with commas between them"),
    },
    # For every task of the DAG. One text for the whole run: give it to the DAG itself.
    default_args={
        "on_failure_callback": SmsNotifier(
            sms_conn_id="sms_simulator",
            phones="{{ params.on_duty }}",
            content="【云通信】任务失败:{{ ti.dag_id }} {{ ti.task_id }},第{{ ti.try_number }}次,请处理。",
        )
    },
) as dag:

    @task
    def count_orders(params: dict[str, Any]) -> int:
        """Stand in for a query."""
        return params["orders"]

    @task
    def check(orders: int) -> int:
        """Fail where a day without orders means that something is wrong."""
        if orders == 0:
            raise ValueError("no orders today: is the import running?")
        return orders

    @task
    def report(orders: int) -> None:
        """Stand in for what the night is for."""
        print(f"{orders} orders")

    report(check(count_orders()))
