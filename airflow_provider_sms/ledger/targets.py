"""What a sensor waits for, found by the names that people use. Reads the ledger, changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from airflow_provider_sms.ledger import views
from airflow_provider_sms.ledger.database import Ledger, aware
from airflow_provider_sms.ledger.errors import LedgerDeafError, LedgerUsageError
from airflow_provider_sms.ledger.parts import in_parts
from airflow_provider_sms.ledger.schema import BatchState, batch_table, campaign_table, ledger_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Target:
    """A campaign, or batches. Times are aware.

    :param name: the campaign's, or the taskIds with commas between them.
    :param campaign_id: None: batches.
    :param taskids: of the batches; none: a campaign.
    :param now: by the database.
    :param begun_at: when the campaign was entered, or the first of the batches' campaigns.
    :param accepted_at: when the platform accepted the last batch; None if it has accepted none.
    :param send_time: when the last of the texts shall go out, if not at once.
    :param is_planned: the plan is stored; before that nobody knows how many phones it has.
    :param first_push_at: when the first push came into this ledger.
    """

    name: str
    campaign_id: int | None
    batch_ids: tuple[int, ...]
    taskids: tuple[str, ...]
    now: datetime
    begun_at: datetime
    accepted_at: datetime | None
    send_time: datetime | None
    is_planned: bool
    first_push_at: datetime | None

    @property
    def sent_at(self) -> datetime | None:
        """When the last accepted text went out, or goes out; None if none was accepted."""
        if self.accepted_at is None:
            return None
        return self.accepted_at if self.send_time is None else max(self.accepted_at, self.send_time)

    def deadline(self, patience: timedelta) -> datetime:
        """When a receipt that has not come is not waited for any more.

        :param patience: how long after the last text went out.
        """
        begun = self.begun_at if self.send_time is None else max(self.begun_at, self.send_time)
        return (self.sent_at or begun) + patience

    def check_heard(self, patience: timedelta) -> datetime | None:
        """See that pushes come at all.

        :param patience: how long after the last text went out the very first push may take.
        :returns: when to look again; None if a push has come, or nothing is accepted yet.
        :raises LedgerDeafError: none has come, in all that time.
        """
        if self.first_push_at is not None or self.sent_at is None:
            return None
        if self.now < (due := self.sent_at + patience):
            return due
        raise LedgerDeafError(
            f"A receiver has run on this ledger, but no push has ever come, and the last text went out more than "
            f"{patience} ago: waiting would be in vain. `airflow-sms push-url` prints the address to paste into the "
            "platform's console, and says how to have it answered."
        )


def campaign(ledger: Ledger, wanted: str, namespace: str) -> Target:
    """Find a campaign that a try has begun.

    :param wanted: its name, key or id.
    :param namespace: `[sms] namespace`.
    :raises LedgerUsageError: there is none.
    """
    found = [each for each in views.find(ledger, wanted) if not each.is_draft]
    ours = [each for each in found if each.namespace == namespace]
    if not ours:
        others = sorted({repr(each.namespace) for each in found})
        raise LedgerUsageError(
            f"campaign: the ledger knows no campaign {wanted!r}"
            + (f" of namespace {namespace!r}, but one of {', '.join(others)}" if others else "")
            + "; `airflow-sms campaigns` lists them. A campaign is there as soon as its send has begun."
        )
    heading = ours[-1]
    table = batch_table
    of_campaign = (table.c.campaign_id == heading.id, table.c.state == BatchState.ACCEPTED)
    with ledger.reading() as connection:
        accepted_at = connection.execute(select(func.max(table.c.settled_at)).where(*of_campaign)).scalar()
        return Target(
            heading.name,
            heading.id,
            (),
            (),
            **_times(ledger, connection),
            begun_at=heading.created_at,
            accepted_at=aware(accepted_at),
            send_time=_later(heading.send_time, heading.scheduled_for),
            is_planned=heading.planned_at is not None,
        )


def batches(ledger: Ledger, taskids: Sequence[str]) -> Target:
    """Find batches by the platform's ids.

    :raises LedgerUsageError: one is not there.
    """
    table, head = batch_table, campaign_table
    wanted = tuple(dict.fromkeys(taskids))
    query = select(table.c.id, table.c.taskid, table.c.settled_at, head.c.created_at, head.c.send_time)
    query = query.add_columns(head.c.scheduled_for)
    query = query.select_from(table.join(head, head.c.id == table.c.campaign_id))
    rows: list[Any] = []
    with ledger.reading() as connection:
        times = _times(ledger, connection)
        for some in in_parts(wanted, _AT_ONCE):
            accepted = query.where(table.c.taskid.in_(some), table.c.state == BatchState.ACCEPTED)
            rows += connection.execute(accepted.order_by(table.c.id)).all()
    # Where two batches have one taskId, its receipts are counted for the older one.
    rows = list({row.taskid: row for row in reversed(rows)}.values())
    if missing := sorted(set(wanted) - {row.taskid for row in rows}):
        raise LedgerUsageError(
            f"batch_id: the ledger knows no accepted batch {', '.join(map(repr, missing[:5]))}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            + "; `airflow-sms status CAMPAIGN` shows a campaign's."
        )
    send_times = [time for row in rows for time in (row.send_time, row.scheduled_for) if time is not None]
    return Target(
        ", ".join(wanted),
        None,
        tuple(row.id for row in rows),
        wanted,
        **times,
        begun_at=aware(min(row.created_at for row in rows)),
        accepted_at=aware(max(row.settled_at for row in rows)),
        send_time=aware(max(send_times, default=None)),
        is_planned=True,
    )


def _later(*times: datetime | None) -> datetime | None:
    return max((time for time in times if time is not None), default=None)


def _times(ledger: Ledger, connection: Connection) -> dict[str, Any]:
    query = select(ledger.clock.label("now"), ledger_table.c.first_push_at)
    row = connection.execute(query).one()
    return {"now": aware(row.now), "first_push_at": aware(row.first_push_at)}
