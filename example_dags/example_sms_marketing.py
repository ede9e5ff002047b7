"""A marketing campaign: send, see that it gets through, and text those once more who have not got it.

Guards keep both texts within bounds: they go out by day, however late the DAG runs; nobody gets more than a few a
week, from whatever campaign, and whoever has opted out gets none; nothing is sent that would cost too much, or would
leave too little for the alarms that share the account.

The follow-up goes to phones whose receipt says that the first text has failed, and not to dead numbers, to those who
have blacklisted the sender, or to anybody who may have got it.

Needs a connection `sms_simulator`, and a receiver that hears it: `airflow-sms simulator` prints the connection, and
`airflow-sms push-url` an address for its `--push-url`. Unscheduled: nobody is texted by accident.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.sensors.sms import SmsDeliverySensor
from airflow_provider_sms.unreached import UnreachedPhones

CONNECTION = "sms_simulator"
CAMPAIGN = "example_sms_marketing {{ run_id }}"
GUARDS: dict[str, Any] = {
    "category": "marketing",  # 08:00 to 21:00 Beijing time, and no text that does not say how to opt out
    "max_per_phone": 4,
    "per": timedelta(days=7),
    "max_points": 50_000,
    "min_balance_after": 1_000,
}

with DAG(
    dag_id="example_sms_marketing",
    schedule=None,
    catchup=False,
    tags=["example", "sms"],
    doc_md=__doc__,
    params={
        "members": Param([f"138001300{number}" for number in range(71, 77)], type="array", title="Phones"),
        "content": Param("【云通信】会员日全场八折,今日开抢。拒收请回复R", type="string", title="Text"),
        "reminder": Param("【云通信】会员日最后一天,全场八折。拒收请回复R", type="string", title="Follow-up's text"),
        "least_reached": Param(0.5, type="number", title="Follow up only if this share was reached"),
    },
) as dag:
    send = SmsGroupSendOperator(
        task_id="send",
        sms_conn_id=CONNECTION,
        phones="{{ params.members }}",
        content="{{ params.content }}",
        campaign_key=CAMPAIGN,
        **GUARDS,
    )
    # Up to three days: as long as receipts come.
    receipts = SmsDeliverySensor(task_id="receipts", campaign=CAMPAIGN, deferrable=True, poke_interval=5)

    @task
    def gate(delivery: dict[str, Any], params: dict[str, Any]) -> None:
        """Fail if so few were reached that it is the text or the signature: another one would be thrown away."""
        if delivery["delivered"] < params["least_reached"] * delivery["accepted"]:
            raise ValueError(
                f"only {delivery['delivered']} of {delivery['accepted']} reached: {delivery['failedByCause']}"
            )

    follow_up = SmsGroupSendOperator(
        task_id="follow_up",
        sms_conn_id=CONNECTION,
        phones=UnreachedPhones(CAMPAIGN),
        content="{{ params.reminder }}",
        campaign_key=f"{CAMPAIGN} follow-up",
        on_no_phones="skip",  # everybody was reached, or has opted out since
        **GUARDS,
    )
    send >> receipts
    gate(receipts.output) >> follow_up
