"""A campaign from a file, until its receipts are there; and a DAG that replies start. For test_end_to_end.py."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.recipients import PhoneFile
from airflow_provider_sms.sensors.sms import SmsDeliverySensor
from airflow_provider_sms.triggers.sms import SmsReplyTrigger

CONSUMER = "end_to_end"

with DAG(dag_id="end_to_end", schedule=None, catchup=False):
    send = SmsGroupSendOperator(
        task_id="send",
        phones=PhoneFile("{{ dag_run.conf['file'] }}"),
        content="【云通信】您好,收到请回复1。",
        max_in_flight=4,
    )
    SmsDeliverySensor(
        task_id="delivered",
        batch_id=send.output["taskId"],  # type: ignore[index]
        min_final=1.0,
        deferrable=True,
        poke_interval=2,
    )

replies = Asset(
    "replies", watchers=[AssetWatcher(name="replies", trigger=SmsReplyTrigger(consumer=CONSUMER, poke_interval=2))]
)

with DAG(dag_id="reply_desk", schedule=[replies], catchup=False):

    @task
    def handle() -> list[str]:
        """Write down which replies this run got; a line is one reply."""
        with SmsHook().claim_replies(CONSUMER) as claimed:
            ids = [str(reply.id) for reply in claimed if reply.content == "1"]
            with Path(os.environ["REPLIES_FILE"]).open("a") as file:
                file.writelines(f"{each}\n" for each in ids)
            return ids

    handle()
