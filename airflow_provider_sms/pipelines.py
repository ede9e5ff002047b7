"""The usual pipeline in one call: enough points, send, wait for receipts. The operators' arguments stay theirs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import TaskGroup

from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.sensors.sms import SmsBalanceSensor, SmsDeliverySensor

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import XComArg


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The tasks of one pipeline, and the group that they are in."""

    group: TaskGroup
    enough: SmsBalanceSensor
    send: SmsGroupSendOperator
    delivered: SmsDeliverySensor


def sms_pipeline(
    group_id: str = "sms",
    *,
    min_balance: int | str | XComArg = 1,
    min_delivered: float | str | XComArg | None = None,
    deadline: timedelta = timedelta(hours=72),
    sms_conn_id: str = "sms_default",
    default_args: dict[str, Any] | None = None,
    **send: Any,
) -> Pipeline:
    """
    Send once the account has enough points, and wait for the receipts: tasks `enough`, `send` and `delivered`.

    .. code-block:: python

        sms = sms_pipeline(phones=["13800130001"], content="【云通信】Hello.", min_balance=1_000, min_delivered=0.9)
        report(sms.delivered.output)

    :param group_id: the task group's id.
    :param min_balance: see `SmsBalanceSensor`.
    :param min_delivered: see `SmsDeliverySensor`; so is `deadline`.
    :param sms_conn_id: the connection, of type `sms`.
    :param default_args: for all three tasks, each takes what it knows: `deferrable`, `poke_interval`, `retries` …
    :param send: arguments of `SmsGroupSendOperator`.
    :returns: the tasks, for what goes before, after and in between.
    """
    arguments: Any = default_args
    with TaskGroup(group_id, default_args=arguments) as group:
        enough = SmsBalanceSensor(task_id="enough", min_balance=min_balance, sms_conn_id=sms_conn_id)
        sent = SmsGroupSendOperator(task_id="send", sms_conn_id=sms_conn_id, **send)
        output: Any = sent.output
        delivered = SmsDeliverySensor(
            task_id="delivered", batch_id=output["taskId"], min_delivered=min_delivered, deadline=deadline
        )
        enough >> sent
    return Pipeline(group, enough, sent, delivered)
