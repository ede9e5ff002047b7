"""A watch on the balance: people get a text when it runs low, once, until somebody has topped up the account.

Every run asks the balance. Two marks keep it from warning again and again: it warns below the first, and is ready to
warn anew when the balance has reached the second. In between nothing changes, as the platform may give points back
for texts that have failed.

That the balance was low before has to be remembered: the balance itself does not tell, and nor does the ledger. So
the time since when it is low is kept in an Airflow Variable, and is the text's `campaign_key`. The Variable only says
which warning it is; whether it has been sent, the ledger knows. So a run that dies in between, a retry or a clear
texts nobody twice, and a warning that could not be sent is sent by the next run.

Needs a connection `sms_simulator`; `airflow-sms simulator` prints one. Unscheduled: nobody is texted by accident.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, Param, Variable, task

from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.operators.sms import SmsGroupSendOperator

CONNECTION = "sms_simulator"
LOW_SINCE = "example_sms_low_since"

with DAG(
    dag_id="example_sms_low_balance",
    schedule=None,  # a watch of your own: "*/15 * * * *"
    catchup=False,
    max_active_runs=1,  # two at once would both find that it is newly low
    tags=["example", "sms"],
    doc_md=__doc__,
    params={
        "warn_below": Param(2_000, type="integer", title="Warn below so many points"),
        "enough_from": Param(5_000, type="integer", title="Topped up from so many points"),
        "treasurers": Param(["13800130081"], type="array", title="Whom to warn"),
    },
) as dag:

    @task
    def low_since(params: dict[str, Any]) -> str:
        """Tell since when the balance is low, which is the same until it is topped up; skip if it is not."""
        balance = SmsHook(CONNECTION).get_balance()
        since = Variable.get(LOW_SINCE, "")
        if since and balance >= max(params["enough_from"], params["warn_below"]):
            since = ""
            Variable.set(LOW_SINCE, since)
        if not since and balance < params["warn_below"]:
            since = datetime.now(UTC).isoformat()
            Variable.set(LOW_SINCE, since)
        print(f"{balance} points, {f'low since {since}' if since else 'enough'}")
        if not since:
            raise AirflowSkipException("There are enough points.")
        return since

    warn = SmsGroupSendOperator(
        task_id="warn",
        sms_conn_id=CONNECTION,
        phones="{{ params.treasurers }}",
        content="【云通信】短信余额已不足{{ params.warn_below }}点,请尽快充值。",
        campaign_key="low balance since {{ ti.xcom_pull('low_since') }}",
        category="notice",
        on_changed="resume",  # somebody has moved the mark meanwhile
        on_expired="send_now",  # as long as it is low, it is not too late
    )
    low_since() >> warn
