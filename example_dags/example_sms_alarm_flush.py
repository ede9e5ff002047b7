"""Alarms that were held back: of a storm of failures each phone gets a few texts at once, and this tells of the rest.

Give it a schedule, such as `timedelta(minutes=10)`, and your own connection. It texts nobody if nothing is held back.

Needs a connection `sms_simulator`; `airflow-sms simulator` prints one. Unscheduled: nobody is texted by accident.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_sms.operators.sms import SmsAlarmFlushOperator

with DAG(
    dag_id="example_sms_alarm_flush",
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["example", "sms"],
    doc_md=__doc__,
) as dag:
    SmsAlarmFlushOperator(task_id="flush", sms_conn_id="sms_simulator")
