"""Many sensors that wait in the triggerer for one account."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_sms.sensors.sms import SmsBalanceSensor

WAITERS = 200
INTERVAL = 10
WANTED = 100

with DAG("many_waiters", schedule=None, max_active_tasks=WAITERS) as dag:
    SmsBalanceSensor.partial(
        task_id="enough_points",
        deferrable=True,
        poke_interval=INTERVAL,
        sms_conn_id="sms_default",
        retries=0,
    ).expand(min_balance=[WANTED] * WAITERS)
