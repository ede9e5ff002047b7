"""`@task.sms` in its shapes: phones alone, a dict, nothing, mapped, and with what an upstream task has found."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import DAG, task

with DAG(dag_id="taskflow", schedule=None, catchup=False) as dag:

    @task
    def found() -> list[dict[str, str]]:
        return [{"phone": "13800130011", "name": "王"}, {"phone": "13800130012", "name": "李"}]

    @task.sms(content="【云通信】您好 {{ dag.dag_id }}")
    def phones(people: list[dict[str, str]]) -> list[str]:
        return [each["phone"] for each in people]

    # A template that comes with the data stays what it is.
    @task.sms(batch_size=1, campaign_key="taskflow {{ run_id }}")
    def both(people: list[dict[str, str]], dag_run: Any = None) -> dict[str, object]:
        assert dag_run is not None
        return {"phones": (each["phone"] for each in people), "content": "【云通信】优惠 {{ 7 * 7 }}"}

    @task.sms(content="【云通信】您好")
    def nothing() -> None:
        return None

    @task.sms(content="【云通信】您好")
    def nobody() -> dict[str, object]:
        return {"phones": []}

    @task.sms
    def month(number: int) -> dict[str, object]:
        return {"phones": f"1380013002{number}", "content": f"【云通信】{number}月账单"}

    people = found()
    phones(people) >> [nothing(), nobody()]
    both(people)
    month.expand(number=[1, 2])
