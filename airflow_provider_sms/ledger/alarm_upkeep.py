"""Old alarms: what is kept of them, and what not. Knows no wire and no Airflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, delete, exists, func, insert, select, update

from airflow_provider_sms.ledger.database import Ledger, naive
from airflow_provider_sms.ledger.schema import (
    AlarmKind,
    AlarmState,
    alarm_gate_table,
    alarm_phone_table,
    alarm_table,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_AT_ONCE = 500
_NO_PHONE = ""


@dataclass(slots=True)
class Old:
    """Old alarms.

    :param alarms: that lose their texts and phones.
    :param untold: alarms that were held back, or begun and left, and no text is known to have told of; one counts
        for each of its phones.
    """

    alarms: int = 0
    untold: int = 0


def purge(ledger: Ledger, before: datetime) -> Old:
    """Remove the texts and phones of old alarms; their keys stay, so that none of them goes out again.

    So does how many of an alarm's phones were told nothing.

    :param before: aware.
    """
    table, gate = alarm_phone_table, alarm_gate_table
    removed = Old()
    while True:
        with ledger.writing() as connection:
            query = select(alarm_table.c.id).where(_is_old(before)).order_by(alarm_table.c.id).limit(_AT_ONCE)
            ids = list(connection.execute(query).scalars())
            if not ids:
                # None of them is held now: who takes it makes it first, in a transaction of its own.
                is_used = exists().where(table.c.phone == gate.c.phone)
                connection.execute(delete(gate).where(~is_used))
                return removed
            untold = _untold_rows(connection, ids)
            connection.execute(delete(table).where(table.c.alarm_id.in_(ids)))
            if untold:
                connection.execute(insert(table), untold)
            connection.execute(update(alarm_table).where(alarm_table.c.id.in_(ids)).values(content=None))
        removed.alarms += len(ids)
        removed.untold += sum(row["others"] for row in untold)


def count_old(connection: Connection, before: datetime) -> Old:
    """Count what `purge` would remove."""
    alarms = connection.execute(select(func.count()).select_from(alarm_table).where(_is_old(before))).scalar_one()
    untold = connection.execute(_untold(func.sum(_TOLD_BY_IT)).where(_is_old(before))).scalar()
    return Old(int(alarms), int(untold or 0))


_TOLD_BY_IT: Any = case(
    (alarm_table.c.kind == AlarmKind.FLUSH, alarm_phone_table.c.others), else_=alarm_phone_table.c.others + 1
)


def _untold(*columns: Any) -> Any:
    table = alarm_phone_table
    return select(*columns).where(
        table.c.alarm_id == alarm_table.c.id, table.c.state.in_((AlarmState.HELD, AlarmState.TAKEN))
    )


def _untold_rows(connection: Connection, ids: Sequence[int]) -> list[dict[str, Any]]:
    alarm = alarm_table
    query = _untold(alarm.c.id, alarm.c.namespace, func.sum(_TOLD_BY_IT)).where(alarm.c.id.in_(ids))
    return [
        {
            "alarm_id": alarm_id,
            "phone": _NO_PHONE,
            "namespace": namespace,
            "state": AlarmState.UNTOLD.value,
            "others": int(count),
        }
        for alarm_id, namespace, count in connection.execute(query.group_by(alarm.c.id, alarm.c.namespace))
    ]


def _is_old(before: datetime) -> Any:
    """Handed in before that time, and not purged yet."""
    return and_(alarm_table.c.created_at < naive(before), alarm_table.c.content.is_not(None))
