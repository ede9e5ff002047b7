"""The process that forks: imports everything once, then does the jobs that come in by line, and tells the results.

python -m tests.crash.driver        one job as JSON a line on stdin; one result a line on stdout
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import airflow_provider_sms.ledger
from airflow_provider_sms import settings
from airflow_provider_sms.hooks.sms import SmsHook
from tests.crash.books import Platform
from tests.crash.jobs import Job
from tests.crash.runs import run_all

DONE = "done"


def warm_up() -> None:
    """Do once, before anything is forked, what each worker would do by itself."""
    for name in ("gateway.transport", "opening", "planning", "recipients", "sending", "sources"):
        importlib.import_module(f"airflow_provider_sms.{name}")
    for module in pkgutil.iter_modules(airflow_provider_sms.ledger.__path__, "airflow_provider_sms.ledger."):
        importlib.import_module(module.name)
    importlib.import_module("alembic.command")
    for driver in ("psycopg2", "pymysql"):
        importlib.import_module(driver)
        importlib.import_module(f"sqlalchemy.dialects.{'postgresql' if driver == 'psycopg2' else 'mysql'}.{driver}")
    settings.namespace()
    settings.executors()
    os.environ["AIRFLOW_CONN_SMS_WARM"] = json.dumps({"conn_type": "sms", "login": "FAKE", "password": "FAKE-APP-KEY"})
    SmsHook("sms_warm").account  # noqa: B018


def read_job(line: str) -> Job:
    """Read a job as `asdict` and JSON make it."""
    fields: dict[str, Any] = json.loads(line)
    fields["platforms"] = tuple(Platform(**each) for each in fields["platforms"])
    fields["folder"] = Path(fields["folder"])
    return Job(**fields)


def main() -> None:
    # What Airflow prints goes elsewhere.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.set_inheritable(answers.fileno(), False)
    signal.signal(signal.SIGTERM, _leave)
    warm_up()
    for line in sys.stdin:
        for result in run_all(read_job(line)):
            print(json.dumps(asdict(result)), file=answers, flush=True)
        print(DONE, file=answers, flush=True)


def _leave(number: int, frame: object) -> NoReturn:
    # Its workers die with it.
    os._exit(128 + number)


if __name__ == "__main__":
    main()
