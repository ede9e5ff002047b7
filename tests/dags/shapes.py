"""Ways to use the operators that the examples do not show: mapped, deferred, with phones from templates and files."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.recipients import PhoneFile
from airflow_provider_sms.sensors.sms import SmsBalanceSensor

TEXT = "【云通信】您好"

with DAG(dag_id="shapes", schedule=None, catchup=False) as dag:

    @task
    def parts() -> list[list[str]]:
        return [["13800130031", "13800130032"], ["13800130033"]]

    @task
    def flat() -> list[str]:
        return ["13800130041", "13800130042"]

    enough = SmsBalanceSensor(task_id="enough", min_balance=5, deferrable=True, poke_interval=1, timeout=60)
    rescheduled = SmsBalanceSensor(task_id="rescheduled", mode="reschedule", poke_interval=1, timeout=60)
    mapped = SmsGroupSendOperator.partial(task_id="mapped", content=TEXT).expand(phones=parts())
    chosen = flat()
    templated = SmsGroupSendOperator(
        task_id="templated", phones="{{ ti.xcom_pull('flat') }}", content=TEXT, batch_size=1
    )
    files = SmsGroupSendOperator.partial(
        task_id="files", phones=PhoneFile("{{ var.value.sms_folder }}/{{ ti.map_index }}.txt")
    ).expand(content=[TEXT, TEXT])
    keyed = SmsGroupSendOperator(
        task_id="keyed", phones=["13800130051"], content=TEXT, campaign_key="shapes {{ run_id }}", max_in_flight=4
    )
    waits = SmsGroupSendOperator(task_id="waits", phones=["13800130061"], content=TEXT)
    enough >> rescheduled >> [keyed, files, waits, chosen]
    rescheduled >> mapped
    chosen >> templated
