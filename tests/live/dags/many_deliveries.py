"""Many sensors that wait in the triggerer for receipts, each for a campaign of its own."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_sms.sensors.sms import SmsDeliverySensor

WAITERS = 200
INTERVAL = 10

with DAG("many_deliveries", schedule=None, max_active_tasks=WAITERS) as dag:
    SmsDeliverySensor.partial(
        task_id="delivered",
        deferrable=True,
        poke_interval=INTERVAL,
        # They were sent before Airflow was up.
        first_push_within=timedelta(hours=1),
        retries=0,
    ).expand(campaign=[f"campaign {number}" for number in range(WAITERS)])
