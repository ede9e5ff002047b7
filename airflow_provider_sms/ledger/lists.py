"""Many values in one parameter, as each database takes them best. Knows SQL; knows nothing of SMS.

A parameter for each would meet limits of number, and take the driver's time; a row for each costs a thread that runs
beside an event loop one wait for Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterable


def one_of(kind: str, name: str, ids: Iterable[int]) -> tuple[str, dict[str, str]]:
    """Write SQL for "is one of these".

    :param kind: the ledger's.
    :param name: a name for the parameter, such as `ids`.
    :param ids: whole numbers.
    :returns: what follows the column in a `text()`, and its parameter.
    """
    numbers = ",".join(map(str, map(int, ids)))
    if kind == "sqlite":
        return f"IN (SELECT value FROM json_each(:{name}))", {name: f"[{numbers}]"}  # noqa: S608 - a name of our own
    if kind == "postgresql":
        return f"= ANY (CAST(:{name} AS bigint[]))", {name: f"{{{numbers}}}"}
    # Nothing but digits and commas; an empty list is no list for MySQL.
    return f"IN ({numbers or 'NULL'})", {}


def numbers(values: Iterable[int | None]) -> str:
    """Write whole numbers as PostgreSQL's array."""
    return "{" + ",".join(["NULL" if each is None else str(each) for each in values]) + "}"


def words(values: Iterable[str]) -> str:
    """Write words of our own, without quotes and backslashes, as PostgreSQL's array."""
    return "{" + ",".join([f'"{each}"' for each in values]) + "}"


def compact(value: object) -> str:
    """Write JSON without a blank."""
    return json.dumps(value, separators=(",", ":"))
