"""An approval: ask people by SMS before a dangerous step, and take it only if one of them agrees.

The text carries a one-time code; whoever is asked replies `Y` or `N` and the code. A rejection skips the step.

Needs a connection `sms_simulator`, and a receiver that hears it: `airflow-sms simulator` prints the connection, and
`airflow-sms push-url` an address for its `--push-url`. Unscheduled: nobody is texted by accident.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_sms.operators.sms import SmsApprovalOperator

with DAG(
    dag_id="example_sms_approval",
    schedule=None,
    catchup=False,
    tags=["example", "sms"],
    doc_md=__doc__,
    params={
        "approvers": Param(["13800130041", "13800130042"], type="array", title="Who may approve"),
        "table": Param("orders_2029", type="string", title="Table to drop"),
    },
) as dag:

    @task
    def drop(table: str, approval: dict[str, Any]) -> None:
        """Stand in for the dangerous step."""
        print(f"dropping {table}, approved by {approval['by']}, reply {approval['replyId']}")

    approve = SmsApprovalOperator(
        task_id="approve",
        sms_conn_id="sms_simulator",
        phones="{{ params.approvers }}",
        question="【云通信】将删除表 {{ params.table }}。同意请回复 Y {code},拒绝请回复 N {code},4小时内有效。",
        on_rejected="skip",
        timeout=timedelta(hours=4),
        deferrable=True,
    )
    result: Any = approve.output
    drop("{{ params.table }}", result)
