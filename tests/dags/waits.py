"""Every way to wait for receipts and replies, run to its end by Airflow."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, TriggerRule

from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.sensors.sms import SmsDeliverySensor, SmsReplySensor

with DAG(dag_id="waits", schedule=None, catchup=False) as dag:
    send = SmsGroupSendOperator(
        task_id="send", phones=["13800130001", "13800130002"], content="【云通信】您好", batch_size=1
    )
    sent: Any = send.output
    common: dict[str, Any] = {"batch_id": sent["taskId"], "poke_interval": 0.2, "timeout": 60}
    poked = SmsDeliverySensor(task_id="poked", deferrable=False, **common)
    rescheduled = SmsDeliverySensor(task_id="rescheduled", deferrable=False, mode="reschedule", **common)
    deferred = SmsDeliverySensor(task_id="deferred", deferrable=True, min_delivered="{{ 0.5 }}", **common)
    by_name = SmsDeliverySensor(
        task_id="by_name",
        campaign="{{ ti.xcom_pull('send')['campaign'] }}",
        deferrable=True,
        poke_interval=1,
        timeout=60,
    )
    too_few = SmsDeliverySensor(task_id="too_few", deferrable=True, min_delivered=1.0, soft_fail=True, **common)
    reply = SmsReplySensor(task_id="reply", deferrable=True, pattern="^好的$", **common)
    reply_rescheduled = SmsReplySensor(task_id="reply_rescheduled", deferrable=False, mode="reschedule", **common)
    send >> by_name >> too_few
    # Nobody answers for this one.
    silent = SmsGroupSendOperator(
        task_id="silent",
        phones=["13800130003"],
        content="【云通信】您好",
        campaign_key="silent {{ run_id }}",
        trigger_rule=TriggerRule.ALL_DONE,
    )
    [poked, rescheduled, deferred, too_few, reply, reply_rescheduled] >> silent
    silence: Any = silent.output
    waited_enough = SmsDeliverySensor(
        task_id="waited_enough", batch_id=silence["taskId"], deferrable=True, deadline=timedelta(0)
    )
    too_late = SmsDeliverySensor(
        task_id="too_late",
        batch_id=silence["taskId"],
        deferrable=True,
        deadline=timedelta(0),
        min_delivered=1,
    )
