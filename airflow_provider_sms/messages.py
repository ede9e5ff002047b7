"""Where personal texts come from: rows of a list, a file or a SQL query, streamed.

Files and queries are those of `recipients`, and read alike, by `reading`; knows no ledger.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_sms.gateway.errors import MessagesError, MessagesSourceError, PhonesError
from airflow_provider_sms.gateway.phones import CHUNK, chunks, mask
from airflow_provider_sms.personal import CONTENT, Row
from airflow_provider_sms.reading.files import StoredFile, is_path
from airflow_provider_sms.reading.lines import lines_of
from airflow_provider_sms.reading.names import one_line
from airflow_provider_sms.reading.queries import Query, found_by
from airflow_provider_sms.reading.tables import table_of
from airflow_provider_sms.recipients import PhoneFile, PhoneQuery

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath, XComArg

PHONE = "phone"
"""The field that holds a row's phone, where nothing else is said."""

_EXPECTED = 'pairs of phone and text, or rows such as {"phone": "13800130001", "name": "…"}'


@dataclass(repr=False)
class MessageFile:
    """
    Rows of a CSV with a header row: one phone each, and the fields of its text. `.gz` is decompressed.

    .. code-block:: python

        SmsGroupSendOperator(
            task_id="send",
            messages=MessageFile("s3://bucket/{{ ds }}.csv", phone_column="mobile", conn_id="aws_default"),
            content="【云通信】{name}您好,本月账单{amount}元。",
        )

    :param path: a local path, a URL that Airflow's ObjectStoragePath takes, or such a path itself. (templated)
    :param phone_column: the name of the phone's column in the header row. (templated)
    :param conn_id: the connection for a URL. (templated)
    :param encoding: the file's encoding, such as `gb18030`; by default UTF-8, with or without a mark at its start.
    """

    template_fields: ClassVar[tuple[str, ...]] = ("path", "phone_column", "conn_id")

    path: str | PurePath | ObjectStoragePath | XComArg
    phone_column: str = PHONE
    conn_id: str | None = None
    encoding: str = "utf-8-sig"

    def __post_init__(self) -> None:
        self.path = PhoneFile(self.path).path

    def __str__(self) -> str:
        return str(self.file)

    def __repr__(self) -> str:
        return f"<{self}>"

    @property
    def file(self) -> PhoneFile:
        """The file alone."""
        return PhoneFile(self.path, self.phone_column, self.conn_id, self.encoding)


@dataclass(repr=False)
class MessageQuery:
    """
    Rows that a SQL query finds: one phone each, and the fields of its text, by the columns' names.

    .. code-block:: python

        SmsGroupSendOperator(
            task_id="send",
            messages=MessageQuery("SELECT phone, name, amount FROM bills", "warehouse"),
            content="【云通信】{name}您好,本月账单{amount}元。",
        )

    :param sql: the query. (templated)
    :param conn_id: a connection to a SQL database. (templated)
    :param parameters: what the query's placeholders stand for, in the way of the database's driver. (templated)
    :param phone_column: the name of the phone's column. (templated)
    """

    template_fields: ClassVar[tuple[str, ...]] = ("sql", "conn_id", "parameters", "phone_column")

    sql: str
    conn_id: str
    parameters: Mapping[str, Any] | Iterable[Any] | None = None
    phone_column: str = PHONE

    def __str__(self) -> str:
        return str(self.query)

    def __repr__(self) -> str:
        return f"<{self}>"

    @property
    def query(self) -> PhoneQuery:
        """The query alone."""
        return PhoneQuery(self.sql, self.conn_id, self.parameters)


def stream(messages: object, fields: Sequence[str]) -> Iterator[list[Row]]:
    """Read rows from wherever they are, without holding more than a chunk.

    :param messages: a MessageFile, a MessageQuery, a path of a CSV, or any iterable of pairs (phone, text) or of rows
        by field.
    :param fields: those that are wanted beside the phone; a file or a query must have all of them.
    :returns: rows in chunks of at most 10,000; none is empty.
    :raises MessagesError: they can not be read; of a file or query when the first chunk is asked for, or later.
    """
    if is_path(messages):
        messages = MessageFile(messages)
    if isinstance(messages, MessageQuery):
        return _in_words(_found_by(messages, fields))
    if isinstance(messages, MessageFile):
        return _in_words(_read_from(messages, fields))
    if isinstance(messages, str | bytes | bytearray | Mapping) or not isinstance(messages, Iterable):
        raise MessagesError(
            f"messages: expected {_EXPECTED}; a MessageFile or a MessageQuery; got {type(messages).__name__}."
        )
    return chunks(_rows(messages))  # type: ignore[return-value]


