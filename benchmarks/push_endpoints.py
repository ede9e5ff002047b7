"""What the receiver is measured against: the usual FastAPI endpoint with form fields, empty or with a commit a push.

uvicorn benchmarks.push_endpoints:empty
BENCHMARK_LEDGER=sqlite:///… uvicorn benchmarks.push_endpoints:commit_each
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Annotated

from fastapi import FastAPI, Form
from fastapi.responses import PlainTextResponse
from sqlalchemy import insert

from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.schema import receipt_table

PATH = "/sms/push"

empty = FastAPI()
commit_each = FastAPI()

_Field = Annotated[str, Form()]
_INSERT = insert(receipt_table)
_ledgers: list[Ledger] = []


@empty.post(PATH)
async def take(mobile: _Field, taskid: _Field, status: _Field, code: _Field, receivetime: _Field) -> PlainTextResponse:
    """Reads the fields, and forgets them."""
    return PlainTextResponse("ok")


# Not `async`: FastAPI gives it a thread of its forty, as one would have it for a database that blocks.
@commit_each.post(PATH)
def store(mobile: _Field, taskid: _Field, status: _Field, code: _Field, receivetime: _Field) -> PlainTextResponse:
    """Stores the fields in a transaction of their own, as ours are stored."""
    digest = blake2b(f"{status}\0{code}\0{receivetime}".encode(), digest_size=12).hexdigest()
    row = {
        "mobile": mobile,
        "taskid": taskid,
        "status": status,
        "code": code,
        "receivetime": receivetime,
        "digest": digest,
        "received_at": datetime.now(UTC).replace(tzinfo=None),
    }
    with _ledger().writing() as connection:
        connection.execute(_INSERT, row)
    return PlainTextResponse("ok")


def _ledger() -> Ledger:
    if not _ledgers:
        _ledgers.append(Ledger(read_url(os.environ["BENCHMARK_LEDGER"])))
    return _ledgers[0]
