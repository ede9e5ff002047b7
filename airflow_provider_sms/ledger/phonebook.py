"""Which recipient of a batch a push is about. Knows the tables; changes nothing.

A batch's phones do not change once it has been claimed, so they are read once, and kept eight bytes each: to look
for a phone among a batch's recipients in SQL takes longer than everything else about a push.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from airflow_provider_sms.gateway.phones import normalise
from airflow_provider_sms.ledger import lists
from airflow_provider_sms.ledger.errors import LedgerError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

MOST_PHONES = 2_000_000
_AT_ONCE = 20_000
_LONGEST = 16_000_000
# A phone has 35 bits; below it is its place in the batch.
_BITS = 28
_PLACE = (1 << _BITS) - 1
_LENGTH = 11

Key = tuple[int, int]
"""A batch as it was sent: its id and attempt."""


class Batch:
    """The phones of one batch.

    :param first_position: the position of its first recipient.
    :param numbers: for each recipient its phone and its place from there, in one number.
    """

    __slots__ = ("_first_position", "_numbers")

    def __init__(self, first_position: int, numbers: Iterable[int]) -> None:
        self._first_position = first_position
        self._numbers = array("Q", sorted(numbers))

    def __len__(self) -> int:
        return len(self._numbers)

    def find(self, mobile: str) -> int | None:
        """Find the recipient that a push means.

        :param mobile: as it came; it may show some of its digits as `*`.
        :returns: its position; None if none fits, or more than one does.
        """
        number = self._number(mobile)
        return None if number is None else self._first_position + (number & _PLACE)

    def phone(self, mobile: str) -> str | None:
        """The same as the eleven digits."""
        number = self._number(mobile)
        return None if number is None else str(number >> _BITS)

    def _number(self, mobile: str) -> int | None:
        if len(mobile) == _LENGTH and mobile.isdecimal():
            return self._whole(int(mobile))
        if "*" in mobile:
            return self._masked(mobile)
        phone = normalise(mobile)
        return None if phone is None else self._whole(int(phone))

    def _whole(self, phone: int) -> int | None:
        numbers = self._numbers
        at = bisect_left(numbers, phone << _BITS)
        if at < len(numbers) and numbers[at] >> _BITS == phone:
            return numbers[at]
        return None

    def _masked(self, mobile: str) -> int | None:
        if len(mobile) != _LENGTH or not mobile.replace("*", "0").isdecimal():
            return None
        numbers = self._numbers
        lowest = int(mobile.partition("*")[0].ljust(_LENGTH, "0"))
        highest = int(mobile.partition("*")[0].ljust(_LENGTH, "9"))
        near = numbers[bisect_left(numbers, lowest << _BITS) : bisect_left(numbers, (highest + 1) << _BITS)]
        visible = mobile.rpartition("*")[2]
        after, module = int(visible or "0"), 10 ** len(visible)
        fitting = [number for number in near if (number >> _BITS) % module == after]
        if mobile.strip("0123456789").strip("*"):
            # Digits between stars.
            shown = [(at, digit) for at, digit in enumerate(mobile) if digit != "*"]
            fitting = [each for each in fitting if all(str(each >> _BITS)[at] == digit for at, digit in shown)]
        return fitting[0] if len(fitting) == 1 else None


NOBODY = Batch(0, ())


class Phonebook:
    """The phones of batches, those that were asked for last.

    :param most: how many phones are kept.
    """

    def __init__(self, most: int = MOST_PHONES) -> None:
        self._most = most
        self._phones = 0
        self._batches: OrderedDict[Key, Batch] = OrderedDict()

    def get(self, key: Key) -> Batch | None:
        """A batch's phones; None if they are not read yet."""
        found = self._batches.get(key)
        if found is not None:
            self._batches.move_to_end(key)
        return found

    def read(self, kind: str, connection: Connection, keys: Sequence[Key]) -> None:
        """Read the phones of batches; of very many, as many as are kept.

        :param kind: the ledger's.
        """
        for part in self._in_parts(kind, connection, [key[0] for key in keys]):
            if kind == "mysql":
                self._read_one_by_one(connection, part)
                continue
            them, value = lists.one_of(kind, "ids", [row.id for row in part])
            for row in connection.execute(text(_PHONES[kind].format(them=them)), value):
                self._keep((row[0], row[1]), Batch(row[2], json.loads(f"[{row[3] or ''}]")))

    def _read_one_by_one(self, connection: Connection, rows: Sequence[Any]) -> None:
        # With the borders in another table MySQL reads the whole campaign for each batch.
        connection.execute(text(f"SET SESSION group_concat_max_len = {_LONGEST}"))
        for row in rows:
            of_batch = {"campaign": row.campaign_id, "first": row.first_position, "last": row.last_position}
            found = connection.execute(text(_PHONES_OF_ONE), of_batch).scalar() or ""
            if len(found) >= _LONGEST:
                raise LedgerError(f"Batch {row.id}: it has too many phones to be looked at on MySQL.")
            self._keep((row.id, row.attempt), Batch(row.first_position, json.loads(f"[{found}]")))

    def _in_parts(self, kind: str, connection: Connection, ids: Sequence[int]) -> Iterator[list[Any]]:
        """Cut batches so that no part holds Python for long."""
        them, value = lists.one_of(kind, "ids", ids)
        rows = connection.execute(text(_BATCHES.format(them=them)), value).all()
        part: list[Any] = []
        phones = total = 0
        for row in sorted(rows, key=lambda row: row.id):
            if part and phones + row.phones > _AT_ONCE:
                yield part
                part, phones = [], 0
            if total and total + row.phones > self._most:
                break
            part.append(row)
            phones += row.phones
            total += row.phones
        if part:
            yield part

    def _keep(self, key: Key, batch: Batch) -> None:
        if (old := self._batches.pop(key, None)) is not None:
            self._phones -= len(old)
        self._batches[key] = batch
        self._phones += len(batch)
        while self._phones > self._most and len(self._batches) > 1:
            self._phones -= len(self._batches.popitem(last=False)[1])


_OF_BATCH = """FROM sms_recipient person WHERE person.campaign_id = batch.campaign_id
AND person.position BETWEEN batch.first_position AND batch.last_position AND person.reason IS NULL"""
_BATCHES = "SELECT id, attempt, campaign_id, first_position, last_position, phones FROM sms_batch WHERE id {them}"
_PHONES = {
    "sqlite": f"""
SELECT batch.id, batch.attempt, batch.first_position, (SELECT group_concat(
    (CAST(person.phone AS INTEGER) << {_BITS}) | (person.position - batch.first_position), ',') {_OF_BATCH})
FROM sms_batch batch WHERE batch.id {{them}}""",  # noqa: S608 - names and numbers of our own
    # What is no number would end every look at the receipts of that batch.
    "postgresql": f"""
SELECT batch.id, batch.attempt, batch.first_position, (SELECT string_agg(CAST(
    (CAST(person.phone AS bigint) << {_BITS}) | (person.position - batch.first_position) AS text), ',') {_OF_BATCH}
    AND length(person.phone) = 11 AND person.phone !~ '[^0-9]')
FROM sms_batch batch WHERE batch.id {{them}}""",  # noqa: S608
}
_PHONES_OF_ONE = f"""
SELECT GROUP_CONCAT((CAST(phone AS UNSIGNED) << {_BITS}) | (position - :first) SEPARATOR ',')
FROM sms_recipient WHERE campaign_id = :campaign AND position BETWEEN :first AND :last AND reason IS NULL
"""  # noqa: S608
