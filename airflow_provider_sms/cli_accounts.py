"""What `airflow-sms balance` does, and how any command finds the account of a connection. Knows no ledger."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from airflow_provider_sms import metrics
from airflow_provider_sms.cli import Exit, Result, UsageError
from airflow_provider_sms.gateway.client import SmsClient
from airflow_provider_sms.gateway.errors import AccountError

if TYPE_CHECKING:
    from airflow_provider_sms.gateway.account import Account


def find_account(conn_id: str) -> Account:
    """Look a connection up in the environment, the secrets backend and Airflow's database.

    :param conn_id: the connection's id.
    :raises UsageError: there is none.
    :raises AccountError: its settings are not usable.
    """
    from airflow.models import Connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException

    from airflow_provider_sms.hooks.sms import missing_connection, read_account

    # BaseHook.get_connection does not look into the database outside a task.
    try:
        connection = Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        if os.environ.get(variable := f"AIRFLOW_CONN_{conn_id.upper()}"):
            # Newer Airflow passes over a definition that it can not read.
            raise UsageError(_unreadable(conn_id, f"in {variable}")) from None
        raise UsageError(missing_connection(conn_id)) from None
    except ValueError as error:
        # What Airflow says here may quote the definition, key included.
        raise UsageError(_unreadable(conn_id, f"({type(error).__name__})")) from None
    return read_account(connection)


def _unreadable(conn_id: str, where: str) -> str:
    return (
        f"--conn-id: Airflow can not read the definition of {conn_id!r} {where}; write it as JSON with conn_type, "
        "login and password."
    )


def default_account() -> str | None:
    """Tell the App ID of `sms_default`: addresses for pushes without an account id stand for it.

    :returns: None if there is no such connection, or it can not be used.
    """
    try:
        return find_account("sms_default").app_id
    except (UsageError, AccountError):
        return None


def balance(args: argparse.Namespace) -> Result:
    """Tell how many points the account has left."""
    with SmsClient(find_account(args.conn_id)) as client:
        points = client.get_balance()
    metrics.AirflowStats(args.conn_id).balance(points)
    return Result(Exit.DONE, json.dumps({"remainPoint": points}) if args.output == "json" else str(points))
