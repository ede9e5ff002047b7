"""Airflow's own human in the loop, with a text to those who shall decide: they answer in Airflow, not by SMS.

On Airflow before 3.1, which has no human in the loop, this file holds no DAG. Whoever shall answer by SMS itself
takes `SmsApprovalOperator`, see `example_sms_approval`.

Needs a connection `sms_simulator`; `airflow-sms simulator` prints one. Unscheduled: nobody is texted by accident.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, AirflowOptionalProviderFeatureException, Param, task

from airflow_provider_sms.notifications.sms import SmsNotifier

try:
    from airflow.providers.standard.operators.hitl import ApprovalOperator
except (ImportError, AirflowOptionalProviderFeatureException):
    ApprovalOperator = None

if ApprovalOperator is not None:
    with DAG(
        dag_id="example_sms_hitl",
        schedule=None,
        catchup=False,
        tags=["example", "sms"],
        doc_md=__doc__,
        params={"on_duty": Param("13800130043", type="string", title="Phones, with commas between them")},
    ) as dag:

        @task
        def publish() -> None:
            """Stand in for what needs an approval."""
            print("published")

        approve = ApprovalOperator(
            task_id="approve",
            subject="Publish the report?",
            response_timeout=timedelta(hours=4),
            notifiers=[
                SmsNotifier(
                    sms_conn_id="sms_simulator",
                    phones="{{ params.on_duty }}",
                    content="【云通信】报表待审批:{{ dag.dag_id }} {{ ti.task_id }},请登录Airflow处理。",
                )
            ],
        )
        approve >> publish()
