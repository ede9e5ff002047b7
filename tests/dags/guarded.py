"""Guards and dry runs, run to their end by Airflow. That it is outside the sending hours, the test sees to."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, TriggerRule

from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.sensors.sms import SmsDeliverySensor, SmsReplySensor

TEXT = "【云通信】五折"

with DAG(dag_id="guarded", schedule=None, catchup=False) as dag:
    common: dict[str, Any] = {"content": TEXT, "category": "marketing", "trigger_rule": TriggerRule.ALL_DONE}
    fails = SmsGroupSendOperator(task_id="fails", phones="13800130001", outside_hours="fail", **common)
    scheduled = SmsGroupSendOperator(task_id="scheduled", phones="13800130002", outside_hours="schedule", **common)
    waits = SmsGroupSendOperator(task_id="waits", phones="13800130003", max_per_phone=1, **common)
    capped = SmsGroupSendOperator(
        task_id="capped", phones=["13800130003", "13800130004"], max_per_phone=1, min_balance_after=1, **common
    )
    dry = SmsGroupSendOperator(task_id="dry", phones="13800130005", dry_run=True, **common)
    mapped = SmsGroupSendOperator.partial(task_id="mapped", dry_run=True, **common)
    each: Any = mapped.expand(phones=["13800130006", "13800130007"])
    fails >> scheduled >> waits >> capped >> dry >> each
    nothing: Any = dry.output
    for deferrable in (True, False):
        SmsDeliverySensor(
            task_id=f"delivered_{deferrable}".lower(),
            batch_id=nothing["taskId"],
            min_delivered=0.9,
            deferrable=deferrable,
            timeout=60,
        )
    SmsDeliverySensor(task_id="delivered_each", batch_id=each.output["taskId"], timeout=60)
    SmsReplySensor(task_id="answered", batch_id=nothing["taskId"], deferrable=True, timeout=60)
