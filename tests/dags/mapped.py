"""Mapped tasks and task groups: each instance is a campaign with guards, dry runs and taskIds of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow.providers.common.compat.sdk import DAG, task, task_group

from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.pipelines import sms_pipeline

TEXT = "【云通信】您好"

with DAG(dag_id="mapped", schedule=None, catchup=False) as dag:
    # Both would cost three points, each of them two at most.
    SmsGroupSendOperator.partial(
        task_id="points", content=f"{TEXT}1", max_points=2, campaign_key="{{ run_id }} {{ ti.map_index }}"
    ).expand(phones=["13800130001", ["13800130002", "13800130003"]])
    SmsGroupSendOperator.partial(task_id="capped", content=f"{TEXT}2", max_per_phone=1, on_no_phones="skip").expand(
        phones=["13800130004", "13800130004"]
    )
    SmsGroupSendOperator.partial(task_id="half").expand_kwargs(
        [
            {"phones": "13800130005", "content": f"{TEXT}3"},
            {"phones": "13800130006", "content": f"{TEXT}4", "dry_run": True},
        ]
    )

    @task
    def shops() -> list[str]:
        return ["13800130007", "13800130008"]

    @task.sms(content=f"{TEXT}5")
    def tell(phone: str) -> Iterator[str]:
        yield phone

    @task
    def told(task_id: str, summary: dict[str, Any]) -> bool:
        return [task_id] == summary["taskIds"]

    @task_group
    def each(phone: str) -> None:
        sent: Any = tell(phone)  # type: ignore[arg-type]
        told(sent["taskId"], sent)
        sms_pipeline(phones=phone, content=f"{TEXT}6", dry_run=True, default_args={"poke_interval": 0.1})

    each.expand(phone=shops())
