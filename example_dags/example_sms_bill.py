"""A monthly bill: rows from a SQL database, a text for each customer.

The database is a SQLite file that the first task makes; with one of your own, `MessageQuery` reads it row by row.
Needs a connection `sms_simulator`; `airflow-sms simulator` prints one. Unscheduled: nobody is texted by accident.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Param, task

from airflow_provider_sms.operators.sms import SmsGroupSendOperator

CONNECTION = "sms_simulator"

CUSTOMERS = """
CREATE TABLE bills (phone TEXT, name TEXT, month TEXT, amount NUMERIC);
INSERT INTO bills VALUES
    ('13800130061', '王芳', '2030-01', 128.5), ('13800130062', '李伟', '2030-01', 96),
    ('13800130063', '张敏', '2030-01', 0), ('13800130061', '王芳', '2030-02', 88);
"""

with DAG(
    dag_id="example_sms_bill",
    schedule=None,
    catchup=False,
    tags=["example", "sms"],
    doc_md=__doc__,
    params={"month": Param("2030-01", type="string", title="Month")},
) as dag:

    @task
    def find_bills(params: dict[str, Any]) -> list[dict[str, Any]]:
        """Ask the database: who is to pay how much."""
        with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(Path(folder) / "bills.db")) as database:
            database.row_factory = sqlite3.Row
            database.executescript(CUSTOMERS)
            query = "SELECT phone, name, printf('%.2f', amount) AS amount FROM bills WHERE month = ? AND amount > 0"
            return [dict(row) for row in database.execute(query, (params["month"],))]

    # With Airflow's connection to a database, in the place of the task:
    #     messages=MessageQuery("SELECT phone, name, amount FROM bills WHERE month = %(month)s", "billing",
    #                           {"month": "{{ params.month }}"})
    SmsGroupSendOperator(
        task_id="send",
        sms_conn_id=CONNECTION,
        messages=find_bills(),
        content="【云通信】{name}您好,您{{ params.month }}月账单为{amount}元,请及时缴费。",
        campaign_key="bills {{ params.month }}",
        max_in_flight=4,
    )
