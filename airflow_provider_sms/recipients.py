"""Where phones come from when they are not a list: a file, an object-storage path or a SQL query, streamed.

Other sources are classes elsewhere, see `PhoneSource`. May know Airflow's ObjectStoragePath and SQL hooks, imported
when something is read; not the ledger.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from io import IncrementalNewlineDecoder
from itertools import chain
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, ClassVar, TypeGuard, TypeVar

from airflow_provider_sms.gateway.errors import InputError, PhonesError, PhonesSourceError
from airflow_provider_sms.gateway.phones import (
    CHUNK,
    Sieve,
    chunks,
    items,
    mask,
    mask_inside,
    none_to_send_to,
    storable,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath, XComArg
    from airflow.providers.common.sql.hooks.sql import DbApiHook

T = TypeVar("T")

# User and password end at the last @ before the first slash, or, where no port follows the colon, behind it: people
# paste AWS keys with slashes.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#]*@|[^/?#:]*:(?!\d*/)[^?#]*@)?([^?#]*)")
_URL_IN_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/?#'\"]*@)?([^\s?#'\"]*)[^\s'\"]*")
_COLUMN_SEPARATORS = ",;\t"
_BLOCK = 1 << 16
_LONGEST_LINE = 1 << 20
_LONGEST_NAME = 200
# Errors of the Python database API that the next try meets again; the others may have passed by then.
_LASTING = {"DataError", "IntegrityError", "NotSupportedError", "ProgrammingError"}


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
        if isinstance(self.path, PurePath) and not _opens_itself(self.path):
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
        return found_by(self, lambda cursor: _fetched(cursor, f"the query on {one_line(self.conn_id)}"))


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
    if isinstance(phones, PurePath) and not _opens_itself(phones):
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


# Files


def _read_from(file: PhoneFile) -> Iterator[list[object]]:
    with contextlib.closing(lines_of(file)) as lines:
        if file.column:
            yield from chunks(_cells(file, chain.from_iterable(lines)))
        else:
            yield from chunks(chain.from_iterable([line for line in map(str.strip, some) if line] for some in lines))


def _cells(file: PhoneFile, lines: Iterator[str]) -> Iterator[str]:
    """One column of a CSV, below its header row."""
    wanted = str(file.column).strip()
    columns, rows = table_of(file, lines, [wanted])
    at = columns.index(wanted)
    for _, row in rows:
        if len(row) > len(columns) and any(map(str.strip, row[len(columns) :])):
            # An unquoted separator has moved the cells: this one may hold another person's phone.
            yield ",".join(row)
            continue
        cell = row[at].strip() if at < len(row) else ""
        if cell or any(map(str.strip, row)):
            yield cell


def table_of(
    file: PhoneFile, lines: Iterator[str], wanted: Sequence[str]
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """A CSV's columns by name, and the rows below its header row.

    :param wanted: columns that must be there, once.
    :returns: the names, and the cells of each row with the number of its last line.
    """
    name = name_of(file.path)
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


def lines_of(file: PhoneFile) -> Generator[list[str]]:
    """The lines, without their ends, some at a time."""
    number = 0
    rest = ""
    for text in _texts(file):
        *lines, rest = (rest + text).split("\n")
        number += len(lines)
        if len(rest) > _LONGEST_LINE:
            raise PhonesError(
                f"phones: {name_of(file.path)}, line {number + 1}: longer than {_LONGEST_LINE:,} characters; "
                "write one phone a line, or a CSV and its column."
            )
        yield lines
    if rest:
        yield [rest]


def _texts(file: PhoneFile) -> Iterator[str]:
    """The decoded file, with `\n` for every line's end."""
    name = name_of(file.path)
    encoding = file.encoding
    try:
        b" ".decode(encoding, "ignore")  # refuses what encodes other things than text, too
        decoder = IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    except (LookupError, TypeError, ValueError):
        raise PhonesError(f"phones: encoding: there is none that is called {encoding!r}, such as gb18030.") from None
    size = 0
    lines = 1
    for block in chain(_blocks(file), [b""]):
        size += len(block)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeError as error:
            raise PhonesError(f"phones: {name}, {_undecodable(error, encoding, size, lines)}") from None
        if "\0" in text:
            line = lines + text[: text.index("\0")].count("\n")
            raise PhonesError(
                f"phones: {name}, line {line}: a NUL character; it is no text in {encoding}: say its encoding, such "
                'as encoding="utf-16", or save it as text.'
            )
        lines += text.count("\n")
        yield text


