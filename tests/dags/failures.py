"""Every way to fail, one task each. Phones and text come from Variables, which Airflow stores nowhere else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.sensors.sms import SmsBalanceSensor

TEXT = "{{ var.value.sms_text }}"


def send(name: str, number: int, **changes: Any) -> None:
    phones = f"{{{{ (var.value.sms_first | int) + {number} }}}}"
    SmsGroupSendOperator(**{"task_id": name, "phones": phones, "content": TEXT, **changes})


def gate(name: str, conn_id: str, **changes: Any) -> None:
    changes = {"poke_interval": 1, "timeout": 30, "max_errors": 1, **changes}
    SmsBalanceSensor(task_id=name, sms_conn_id=conn_id, **changes)


with DAG(dag_id="failures", schedule=None, catchup=False) as dag:
    send("succeeds", 0)
    send("cut_before", 1)
    send("cut_after", 2)
    send("status_500", 3)
    send("redirect", 4)
    send("html", 5)
    send("truncated", 6)
    send("empty", 7)
    send("no_task_id", 8)
    send("unknown_reason", 9)
    send("refused_with_a_phone_in_the_message", 10)
    send("garbage", 11)
    send("times_out", 12, execution_timeout=timedelta(seconds=1))
    send("wrong_key", 13, sms_conn_id="sms_wrong_key")
    send("nobody_there", 14, sms_conn_id="sms_nobody_there")
    send("dead_proxy", 15, sms_conn_id="sms_dead_proxy")
    send("broken_proxy_setting", 16, sms_conn_id="sms_broken_proxy")
    send("unknown_extra", 17, sms_conn_id="sms_unknown_extra")
    send("missing_connection", 18, sms_conn_id="sms_nowhere")
    send("no_signature", 19, content="{{ var.value.sms_first }}")
    send("past", 20, send_time="2020-01-31 14:00:00")
    send("rubbish_phones", 21, phones="{{ var.value.sms_first }}0000")
    send("template_fails", 22, phones=["{{ var.value.sms_first }}", "{{ 1 / 0 }}"])
    send("text_template_fails", 23, content="{{ var.value.sms_text }}{{ nothing.at.all }}")
    send("duplicates", 24, phones="{{ var.value.sms_last }},{{ var.value.sms_last }},x")
    gate("gate_wrong_key", "sms_wrong_key")
    gate("gate_deferred_wrong_key", "sms_wrong_key", deferrable=True)
    gate("gate_nobody_there", "sms_nobody_there")
    gate("gate_deferred_nobody_there", "sms_nobody_there", deferrable=True)
    gate("gate_deferred_dead_proxy", "sms_dead_proxy", deferrable=True)
    gate("gate_deferred_unknown_extra", "sms_unknown_extra", deferrable=True)
