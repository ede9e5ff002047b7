"""A run that is late from its start, and two callbacks that tell of it: one in the triggerer, one on the executor."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task
from airflow.sdk.definitions.callback import AsyncCallback, SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from airflow_provider_sms.notifications.sms import SmsNotifier


def late(callback: AsyncCallback | SyncCallback) -> DeadlineAlert:
    return DeadlineAlert(reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(seconds=1), callback=callback)


with DAG(
    dag_id="late",
    schedule=None,
    catchup=False,
    deadline=[
        late(AsyncCallback(SmsNotifier, kwargs={"phones": "13800130001"})),
        late(SyncCallback(SmsNotifier, kwargs={"phones": "13800130002"})),
    ],
):

    @task
    def takes_long() -> None:
        import time

        time.sleep(60)

    takes_long()