def _undecodable(error: UnicodeError, encoding: str, size: int, lines: int) -> str:
    remedy = 'say the file\'s encoding, such as encoding="gb18030".'
    if not isinstance(error, UnicodeDecodeError):
        return f"line {lines}: no text in {encoding}; {remedy}"
    # What the decoder was looking at is the end of all that it has been given.
    position = size - len(error.object) + error.start
    line = lines + error.object[: error.start].count(b"\n")
    byte = error.object[error.start]
    return f"line {line}: byte 0x{byte:02x} at position {position:,} is no text in {encoding}; {remedy}"


def _blocks(file: PhoneFile) -> Iterator[bytes]:
    """The file's bytes, decompressed."""
    try:
        path = _openable(file)
        with path.open("rb") as stored, _decompressed(file, stored) as plain:
            while block := plain.read(_BLOCK):
                yield block
    except PhonesError:
        raise
    except Exception as error:  # noqa: BLE001 - each object storage raises its own
        raise _unreadable(name_of(file.path), error) from None


def _openable(file: PhoneFile) -> Any:
    path = file.path
    if _opens_itself(path):
        return path
    if not isinstance(path, str):
        raise PhonesError(f"phones: path: expected a path or URL, got {type(path).__name__}.")
    if not path.strip():
        raise PhonesError("phones: path: it is empty; name the file that holds the phones.")
    if url := _URL.match(path):
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        if not file.conn_id:
            return ObjectStoragePath(path)
        # What stands before an @ is a connection's id to Airflow, and may beat the one asked for here.
        return ObjectStoragePath(url[1] + path[url.start(2) :], conn_id=file.conn_id)
    if file.conn_id:
        raise PhonesError(f"phones: conn_id is for a URL such as s3://bucket/phones.csv, and {name_of(path)} is none.")
    return Path(path)


def _decompressed(file: PhoneFile, stored: Any) -> contextlib.AbstractContextManager[Any]:
    if not _without_secrets(str(file.path)).lower().endswith(".gz"):
        return contextlib.nullcontext(stored)
    from gzip import GzipFile

    return GzipFile(fileobj=stored, mode="rb")


def _unreadable(name: str, error: Exception) -> PhonesError:
    """What is to be done about a file that can not be read."""
    from gzip import BadGzipFile

    match error:
        case FileNotFoundError() | NotADirectoryError():
            return PhonesSourceError(f"phones: there is no file {name}; look for it where the task runs.")
        case IsADirectoryError():
            return PhonesError(f"phones: {name} is a folder; name the file in it.")
        case PermissionError():
            return PhonesError(f"phones: no permission to read {name}; give it to the user that the task runs as.")
        case BadGzipFile() | EOFError() | zlib.error():
            return PhonesError(f"phones: {name} is no whole gzip file; compress it again, or drop the .gz.")
        case ImportError() | LookupError() | TypeError() | ValueError():
            return PhonesError(
                f"phones: {name} can not be read: {_said(error)}. Check the path and conn_id, and that the provider "
                "for such paths is installed."
            )
    return PhonesSourceError(f"phones: {name} can not be read: {_said(error)}. Check the path and conn_id.")


# Queries


def found_by(query: PhoneQuery, fetch: Callable[[Any], list[T]]) -> Iterator[list[T]]:
    """Run a query, and read what it finds some rows at a time.

    :param fetch: fetches the next rows from a cursor; none: that is all.
    :raises PhonesError: it can not be run; an error of this package's own is left as it is.
    """
    hook = _sql_hook(query)
    where = f"the query on {one_line(query.conn_id)}"
    try:
        with contextlib.closing(hook.get_conn()) as connection, _closed_at_the_end(_cursor(connection)) as cursor:
            if query.parameters:
                cursor.execute(query.sql, query.parameters)
            else:
                # Without an argument, for which a driver would look for placeholders.
                cursor.execute(query.sql)
            if cursor.description is None and not getattr(cursor, "name", None):
                raise PhonesError(f"phones: {where} returns no rows at all; write a SELECT.")
            while rows := fetch(cursor):
                yield rows
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - each driver raises its own
        lasting = isinstance(error, ImportError | LookupError | TypeError | ValueError) or any(
            each.__name__ in _LASTING for each in type(error).__mro__
        )
        kind = PhonesError if lasting else PhonesSourceError
        raise kind(f"phones: {where} fails: {_said(error)}. Check sql, parameters and conn_id.") from None


