"""Where phones come from when they are not a list: a file, an object-storage path or a SQL query, streamed.

Other sources are classes elsewhere, see `PhoneSource`. How they are read is in `reading`; knows no ledger.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_sms.gateway.errors import PhonesError
from airflow_provider_sms.gateway.phones import Sieve, chunks, items, mask, none_to_send_to
from airflow_provider_sms.reading.files import StoredFile, is_path, opens_itself
from airflow_provider_sms.reading.lines import lines_of
from airflow_provider_sms.reading.names import name_of, one_line
from airflow_provider_sms.reading.queries import Query, one_column
from airflow_provider_sms.reading.tables import column_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath, XComArg


@dataclass(repr=False)
class PhoneSource(ABC):
    """Phones that are read when they are needed; its `str` says which, without reading them and personal data."""

    template_fields: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def chunks(self) -> Iterator[list[object]]:
        """Read them from the start.

        :returns: raw items in chunks of at most 10,000; none is empty.
        :raises PhonesError: they can not be read.
        """


@dataclass(repr=False)
class PhoneFile(PhoneSource):
    """
    Phones in a file: one a line, or one column of a CSV. A name that ends in `.gz` is decompressed.

    .. code-block:: python

        SmsGroupSendOperator(
            task_id="send",
            phones=PhoneFile("s3://bucket/{{ ds }}.csv", column="phone", conn_id="aws_default"),
            content="【云通信】Your report is ready.",
        )

    :param path: a local path, a URL that Airflow's ObjectStoragePath takes, or such a path itself. (templated)
    :param column: the column's name in the header row, separated by commas, semicolons or tabs; None if there is
        one phone a line and no header. (templated)
    :param conn_id: the connection for a URL. (templated)
    :param encoding: the file's encoding, such as `gb18030`; by default UTF-8, with or without a mark at its start.
    """

    template_fields: ClassVar[tuple[str, ...]] = ("path", "column", "conn_id")

    path: str | PurePath | ObjectStoragePath | XComArg
    column: str | None = None
    conn_id: str | None = None
    encoding: str = "utf-8-sig"

    def __post_init__(self) -> None:
        # A plain path would not be rendered; Airflow 3.0 even takes its `resolve` for that of an upstream's output.
        if isinstance(self.path, PurePath) and not opens_itself(self.path):
            self.path = str(self.path)

    def __str__(self) -> str:
        column = f", column {one_line(self.column)}" if self.column else ""
        return f"file {name_of(self.path)}{column}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def chunks(self) -> Iterator[list[object]]:
        """Read the file, a chunk at a time."""
        return _read_from(self)


@dataclass(repr=False)
class PhoneQuery(PhoneSource):
    """
    Phones that a SQL query finds: one column, a row each.

    .. code-block:: python

        SmsGroupSendOperator(
            task_id="send",
            phones=PhoneQuery("SELECT phone FROM members WHERE joined < %(day)s", "warehouse", {"day": "{{ ds }}"}),
            content="【云通信】Your report is ready.",
        )

    :param sql: the query; its one column holds the phones. (templated)
    :param conn_id: a connection to a SQL database. (templated)
    :param parameters: what the query's placeholders stand for, in the way of the database's driver. (templated)
    """

    template_fields: ClassVar[tuple[str, ...]] = ("sql", "conn_id", "parameters")

    sql: str
    conn_id: str
    parameters: Mapping[str, Any] | Iterable[Any] | None = None

    def __str__(self) -> str:
        return f"query on {one_line(self.conn_id)}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def chunks(self) -> Iterator[list[object]]:
        """Run the query, a chunk of rows at a time."""
        return one_column(Query(self.sql, self.conn_id, self.parameters))


def stream(phones: object) -> Iterator[list[object]]:
    """Read phones from wherever they are, without holding more than a chunk.

    :param phones: a PhoneSource such as a PhoneFile, a path (one phone a line), or whatever `gateway.phones.items`
        takes.
    :returns: raw items in chunks of at most 10,000; none is empty.
    :raises PhonesError: they can not be read; a source's is raised when the first chunk is asked for, or later.
    """
    if isinstance(phones, PhoneSource):
        return phones.chunks()
    if is_path(phones):
        return _read_from(PhoneFile(phones))
    return chunks(items(phones))


def rendered(phones: object, render: Callable[[Any], Any]) -> object:
    """Render the templates of a source in a copy of it, of anything else as ever.

    Airflow itself writes into the object, which other tasks of the DAG may share, and logs a template that fails,
    so also a query's text.

    :param phones: any value of an operator's `phones`.
    :param render: an operator's `render_template`, with all but the value.
    """
    if isinstance(phones, PurePath) and not opens_itself(phones):
        phones = PhoneFile(phones)
    if isinstance(phones, PhoneSource):
        return replace(phones, **{name: render(getattr(phones, name)) for name in phones.template_fields})
    return render(phones)


def shown(phones: object) -> str:
    """Say what phones these are, in a few words without personal data, and without reading a file or a database.

    :param phones: whatever `stream` takes.
    """
    if isinstance(phones, PhoneSource):
        return str(phones)
    if is_path(phones):
        return str(PhoneFile(phones))
    if isinstance(phones, Iterator):
        return f"phones of a {type(phones).__name__}"  # to count them would use them up
    sieve = Sieve()
    first = ""
    try:
        for chunk in chunks(items(phones)):
            sifted = sieve.sift(chunk)
            first = first or next((each for at, each in enumerate(sifted.phones) if at not in sifted.excluded), "")
    except PhonesError as error:
        return str(error)
    if not sieve.included:
        return str(none_to_send_to(sieve))
    noun = "phone" if sieve.included == 1 else "phones"
    return f"{sieve.included} {noun}, first {mask(first)}"


def _read_from(file: PhoneFile) -> Iterator[list[object]]:
    stored = StoredFile(file.path, file.conn_id, file.encoding)
    with contextlib.closing(lines_of(stored)) as lines:
        if file.column:
            yield from chunks(column_of(stored.name, chain.from_iterable(lines), str(file.column).strip()))
        else:
            yield from chunks(chain.from_iterable([line for line in map(str.strip, some) if line] for some in lines))
