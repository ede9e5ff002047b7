"""How `airflow-sms status` and `export` show what receipts and replies say: texts and cells; asks nobody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_provider_sms.cli_files import harmless
from airflow_provider_sms.gateway.receipts import CAUSES

if TYPE_CHECKING:
    from airflow_provider_sms.ledger.deliveries import Deliveries
    from airflow_provider_sms.ledger.handed_in import Heard
    from airflow_provider_sms.ledger.views import Shared

HEARD = ("outcome", "code", "cause", "receivetime", "contradicted")
"""The columns of `heard_cells`."""


def delivery_lines(delivered: Deliveries, replies: int) -> Iterator[str]:
    """Show a campaign's counts of receipts and replies; nothing if nothing can have come."""
    if delivered.accepted or delivered.final or delivered.unknown:
        parts = [f"{delivered.delivered} delivered", _failed(delivered), f"{delivered.unknown} unknown"]
        parts += [f"{delivered.missing} without a receipt yet"]
        if delivered.contradicted:
            parts.append(f"{delivered.contradicted} with a later receipt that says otherwise")
        yield f"receipts: {', '.join(parts)}"
    if replies:
        yield f"replies:  {replies}"


def _failed(delivered: Deliveries) -> str:
    most_first = sorted(delivered.failed.items(), key=lambda each: (-each[1], each[0]))
    causes = "; ".join(f"{count} {CAUSES.get(cause, cause)}" for cause, count in most_first)
    return f"{delivered.failed_total} failed{f' ({causes})' if causes else ''}"


def delivery_data(delivered: Deliveries, replies: int) -> dict[str, object]:
    """The same as JSON data."""
    return {
        "delivered": delivered.delivered,
        "failed": delivered.failed_total,
        "failedByCause": dict(sorted(delivered.failed.items())),
        "unknown": delivered.unknown,
        "withoutReceipt": delivered.missing,
        "contradicted": delivered.contradicted,
        "replies": replies,
    }


def shared_line(shared: Shared) -> str:
    """Show a taskId that two batches have."""
    return (
        f"  batch {shared.number}: taskId {shared.taskid} is also that of batch {shared.other_number} of campaign "
        f"{shared.campaign}. One of them was settled with the wrong one; `airflow-sms resolve … --undo` takes that "
        "back. Until then a receipt counts for the batch that has its phone, for one of them if both have."
    )


def shared_data(shared: Shared) -> dict[str, object]:
    """The same as JSON data."""
    return {
        "batch": shared.number,
        "taskId": shared.taskid,
        "otherCampaign": shared.campaign,
        "otherBatch": shared.other_number,
    }


def heard_cells(heard: Heard | None) -> tuple[str, ...]:
    """What receipts say of one phone, in the columns of `HEARD`."""
    if heard is None:
        return ("",) * len(HEARD)
    contradicted = "yes" if heard.is_contradicted else ""
    return heard.outcome, harmless(heard.code or ""), heard.cause, harmless(heard.receivetime or ""), contradicted