def _fetched(cursor: Any, where: str) -> list[object]:
    rows: list[Any] = cursor.fetchmany(CHUNK)
    # A PostgreSQL cursor on the server knows its columns only now.
    columns = [one_line(each[0]) for each in cursor.description or ()]
    if len(columns) > 1:
        raise PhonesError(
            f"phones: {where} returns {len(columns)} columns ({', '.join(columns)}); select the phone's alone."
        )
    if rows and isinstance(rows[0], Mapping):
        return [next(iter(row.values())) for row in rows]
    return [row[0] for row in rows]


@contextlib.contextmanager
def _closed_at_the_end(cursor: Any) -> Iterator[Any]:
    try:
        yield cursor
    finally:
        # After an error the cursor of some drivers can not be closed by itself; closing the connection ends both.
        with contextlib.suppress(Exception):
            cursor.close()


def _cursor(connection: Any) -> Any:
    """A cursor that fetches rows as they are asked for.

    The usual cursor of PostgreSQL's and MySQL's drivers takes the whole result into memory first. A connection's
    own kind of row, set in its extras, is put aside.
    """
    packages = {each.__module__.partition(".")[0] for each in type(connection).__mro__}
    if "psycopg2" in packages:
        rows = import_module("psycopg2.extensions").cursor
        return connection.cursor("airflow_sms_phones", cursor_factory=rows, withhold=connection.autocommit)
    if "psycopg" in packages:
        rows = import_module("psycopg.rows").tuple_row
        return connection.cursor("airflow_sms_phones", row_factory=rows, withhold=connection.autocommit)
    for package in ("MySQLdb", "pymysql"):
        if package in packages:
            return connection.cursor(import_module(f"{package}.cursors").SSCursor)
    if "mysql" in packages:
        return connection.cursor(buffered=False)
    cursor = connection.cursor()
    with contextlib.suppress(AttributeError):
        cursor.arraysize = CHUNK
    return cursor


def _sql_hook(query: PhoneQuery) -> DbApiHook:
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

    conn_id = query.conn_id
    if not isinstance(conn_id, str) or not conn_id.strip():
        raise PhonesError("phones: conn_id: name a connection to the SQL database.")
    if not isinstance(query.sql, str) or not query.sql.strip():
        raise PhonesError("phones: sql: write a SELECT of the phones.")
    try:
        from airflow.providers.common.sql.hooks.sql import DbApiHook
    except ImportError:
        raise PhonesError("phones: a query needs the package apache-airflow-providers-common-sql.") from None
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise PhonesError(
            f"phones: conn_id: there is no connection {conn_id!r}; create it in Airflow (Admin, Connections), or set "
            f"AIRFLOW_CONN_{conn_id.upper()}."
        ) from None
    needed = f"phones: conn_id: {conn_id!r} is a connection of type {connection.conn_type!r}; "
    try:
        hook = connection.get_hook()
    except Exception as error:  # noqa: BLE001 - what a provider's hook raises when it is made
        raise PhonesError(f"{needed}Airflow has no hook for it: {_said(error)}. Install its provider.") from None
    if not isinstance(hook, DbApiHook):
        raise PhonesError(f"{needed}a SQL database is needed, such as postgres or mysql.")
    return hook


# Names and messages


def is_path(phones: object) -> TypeGuard[PurePath]:
    """Whether it is a path, of this machine or of an object storage."""
    return isinstance(phones, PurePath) or _opens_itself(phones)


def _opens_itself(path: object) -> bool:
    """Whether it is a path of an object storage, Airflow's or any of that family; without an import of Airflow."""
    return hasattr(path, "protocol") and hasattr(path, "open")


def name_of(path: object) -> str:
    """A path as it may be shown: a URL without user, password and query, which may be a signature."""
    return one_line(_without_secrets(str(path)))


def _without_secrets(path: str) -> str:
    url = _URL.match(path)
    return "".join(url.groups()) if url else path


def one_line(text: object) -> str:
    """Any text as messages may show it."""
    return storable(mask_inside(str(text)), _LONGEST_NAME)


def _said(error: Exception) -> str:
    """An error's class and the first line of its message, without phones and passwords."""
    line = next(iter(str(error).strip().splitlines()), "")
    said = one_line(_URL_IN_TEXT.sub(r"\1\2", line)).rstrip(" .")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
