"""A send to four phones, one request each, and a look at the balance: what metrics tell of them."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.sensors.sms import SmsBalanceSensor

with DAG(dag_id="counted", schedule=None, catchup=False) as dag:
    phones = [f"1380013000{number}" for number in range(1, 5)]
    SmsBalanceSensor(task_id="enough", min_balance=1) >> SmsGroupSendOperator(
        task_id="send", phones=phones, content="【云通信】您好", batch_size=1, on_in_doubt="assume_sent"
    )
