"""Alarms in the ledger: each once, so many a phone and window, the rest counted. Knows no wire and no Airflow.

Of all who ask at once, as many get a place as there are: whoever decides about a phone holds its row in
`sms_alarm_gate`. A text itself is a campaign; what became of it `alarm_ends` asks of that campaign's batches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, insert, select, update

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.keys import text_hash
from airflow_provider_sms.ledger.parts import in_parts
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


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm, as it is to be kept.

    :param key: what makes it the same alarm; hashed before it is stored.
    :param name: what its campaigns' names begin with; says where it comes from, and nothing personal.
    :param content: the text as it goes out if it counts no others.
    """

    key: str
    namespace: str
    name: str
    content: str = field(repr=False)

    @property
    def key_hash(self) -> str:
        """The key as the ledger looks it up."""
        return text_hash(f"{self.namespace}\n{self.key}")


@dataclass(frozen=True, slots=True)
class Share:
    """Phones that get one text of an alarm: those for which as many others were held back.

    :param kind: whether it is an alarm's own text, or tells of those held back alone.
    :param others: how many others the text counts.
    """

    alarm_id: int
    kind: AlarmKind
    name: str
    content: str = field(repr=False)
    others: int
    phones: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Taken:
    """What the ledger says to an alarm.

    :param is_new: nobody has handed it in before.
    :param shares: what is to be sent, now or still.
    :param held: phones that have had their texts: their next one counts this alarm.
    """

    is_new: bool
    shares: tuple[Share, ...]
    held: int = 0


