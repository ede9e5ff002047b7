"""Ours and other providers' operators, each set to send one message to this machine.

Imported by the process that `other_providers.py` has its tries forked from: it imports all of them, once.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.providers_manager import ProvidersManager


def _load(module: str, name: str) -> Any:
    # Not by an import statement: the environment that checks the types has none of them.
    return getattr(importlib.import_module(module), name)


_Sms = _load("airflow_provider_sms.operators.sms", "SmsGroupSendOperator")
_Email = _load("airflow.providers.smtp.operators.smtp", "EmailOperator")
_Http = _load("airflow.providers.http.operators.http", "HttpOperator")
_Telegram = _load("airflow.providers.telegram.operators.telegram", "TelegramOperator")
_TelegramHook = _load("airflow.providers.telegram.hooks.telegram", "TelegramHook")
_Bot = _load("telegram", "Bot")
_Sns = _load("airflow.providers.amazon.aws.operators.sns", "SnsPublishOperator")
for _module in ("airflow_provider_sms.sending", "airflow_provider_sms.opening", "boto3", "botocore.session"):
    importlib.import_module(_module)
ProvidersManager().initialize_providers_configuration()


def _sms(timeout: float) -> Any:
    return _Sms(task_id="send", phones="13800130001", content="【云通信】您好")


def _smtp(timeout: float) -> Any:
    return _Email(task_id="send", to="to@mail.example", from_email="from@mail.example", subject="s", html_content="h")


def _telegram(timeout: float) -> Any:
    return _Telegram(task_id="send", text="text", telegram_kwargs={"read_timeout": timeout})


def _http(timeout: float) -> Any:
    return _Http(task_id="send", endpoint="send", data="text=text", extra_options={"timeout": timeout})


def _sns(timeout: float) -> Any:
    return _Sns(
        task_id="send",
        target_arn="arn:aws:sns:eu-west-1:000000000000:topic",
        message="text",
        botocore_config={"read_timeout": timeout},
    )


# Ours and smtp's wait as long as their connection says.
_MAKERS: Mapping[str, Callable[[float], Any]] = {
    "EmailOperator": _smtp,
    "TelegramOperator": _telegram,
    "HttpOperator": _http,
    "SnsPublishOperator": _sns,
    "SmsGroupSendOperator": _sms,
}


def execute(operator: str, run_id: str, number: int, timeout: float, telegram: str) -> None:
    """Be the process of one try of a task.

    :param operator: the class.
    :param number: which try it is.
    :param timeout: seconds to wait for an answer.
    :param telegram: the address of Telegram's API, the one thing that its hook has no setting for.
    """
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
        os.dup2(nowhere.fileno(), sys.stderr.fileno())
    # What is waited between repeats is left out. How many there are is up to the operator.
    time.sleep = lambda seconds: None
    _TelegramHook.get_conn = lambda hook: _Bot(hook.token, base_url=telegram)
    ti = SimpleNamespace(
        dag_id="dag", run_id=run_id, task_id="send", map_index=-1, try_number=number, xcom_push=lambda **_: None
    )
    _MAKERS[operator](timeout).execute({"ti": ti})
