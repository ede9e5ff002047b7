"""A campaign whose process is killed while it sends; Airflow tries again by itself."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_sms.operators.sms import SmsGroupSendOperator

with DAG("crashed_campaign", schedule=None, max_active_runs=4) as dag:
    SmsGroupSendOperator(
        task_id="send",
        phones="{{ dag_run.conf['phones'] }}",
        content="【云通信】您好",
        batch_size=5,
        retries=3,
        retry_delay=timedelta(seconds=1),
    )
