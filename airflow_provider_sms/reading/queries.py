"""What a SQL query finds, fetched a chunk at a time.

May know Airflow's connections and SQL hooks, imported when a query is run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_sms.gateway.errors import InputError, PhonesError, PhonesSourceError
from airflow_provider_sms.gateway.phones import CHUNK
from airflow_provider_sms.reading.names import one_line, said

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

T = TypeVar("T")

# Errors of the Python database API that the next try meets again; the others may have passed by then.
_LASTING = {"DataError", "IntegrityError", "NotSupportedError", "ProgrammingError"}


@dataclass(frozen=True, slots=True)
class Query:
    """A query that is to be run.

    :param sql: its text.
    :param conn_id: a connection to a SQL database.
    :param parameters: what its placeholders stand for.
    """

    sql: str = field(repr=False)
    conn_id: str
    parameters: Mapping[str, Any] | Iterable[Any] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The query as it may be shown."""
        return f"query on {one_line(self.conn_id)}"


def found_by(query: Query, fetch: Callable[[Any], list[T]]) -> Iterator[list[T]]:
    """Run a query, and read what it finds some rows at a time.

    :param fetch: fetches the next rows from a cursor; none: that is all.
    :raises PhonesError: it can not be run; an error of this package's own is left as it is.
    """
    hook = _sql_hook(query)
    where = f"the {query.name}"
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
        raise kind(f"phones: {where} fails: {said(error)}. Check sql, parameters and conn_id.") from None


def one_column(query: Query) -> Iterator[list[object]]:
    """Run a query that finds one column, and read it some rows at a time.

    :raises PhonesError: it can not be run, or finds more columns.
    """
    return found_by(query, lambda cursor: _fetched(cursor, f"the {query.name}"))


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


def _sql_hook(query: Query) -> DbApiHook:
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
        raise PhonesError(f"{needed}Airflow has no hook for it: {said(error)}. Install its provider.") from None
    if not isinstance(hook, DbApiHook):
        raise PhonesError(f"{needed}a SQL database is needed, such as postgres or mysql.")
    return hook
