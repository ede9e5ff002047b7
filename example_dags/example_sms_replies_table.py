"""Replies into a table: whatever people answer, to whatever text, is written into a SQL database, each reply once.

A reply is handed on again if the task fails, or its worker dies, before the end of the `with` block. So each is
written under its `id`, and the second time it replaces itself.

Needs a connection `sms_simulator`, a receiver that hears it (`airflow-sms simulator` prints the connection, and
`airflow-sms push-url` an address for its `--push-url`), and a connection `example_sms_database` to a SQL database with

    CREATE TABLE sms_replies (
        id VARCHAR(20) PRIMARY KEY, phone VARCHAR(64), content TEXT, received_at TIMESTAMP, campaign VARCHAR(1200)
    )

Unscheduled: nothing is read by accident. It sends nothing.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import DAG, BaseHook, task

from airflow_provider_sms.hooks.sms import SmsHook

with DAG(
    dag_id="example_sms_replies_table",
    schedule=None,  # a table of your own: "*/5 * * * *", or by an asset, as in example_sms_replies
    catchup=False,
    tags=["example", "sms"],
    doc_md=__doc__,
) as dag:

    @task
    def write_replies() -> int:
        """Write what has come since the last run; how many these were."""
        from sqlalchemy import text

        database = BaseHook.get_connection("example_sms_database").get_hook()
        # Texts and phones are personal data: they shall not be in the message of an error.
        engine = database.get_sqlalchemy_engine({"hide_parameters": True})
        with SmsHook("sms_simulator").claim_replies("example_sms_replies_table") as replies:
            rows = [
                {
                    "id": reply.id,
                    "phone": reply.phone,
                    "content": reply.content,
                    "received_at": f"{reply.received_at:%Y-%m-%d %H:%M:%S}",  # UTC
                    "campaign": reply.campaign,
                }
                for reply in replies
            ]
            if rows:
                with engine.begin() as connection:
                    connection.execute(text("DELETE FROM sms_replies WHERE id = :id"), rows)
                    connection.execute(
                        text("INSERT INTO sms_replies VALUES (:id, :phone, :content, :received_at, :campaign)"), rows
                    )
        return len(rows)

    write_replies()
