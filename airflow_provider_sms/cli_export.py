"""What `airflow-sms export` does: it writes what became of every phone of a campaign. The phones are whole."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from airflow_provider_sms.cli import Log, Result, UsageError
from airflow_provider_sms.cli_campaigns import find
from airflow_provider_sms.cli_deliveries import HEARD, heard_cells
from airflow_provider_sms.cli_files import csv_text, harmless, written
from airflow_provider_sms.cli_shown import beijing, iso, message
from airflow_provider_sms.ledger import handed_in
from airflow_provider_sms.ledger.schema import BatchState
from airflow_provider_sms.opening import open_ledger

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.database import Ledger
    from airflow_provider_sms.ledger.handed_in import Item

_HEADER = (
    *("position", "phone", "state", "reason", "batch", "taskid", "account", "settled_at", "message"),
    *HEARD,
)


def export(args: argparse.Namespace) -> Result:
    """Write what became of every phone of a campaign."""
    ledger = open_ledger(Log())
    try:
        heading = find(ledger, args.campaign)
        if heading.purged_at is not None:
            raise UsageError(
                f"CAMPAIGN: its phones were removed on {beijing(heading.purged_at)} Beijing time; "
                "`airflow-sms status` still shows the counts."
            )
    except BaseException:
        ledger.close()
        raise
    return written(args.file, _all_phones(ledger, heading.id))


def _all_phones(ledger: Ledger, campaign_id: int) -> Iterator[str]:
    with closing(ledger):
        yield csv_text([_HEADER])
        for chunk in handed_in.items(ledger, campaign_id):
            yield csv_text(map(_row, chunk))


def _row(item: Item) -> tuple[object, ...]:
    return *_sent_cells(item), *heard_cells(item.heard)


def _sent_cells(item: Item) -> tuple[object, ...]:
    batch = item.batch
    if item.reason is not None:
        return (item.position, harmless(item.phone), "excluded", item.reason, "", "", "", "", "")
    if batch is None:
        return (item.position, harmless(item.phone), "not_sent", "", "", "", "", "", "")
    state = "not_sent" if batch.state is BatchState.PLANNED else batch.state.value
    reason = "" if batch.state is BatchState.ACCEPTED else batch.refusal or ""
    settled = "" if batch.settled_at is None else iso(batch.settled_at)
    said = harmless(message(batch))
    return (
        item.position, item.phone, state, reason, batch.number, batch.taskid, batch.account, settled, said
    )  # fmt: skip
