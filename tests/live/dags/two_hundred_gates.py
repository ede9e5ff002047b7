"""Two hundred tasks that wait in the triggerer for one account."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_sms.sensors.sms import SmsBalanceSensor

with DAG(dag_id="two_hundred_gates", schedule=None, catchup=False, max_active_tasks=400) as dag:
    SmsBalanceSensor.partial(
        task_id="gate", poke_interval=10, timeout=3600, deferrable=True, sms_conn_id="sms_default"
    ).expand(min_balance=[100] * 200)