def rendered(messages: object, render: Callable[[Any], Any]) -> object:
    """Render the templates of a file or query in a copy of it, and the texts of rows in a list; fields are data.

    What an upstream task returned is not rendered either.

    :param messages: any value of an operator's `messages`.
    :param render: an operator's `render_template`, with all but the value.
    """
    if is_path(messages):
        messages = MessageFile(messages)
    if isinstance(messages, MessageFile | MessageQuery):
        return replace(messages, **{name: render(getattr(messages, name)) for name in messages.template_fields})
    if isinstance(messages, list | tuple):
        return [_rendered_row(row, render) for row in messages]
    return render(messages)


def shown(messages: object) -> str:
    """Say what messages these are, in a few words without personal data, and without reading a file or a database.

    :param messages: whatever `stream` takes.
    """
    if isinstance(messages, MessageFile | MessageQuery):
        return str(messages)
    if is_path(messages):
        return str(MessageFile(messages))
    if not isinstance(messages, list | tuple):
        return f"messages of a {type(messages).__name__}"
    try:
        first = next(iter(_rows(messages)), None)
    except MessagesError as error:
        return str(error)
    noun = "message" if len(messages) == 1 else "messages"
    return f"{len(messages)} {noun}" + ("" if first is None else f", first {mask(first.phone)}")


def _rendered_row(row: object, render: Callable[[Any], Any]) -> object:
    match row:
        case Mapping():
            return {name: render(value) if name == CONTENT else _resolved(value, render) for name, value in row.items()}
        case [phone, content]:
            return (_resolved(phone, render), render(content))
    return _resolved(row, render)


def _resolved(value: object, render: Callable[[Any], Any]) -> object:
    """Another task's output as what it is; anything else as it came."""
    return render(value) if hasattr(value, "resolve") and hasattr(value, "iter_references") else value


def _rows(items: Iterable[object]) -> Iterator[Row]:
    for number, item in enumerate(items, 1):
        match item:
            case Mapping():
                if PHONE not in item:
                    raise MessagesError(f"messages: row {number} has no field {PHONE!r}; give each row its phone.")
                yield Row(item[PHONE], item)
            case [phone, content]:
                yield Row(phone, {CONTENT: content})
            case _:
                raise MessagesError(
                    f"messages: row {number} is a {type(item).__name__}"
                    f"{f' of {len(item)}' if isinstance(item, list | tuple) else ''}; expected {_EXPECTED}."
                )


def _read_from(file: MessageFile, fields: Sequence[str]) -> Iterator[list[Row]]:
    phone = str(file.phone_column).strip()
    stored = StoredFile(file.path, file.conn_id, file.encoding)
    with contextlib.closing(lines_of(stored)) as lines:
        columns, rows = table_of(stored.name, chain.from_iterable(lines), list(dict.fromkeys([phone, *fields])))

        def found() -> Iterator[Row]:
            for line, row in rows:
                if len(row) > len(columns) and any(map(str.strip, row[len(columns) :])):
                    raise MessagesError(
                        f"messages: {stored.name}, line {line}: more cells than the header row has names; put "
                        "quotation marks around a cell that holds the separator."
                    )
                if any(map(str.strip, row)):
                    cells = dict(zip(columns, row, strict=False))
                    yield Row(cells.get(phone, "").strip(), cells)

        yield from chunks(found())  # type: ignore[misc]


def _found_by(query: MessageQuery, fields: Sequence[str]) -> Iterator[list[Row]]:
    phone, found = str(query.phone_column).strip(), Query(query.sql, query.conn_id, query.parameters)

    def fetched(cursor: Any) -> list[Row]:
        rows = cursor.fetchmany(CHUNK)
        columns = [each[0] for each in cursor.description or ()]
        there = ", ".join(map(one_line, columns))
        for wanted in dict.fromkeys([phone, *fields]):
            if columns.count(wanted) != 1:
                problem = "no column" if wanted not in columns else "more than one column"
                raise MessagesError(
                    f"messages: the {found.name} returns {problem} {wanted!r}; it returns: {there}. "
                    "Name each in the SELECT."
                )
        named = (row if isinstance(row, Mapping) else dict(zip(columns, row, strict=True)) for row in rows)
        return [Row(row[phone], row) for row in named]

    return found_by(found, fetched)


def _in_words(found: Iterator[list[Row]]) -> Iterator[list[Row]]:
    """What is wrong with the source, said of messages."""
    try:
        yield from found
    except PhonesError as error:
        kind = MessagesSourceError if error.passes_by_itself else MessagesError
        raise kind(f"messages: {error.what.removeprefix('phones: ')}") from None
