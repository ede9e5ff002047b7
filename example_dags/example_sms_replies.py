"""A question and its answers: ask by SMS, wait until somebody replies, act on the replies.

On Airflow 3 a second DAG, `example_sms_reply_desk`, is run by replies whenever they come, to whatever text. It is
paused when it is new, and sends nothing.

Needs a connection `sms_simulator`, and a receiver that hears it: `airflow-sms simulator` prints the connection, and
`airflow-sms push-url` an address for its `--push-url`. Unscheduled: nobody is texted by accident.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.sensors.sms import SmsReplySensor
from airflow_provider_sms.triggers.sms import SmsReplyTrigger

CONNECTION = "sms_simulator"
DESK = "example_sms_reply_desk"

with DAG(
    dag_id="example_sms_replies",
    schedule=None,
    catchup=False,
    tags=["example", "sms"],
    doc_md=__doc__,
    params={
        "phones": Param(["13800130031", "13800130032", "13800130033"], type="array", title="Phones"),
        "question": Param("【云通信】明天的会议您能参加吗?能请回复1,不能请回复2。", type="string", title="Text"),
    },
) as dag:

    @task
    def choose_phones(params: dict[str, Any]) -> list[str]:
        """Stand in for a query: whom to ask."""
        return params["phones"]

    @task
    def count_answers(summary: dict[str, Any]) -> dict[str, int]:
        """Act on the replies to this campaign: here they are only counted.

        If this raises, the next try gets the same replies again. What must not happen twice asks by `reply.id`
        whether it has happened.
        """
        answers: Counter[str] = Counter()
        with SmsHook(CONNECTION).claim_replies("example_sms_replies", campaign=summary["campaign"]) as replies:
            for reply in replies:
                answers[{"1": "yes", "2": "no"}.get(reply.content.strip(), "unclear")] += 1
        return dict(answers)

    ask = SmsGroupSendOperator(
        task_id="ask",
        sms_conn_id=CONNECTION,
        phones=choose_phones(),
        content="{{ params.question }}",
    )
    answered = SmsReplySensor(
        task_id="answered",
        batch_id=ask.output["taskId"],
        pattern=r"^[12]$",
        deferrable=True,
        poke_interval=5,
        timeout=24 * 60 * 60,
    )
    answered >> count_answers(ask.output)

try:
    from airflow.sdk import Asset, AssetWatcher
except ImportError:  # before 3.0, which has no watchers
    pass
else:
    replies_to_act_on = Asset(
        "example_sms_replies_to_act_on",
        watchers=[AssetWatcher(name="example_sms_replies", trigger=SmsReplyTrigger(consumer=DESK))],
    )

    with DAG(
        dag_id=DESK,
        schedule=[replies_to_act_on],
        catchup=False,
        is_paused_upon_creation=True,
        tags=["example", "sms"],
        doc_md=__doc__,
    ) as desk:

        @task
        def act_on_replies() -> int:
            """Take what nobody has taken yet. The event that started this run is only a nudge: it may find nothing."""
            with SmsHook(CONNECTION).claim_replies(DESK) as replies:
                for reply in replies:
                    print(f"reply {reply.id} to {reply.campaign}: {len(reply.content)} characters")
                return len(replies)

        act_on_replies()
