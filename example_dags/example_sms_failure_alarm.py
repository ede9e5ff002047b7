"""A nightly job: when one of its tasks has failed for good, the people on duty get a text.

The text says which task of which DAG has failed, in which try and when, with a link to the log where there is room.
Airflow calls a failure callback more than once now and then: the notifier texts once for each task's try. Of a night
on which everything fails a phone gets a few texts; `example_sms_alarm_flush` tells of the rest.

Needs a connection `sms_simulator` with a signature; `airflow-sms simulator` prints one. Unscheduled: nobody is texted
by accident.
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
            storm_limit=3,  # in ten minutes
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
