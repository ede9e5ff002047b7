"""What Alembic runs: the migrations, on the connection that `versions.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from airflow_provider_sms.ledger.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