class Alarms:
    """The alarms of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def take(self, alarm: Alarm, phones: Collection[str], limit: int, window: timedelta) -> Taken:
        """Hand an alarm in: take a place among each phone's texts, or be counted into its next one.

        :param phones: eleven digits each.
        :param limit: texts that a phone gets in a window at most.
        :raises LedgerUnreachableError: repeat this; it finds what it may have left behind.
        """
        ordered = sorted(set(phones))
        with self._ledger.holding():
            try:
                return self._take(alarm, ordered, limit, window)
            except _NoGateError:
                self._make_gates(ordered)
            try:
                return self._take(alarm, ordered, limit, window)
            except _NoGateError:
                raise LedgerUnreachableError("Phones were just removed from the ledger (purge).") from None

    def _take(self, alarm: Alarm, ordered: Sequence[str], limit: int, window: timedelta) -> Taken:
        with self._ledger.writing() as connection:
            # First of all: MySQL's inserts of one key lock each other out if the first of them is taken back.
            if pass_gates(connection, ordered) < len(ordered):
                raise _NoGateError
            alarm_id = self._enter(connection, alarm, AlarmKind.ALARM)
            if alarm_id is None:
                return Taken(False, self._unfinished(connection, alarm_table.c.key_hash == alarm.key_hash))
            now = self._ledger.now(connection)
            free = self._with_a_place(connection, ordered, limit, now - window)
            others = _told(connection, alarm_id, alarm.namespace, free)
            rows = [
                _row(alarm_id, phone, alarm.namespace, now if phone in free else None, others.get(phone, 0))
                for phone in ordered
            ]
            connection.execute(insert(alarm_phone_table), rows)
            kind = AlarmKind.ALARM
            shares = _shares((alarm_id, kind, alarm.name, alarm.content, others.get(each, 0), each) for each in free)
            return Taken(True, shares, held=len(ordered) - len(free))

    def flush(self, namespace: str, name: str) -> tuple[Share, ...]:
        """Take all that is held back, to be told in one text a phone.

        :param name: what the campaigns' names begin with.
        :returns: a share for each set of phones with the same count and the same last alarm, whose content it has;
            empty if nothing is held back, or another process has just taken it.
        :raises LedgerUnreachableError: repeat this.
        """
        table = alarm_phone_table
        is_held = and_(table.c.state == AlarmState.HELD, table.c.namespace == namespace)
        shares: list[Share] = []
        last = ""
        while True:
            query = select(table.c.phone).where(is_held, table.c.phone > last).distinct().order_by(table.c.phone)
            with self._ledger.reading() as connection:
                phones = list(connection.execute(query.limit(_AT_ONCE)).scalars())
            if not phones:
                return tuple(shares)
            last = phones[-1]
            shares += self._flush_some(namespace, name, phones)

    def held(self, namespace: str) -> dict[str, int]:
        """Count what is held back, by phone."""
        table = alarm_phone_table
        query = select(table.c.phone, func.count()).where(
            table.c.state == AlarmState.HELD, table.c.namespace == namespace
        )
        with self._ledger.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query.group_by(table.c.phone))}

    def unfinished(self, namespace: str, older_than: timedelta) -> tuple[Share, ...]:
        """Find texts whose process has ended without a word.

        :param older_than: a younger one may still be on its way.
        """
        table = alarm_table
        with self._ledger.reading() as connection:
            before = self._ledger.now(connection) - older_than
            return self._unfinished(connection, and_(table.c.namespace == namespace, table.c.created_at < before))

    def _make_gates(self, phones: Sequence[str]) -> None:
        """Before the transaction that holds them: two that make the same ones inside of it may lock each other out."""
        table = alarm_gate_table
        missing = set(phones)
        with self._ledger.reading() as connection:
            for some in in_parts(phones):
                missing.difference_update(
                    connection.execute(select(table.c.phone).where(table.c.phone.in_(some))).scalars()
                )
        if missing:
            with self._ledger.writing() as connection:
                connection.execute(self._ledger.insert_new(table), [{"phone": phone} for phone in sorted(missing)])

    def _enter(self, connection: Connection, alarm: Alarm, kind: AlarmKind) -> int | None:
        """Store the alarm.

        :returns: its id, or None if it is there.
        """
        values = {
            "key_hash": alarm.key_hash,
            "namespace": alarm.namespace,
            "name": alarm.name,
            "kind": kind.value,
            "content": alarm.content,
            "created_at": self._ledger.clock,
        }
        result = connection.execute(self._ledger.insert_new(alarm_table).values(values))
        if not result.rowcount:
            return None
        (alarm_id,) = result.inserted_primary_key or (0,)
        return int(alarm_id)

    def _with_a_place(self, connection: Connection, phones: Sequence[str], limit: int, since: datetime) -> list[str]:
        table = alarm_phone_table
        taken: dict[str, int] = {}
        for some in in_parts(phones):
            query = select(table.c.phone, func.count()).where(table.c.phone.in_(some), table.c.slot_at > since)
            taken.update({row[0]: row[1] for row in connection.execute(query.group_by(table.c.phone))})
        return [phone for phone in phones if taken.get(phone, 0) < limit]

    def _unfinished(self, connection: Connection, which: Any) -> tuple[Share, ...]:
        alarm, table = alarm_table, alarm_phone_table
        query = (
            select(alarm.c.id, alarm.c.kind, alarm.c.name, alarm.c.content, table.c.others, table.c.phone)
            .where(table.c.alarm_id == alarm.c.id, table.c.state == AlarmState.TAKEN, alarm.c.content.is_not(None))
            .where(which)
            .order_by(alarm.c.id, table.c.phone)
        )
        return _shares((each[0], AlarmKind(each[1]), *each[2:]) for each in connection.execute(query))

    def _flush_some(self, namespace: str, name: str, phones: Sequence[str]) -> list[Share]:
        table = alarm_phone_table
        shares: list[Share] = []
        with self._ledger.writing() as connection:
            pass_gates(connection, phones)
            query = (
                select(table.c.phone, func.count(), func.max(table.c.alarm_id))
                .where(table.c.state == AlarmState.HELD, table.c.namespace == namespace, table.c.phone.in_(phones))
                .group_by(table.c.phone)
            )
            alike: dict[tuple[int, int], list[str]] = defaultdict(list)
            for phone, count, newest in connection.execute(query):
                alike[count, newest].append(phone)
            now = self._ledger.now(connection)
            for (count, newest), some in sorted(alike.items()):
                last = select(alarm_table.c.content).where(alarm_table.c.id == newest)
                content = connection.execute(last).scalar() or ""
                digest = text_hash("\n".join(sorted(some)))[:8]
                alarm = Alarm(f"flush {newest} {count} {digest} {now}", namespace, f"{name} {newest}-{digest}", content)
                alarm_id = self._enter(connection, alarm, AlarmKind.FLUSH)
                if alarm_id is None:
                    continue
                _told(connection, alarm_id, namespace, some)
                rows = [_row(alarm_id, phone, namespace, now, count) for phone in sorted(some)]
                connection.execute(insert(table), rows)
                shares.append(Share(alarm_id, AlarmKind.FLUSH, alarm.name, content, count, tuple(sorted(some))))
        return shares


class _NoGateError(Exception):
    """A phone has no gate yet."""


def _row(alarm_id: int, phone: str, namespace: str, slot_at: datetime | None, others: int) -> dict[str, Any]:
    state = AlarmState.HELD if slot_at is None else AlarmState.TAKEN
    names = ("alarm_id", "phone", "namespace", "state", "slot_at", "others", "told_in")
    return dict(zip(names, (alarm_id, phone, namespace, state.value, slot_at, others, None), strict=True))


def pass_gates(connection: Connection, phones: Sequence[str]) -> int:
    """Hold the phones' gates until the end of the transaction, in one order everywhere.

    :returns: how many there are.
    """
    table, held = alarm_gate_table, 0
    for some in in_parts(phones):
        query = select(table.c.phone).where(table.c.phone.in_(some)).order_by(table.c.phone)
        held += len(connection.execute(query.with_for_update()).all())
    return held


def _told(connection: Connection, alarm_id: int, namespace: str, phones: Sequence[str]) -> dict[str, int]:
    """Let an alarm's text count what is held back; whoever calls this holds the phones' gates.

    :returns: how many others, by phone.
    """
    table = alarm_phone_table
    counts: dict[str, int] = {}
    for some in in_parts(phones):
        held = and_(table.c.state == AlarmState.HELD, table.c.namespace == namespace, table.c.phone.in_(some))
        query = select(table.c.phone, func.count()).where(held).group_by(table.c.phone)
        found = {row[0]: row[1] for row in connection.execute(query)}
        if found:
            connection.execute(update(table).where(held).values(state=AlarmState.TOLD, told_in=alarm_id))
        counts.update(found)
    return counts


def _shares(rows: Iterable[tuple[Any, ...]]) -> tuple[Share, ...]:
    """Put phones together that get the same text; the phone is the last of each row."""
    alike: dict[Any, list[str]] = defaultdict(list)
    for *which, phone in rows:
        alike[tuple(which)].append(phone)
    return tuple(
        Share(alarm_id, kind, name, content, others, tuple(phones))
        for (alarm_id, kind, name, content, others), phones in sorted(alike.items())
    )
