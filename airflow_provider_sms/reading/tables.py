"""Files as tables: a CSV with a header row that names its columns."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Sequence

from airflow_provider_sms.gateway.errors import PhonesError
from airflow_provider_sms.gateway.phones import mask_inside
from airflow_provider_sms.reading.names import one_line

_COLUMN_SEPARATORS = ",;\t"


def column_of(name: str, lines: Iterator[str], column: str) -> Iterator[str]:
    """One column of a CSV, below its header row."""
    columns, rows = table_of(name, lines, [column])
    at = columns.index(column)
    for _, row in rows:
        if len(row) > len(columns) and any(map(str.strip, row[len(columns) :])):
            # An unquoted separator has moved the cells: this one may hold another person's phone.
            yield ",".join(row)
            continue
        cell = row[at].strip() if at < len(row) else ""
        if cell or any(map(str.strip, row)):
            yield cell


def table_of(
    name: str, lines: Iterator[str], wanted: Sequence[str]
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """A CSV's columns by name, and the rows below its header row.

    :param name: the file's, as it may be shown.
    :param lines: its lines.
    :param wanted: columns that must be there, once.
    :returns: the names, and the cells of each row with the number of its last line.
    :raises PhonesError: it is no such table.
    """
    before, header = next(((at, line) for at, line in enumerate(lines) if line.strip("\ufeff\t ")), (0, None))
    if header is None:
        raise PhonesError(f"phones: {name} is empty; it should begin with a header row that names its columns.")
    separator, columns = _columns(name, header.removeprefix("\ufeff"), wanted)
    return columns, _rows_below(name, lines, separator, before + 1)


def _rows_below(name: str, lines: Iterator[str], separator: str, before: int) -> Iterator[tuple[int, list[str]]]:
    # Not strict, a quotation mark too few would make one cell of all rows up to the next.
    rows = csv.reader(lines, delimiter=separator, strict=True)
    try:
        for row in rows:
            yield before + rows.line_num, row
    except csv.Error as error:
        raise PhonesError(
            f"phones: {name}, line {before + rows.line_num}: no row of a CSV ({error}); check its quotation marks."
        ) from None


def _columns(name: str, header: str, wanted: Sequence[str]) -> tuple[str, list[str]]:
    """The separator, and the columns' names; those that are asked for are among them once."""
    readings: list[tuple[int, int, str, list[str]]] = []
    for separator in _COLUMN_SEPARATORS:
        with contextlib.suppress(csv.Error):
            columns = [each.strip() for each in next(csv.reader([header], delimiter=separator, strict=True))]
            readings.append((sum(each in columns for each in wanted), len(columns), separator, columns))
    if not readings:
        raise PhonesError(f"phones: {name}: its header row can not be read; correct the quotation marks.")
    _, _, separator, columns = max(readings, key=lambda reading: reading[:2])
    for each in wanted:
        if each not in columns:
            if any(mask_inside(column) != column for column in columns):
                raise PhonesError(
                    f"phones: {name}: its first row is no header row, as a phone stands in it; write a row above it "
                    f"that names the columns, {one_line(each)!r} among them."
                )
            there = ", ".join(map(one_line, columns))
            raise PhonesError(f"phones: {name} has no column {one_line(each)!r}; its header row names: {there}.")
        if columns.count(each) > 1:
            raise PhonesError(f"phones: {name} has more than one column {one_line(each)!r}; give each its own name.")
    return separator, columns
