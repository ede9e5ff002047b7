"""Phones out of files, object storages and databases, streamed."""

from __future__ import annotations

import csv
import gc
import gzip
import io
import json
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import psycopg2  # type: ignore[import-untyped]
import psycopg2.extras  # type: ignore[import-untyped]
import pymysql  # type: ignore[import-untyped]
import pytest
from airflow.providers.common.compat.sdk import DAG, BaseHook, ObjectStoragePath
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from airflow_provider_sms import messages
from airflow_provider_sms.gateway.errors import InputError, PhonesError, PhonesSourceError
from airflow_provider_sms.gateway.phones import Sieve, read
from airflow_provider_sms.messages import MessageFile, MessageQuery
from airflow_provider_sms.operators.sms import SmsGroupSendOperator
from airflow_provider_sms.reading import files
from airflow_provider_sms.recipients import PhoneFile, PhoneQuery, rendered, shown, stream
from tests.support.fixtures import Database, SetConnection, TaskInstance, sqlite

try:
    from airflow.sdk.io import attach
except ImportError:  # before 3.0
    from airflow.io.store import attach  # type: ignore[import-not-found, no-redef]

try:
    BROKEN = str(ObjectStoragePath("file:///phones.csv")) == ""
except TypeError:
    BROKEN = True
object_storage = pytest.mark.skipif(BROKEN, reason="this universal-pathlib is too new for this Airflow's paths")

PHONES = ["13800130001", "13800130002", "13800130003"]
MANY = 1_000_000
FEW_MEGABYTES = 4_000_000


def everything(phones: object) -> list[object]:
    return list(chain.from_iterable(stream(phones)))


def said(phones: object) -> str:
    """The one sentence or two with which they are refused."""
    with pytest.raises(PhonesError) as error:
        everything(phones)
    text = str(error.value)
    assert text.startswith("phones: ")
    assert "\n" not in text
    return text


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write a file; its path."""

    def write(content: str | bytes, name: str = "phones.csv", encoding: str = "utf-8") -> str:
        data = content if isinstance(content, bytes) else content.encode(encoding)
        file = tmp_path / name
        file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(file)

    return write


Write = Callable[..., str]


class TestOnePhoneALine:
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_each_line_is_an_item_and_blank_ones_are_none(self, write: Write, end: str) -> None:
        path = write(end.join(["", PHONES[0], "", f"  {PHONES[1]}\t", " \t", PHONES[2]]))
        assert everything(PhoneFile(path)) == PHONES

    def test_the_mark_at_the_start_belongs_to_no_phone(self, write: Write) -> None:
        assert everything(PhoneFile(write("\n".join(PHONES), encoding="utf-8-sig"))) == PHONES

    def test_a_header_is_reported_as_malformed_like_any_other_line(self, write: Write) -> None:
        assert everything(PhoneFile(write("手机号\n13800130001\n"))) == ["手机号", "13800130001"]

    def test_an_empty_file_holds_no_phone(self, write: Write) -> None:
        assert list(stream(PhoneFile(write("")))) == []

    def test_a_compressed_file(self, write: Write) -> None:
        assert everything(PhoneFile(write("\n".join(PHONES), "phones.txt.GZ".lower()))) == PHONES

    @pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "utf-16-le", "latin-1", "utf_8"])
    def test_another_encoding(self, write: Write, encoding: str) -> None:
        path = write("\n".join([*PHONES, "é"]), encoding=encoding)
        assert everything(PhoneFile(path, encoding=encoding)) == [*PHONES, "é"]

    def test_a_line_that_is_no_line(self, write: Write) -> None:
        text = said(PhoneFile(write("13800130001\n" + "," * 2_000_000)))
        assert "line 2: longer than 1,048,576 characters; write one phone a line, or a CSV and its column." in text

    @given(
        st.lists(st.sampled_from(["13800130001", "手机", "😀", "", " ", "x" * 9])),
        st.sampled_from(["\n", "\r\n", "\r"]),
        st.sampled_from(["utf-8-sig", "gb18030", "utf-16"]),
        st.integers(1, 12),
    )
    def test_wherever_a_block_ends_a_line_does_not(
        self, tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str, encoding: str, block: int
    ) -> None:
        path = tmp_path_factory.mktemp("blocks") / "phones.txt"
        path.write_bytes(end.join(lines).encode(encoding))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "_BLOCK", block)
            assert everything(PhoneFile(str(path), encoding=encoding)) == [line for line in lines if line.strip()]


class TestColumn:
    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    def test_of_a_csv(self, write: Write, separator: str, encoding: str) -> None:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=separator)
        writer.writerow(["name", " phone ", "remark"])
        writer.writerows([f'{separator}, "one"\n{at}', phone, "é"] for at, phone in enumerate(PHONES))
        assert everything(PhoneFile(write(text.getvalue(), encoding=encoding), column="phone")) == PHONES

    def test_quoted_header_with_a_mark_before_it(self, write: Write) -> None:
        path = write('\ufeff"phone";"a,b"\r\n"13800130001";"x"\r\n')
        assert everything(PhoneFile(path, "phone")) == ["13800130001"]

    def test_one_column_alone(self, write: Write) -> None:
        assert everything(PhoneFile(write("\n\nphone\n13800130001\n\n13800130002\n"), "phone")) == PHONES[:2]

    def test_chinese_as_excel_saves_it(self, write: Write) -> None:
        path = write("姓名,手机号\r\n张三,13800130001\r\n", encoding="gb18030")
        assert everything(PhoneFile(path, "手机号", encoding="gb18030")) == ["13800130001"]

    def test_compressed(self, write: Write) -> None:
        assert everything(PhoneFile(write("a,phone\n1,13800130001\n", "phones.csv.gz"), "phone")) == ["13800130001"]

    def test_rows_of_nothing_are_no_items_and_rows_without_a_phone_are(self, write: Write) -> None:
        path = write("name,phone\n,\n , \nTom,\nTom\nTom,13800130001\n")
        assert everything(PhoneFile(path, "phone")) == ["", "", "13800130001"]

    def test_a_row_whose_cells_have_moved_is_malformed_rather_than_another_person_s_phone(self, write: Write) -> None:
        path = write("name,phone,parent\nSmith, Tom,13800130001,13800130002\nTom,13800130003,13800130002,,\n")
        items = everything(PhoneFile(path, "parent"))
        assert items == ["Smith, Tom,13800130001,13800130002", "13800130002"]
        assert read(items).counted() == {"malformed": 1}

    def test_a_moved_row_is_no_phone_whatever_it_holds(self, write: Write) -> None:
        path = write("phone\ta\n1380013\t0001\t \t1\n")
        with pytest.raises(PhonesError, match="none of 1"):
            read(everything(PhoneFile(path, "phone")))

    @pytest.mark.parametrize(
        ("content", "sentence"),
        [
            ("name;mobile\n", "has no column 'phone'; its header row names: name, mobile."),
            ("13800130001,x\n", "its first row is no header row, as a phone stands in it"),
            ("phone,a,phone\n", "has more than one column 'phone'; give each its own name."),
            ("", "is empty; it should begin with a header row that names its columns."),
            ("\n \n", "is empty; it should begin with a header row that names its columns."),
            ('"phone\n', "its header row can not be read; correct the quotation marks."),
            ('phone,a\n13800130001,"x\n13800130002,y\n', "line 3: no row of a CSV (unexpected end of data)"),
            ('phone,a\n13800130001,x\n13800130002,"x"y\n', "line 3: no row of a CSV (',' expected after '\"')"),
        ],
    )
    def test_what_is_no_such_column(self, write: Write, content: str, sentence: str) -> None:
        assert sentence in said(PhoneFile(write(content), "phone"))


class TestWhatCanNotBeRead:
    def test_bytes_of_another_encoding(self, write: Write) -> None:
        path = write("13800130001\n手机号\n", encoding="gb18030")
        assert said(PhoneFile(path)) == (
            f"phones: {path}, line 2: byte 0xca at position 12 is no text in utf-8-sig; say the file's encoding, such "
            "as gb18030."
        )

    @pytest.mark.parametrize(
        ("encoding", "start", "bad"),
        [("utf-8-sig", "\ufeff", b"\xb5"), ("utf-8", "", b"\xb5"), ("gb18030", "手", b"\xff"), ("ascii", "", b"\xe9")],
    )
    @pytest.mark.parametrize("block", [7, 1 << 18])
    def test_the_place_is_that_in_the_whole_file(
        self, write: Write, monkeypatch: pytest.MonkeyPatch, encoding: str, start: str, bad: bytes, block: int
    ) -> None:
        monkeypatch.setattr(files, "_BLOCK", block)
        before = (start + "13800130001\n" * 1000).encode("utf-8" if encoding == "utf-8-sig" else encoding)
        text = said(PhoneFile(write(before + bad + b"\n13800130002"), encoding=encoding))
        assert f", line 1001: byte 0x{bad.hex()} at position {len(before):,} is no text in {encoding};" in text

    def test_a_character_cut_off_at_the_end(self, write: Write) -> None:
        assert "line 2: byte 0xe6 at position 2 is no text" in said(PhoneFile(write(b"1\n\xe6\x89")))

    def test_bytes_in_utf_16(self, write: Write) -> None:
        path = write("13800130001\n13800130002\n", encoding="utf-16-le")
        assert f"phones: {path}, line 1: a NUL character; it is no text in utf-8-sig: say its encoding" in said(
            PhoneFile(path)
        )
        assert "line 1: no text in utf-16;" in said(PhoneFile(path, encoding="utf-16"))

    def test_a_nul_somewhere(self, write: Write) -> None:
        assert "line 3: a NUL character" in said(PhoneFile(write("1\n2\n3\x00\n")))

    @pytest.mark.parametrize("encoding", ["gb18031", "base64", "", None])
    def test_no_encoding(self, write: Write, encoding: Any) -> None:
        assert f"phones: encoding: there is none that is called {encoding!r}" in said(
            PhoneFile(write("1"), encoding=encoding)
        )

    def test_no_file(self, tmp_path: Path) -> None:
        path = str(tmp_path / "nowhere" / "phones.csv")
        assert said(PhoneFile(path)) == f"phones: there is no file {path}; look for it where the task runs."

    def test_a_folder(self, tmp_path: Path) -> None:
        assert said(PhoneFile(str(tmp_path))) == f"phones: {tmp_path} is a folder; name the file in it."

    def test_no_permission(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        def denied(*args: object) -> None:
            raise PermissionError(13, "Permission denied")

        path = write("1")
        monkeypatch.setattr(Path, "open", denied)  # root may read everything
        assert said(PhoneFile(path)) == (
            f"phones: no permission to read {path}; give it to the user that the task runs as."
        )

    @pytest.mark.parametrize(
        "content",
        [b"13800130001\n", gzip.compress(b"13800130001\n" * 1000)[:-20], b"\x1f\x8b"],
        ids=["plain", "cut off", "two bytes"],
    )
    def test_what_is_no_gzip_file(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "phones.gz"
        file.write_bytes(content)
        assert said(PhoneFile(str(file))) == (
            f"phones: {file} is no whole gzip file; compress it again, or drop the .gz."
        )

    def test_a_damaged_gzip_file(self, tmp_path: Path) -> None:
        content = bytearray(gzip.compress(b"".join(b"%d\n" % n for n in range(10_000))))
        content[1000:1100] = bytes(100)
        file = tmp_path / "phones.gz"
        file.write_bytes(content)
        assert "is no whole gzip file" in said(PhoneFile(str(file)))

    @pytest.mark.parametrize(
        ("path", "sentence"),
        [
            ("", "phones: path: it is empty; name the file that holds the phones."),
            (None, "phones: path: expected a path or URL, got NoneType."),
            (["x"], "phones: path: expected a path or URL, got list."),
            ("a\x00b", "phones: a\\u0000b can not be read: ValueError: embedded null byte."),
            ("nowhere://bucket/x", "phones: nowhere://bucket/x can not be read: "),
        ],
    )
    def test_no_path(self, path: Any, sentence: str) -> None:
        assert said(PhoneFile(path)).startswith(sentence)

    def test_a_connection_for_a_local_path(self, write: Write) -> None:
        assert "phones: conn_id is for a URL such as s3://bucket/phones.csv, and " in said(
            PhoneFile(write("1"), conn_id="aws_default")
        )

    def test_what_may_have_passed_by_the_next_try(self, tmp_path: Path) -> None:
        with pytest.raises(PhonesError) as error:
            everything(PhoneFile(str(tmp_path / "phones.csv")))
        assert isinstance(error.value, PhonesSourceError)
        assert error.value.passes_by_itself
        with pytest.raises(PhonesError) as error:
            everything(PhoneFile(str(tmp_path)))
        assert not error.value.passes_by_itself


@pytest.fixture
def memory() -> Any:
    """An object storage in memory, for the connection `somewhere`."""
    from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

    storage = MemoryFileSystem()
    attach("memory", "somewhere", fs=storage)
    yield storage
    storage.store.clear()


@object_storage
class TestObjectStorage:
    def test_a_url_with_a_connection(self, memory: Any) -> None:
        memory.pipe("/bucket/phones.csv", "name,phone\nTom,13800130001\n".encode("utf-8-sig"))
        assert everything(PhoneFile("memory://bucket/phones.csv", "phone", "somewhere")) == ["13800130001"]
        assert everything(PhoneFile("memory://somewhere@bucket/phones.csv", "phone")) == ["13800130001"]

    def test_compressed(self, memory: Any) -> None:
        memory.pipe("/bucket/phones.gz", gzip.compress(b"13800130001\n"))
        assert everything(PhoneFile("memory://bucket/phones.gz", conn_id="somewhere")) == ["13800130001"]

    def test_a_path_of_airflow_s_own(self, memory: Any) -> None:
        memory.pipe("/bucket/phones.csv", b"phone\n13800130001\n")
        path = ObjectStoragePath("memory://bucket/phones.csv", conn_id="somewhere")
        assert everything(path) == ["phone", "13800130001"]
        assert everything(PhoneFile(path, "phone")) == ["13800130001"]
        assert shown(path) in ("file memory://bucket/phones.csv", "file memory:///bucket/phones.csv")

    def test_local_files_in_other_words(self, write: Write) -> None:
        path = write("\n".join(PHONES))
        for same in (Path(path), f"file://{path}", ObjectStoragePath(f"file://{path}")):
            assert everything(same if not isinstance(same, str) else PhoneFile(same)) == PHONES

    def test_a_missing_object(self, memory: Any) -> None:
        text = said(PhoneFile("memory://bucket/nowhere.csv", conn_id="somewhere"))
        assert text == "phones: there is no file memory://bucket/nowhere.csv; look for it where the task runs."

    def test_a_storage_that_fails_says_so_without_keys_and_phones(
        self, memory: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class EndpointConnectionError(Exception):
            pass

        def away(*args: object, **kwargs: object) -> None:
            raise EndpointConnectionError(
                "no answer from https://AKIA:FAKE-KEY@storage.example/13800130001.csv?X-Signature=FAKE-SIGNATURE .\nx"
            )

        monkeypatch.setattr(memory, "open", away)
        text = said(PhoneFile("memory://user:FAKE-PASSWORD@bucket/x.csv?sig=FAKE", conn_id="somewhere"))
        assert text == (
            "phones: memory://bucket/x.csv can not be read: EndpointConnectionError: no answer from "
            "https://storage.example/138****0001.csv. Check the path and conn_id."
        )


@pytest.fixture
def members(tmp_path: Path, database: Database) -> Path:
    """A SQLite database with a table of phones, as the connection `warehouse`."""
    path = tmp_path / "members.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE members (phone, joined)")
        rows = [("13800130001", 1), (13800130002, 2), (13800130003.0, 3), (None, 4)]
        connection.executemany("INSERT INTO members VALUES (?, ?)", rows)
    database(sqlite(path))
    return path


@pytest.mark.usefixtures("members")
class TestQuery:
    def test_the_one_column_of_its_rows(self) -> None:
        items = everything(PhoneQuery("SELECT phone FROM members ORDER BY joined", "warehouse"))
        assert items == ["13800130001", 13800130002, 13800130003.0, None]
        assert read(items).included == tuple(PHONES)

    @pytest.mark.parametrize("parameters", [{"day": 2}, None])
    def test_parameters(self, parameters: dict[str, Any] | None) -> None:
        condition = "joined = :day" if parameters else "phone LIKE '%0002'"
        query = PhoneQuery(f"SELECT phone FROM members WHERE {condition}", "warehouse", parameters)
        assert everything(query) == [13800130002]

    def test_no_row(self) -> None:
        assert everything(PhoneQuery("SELECT phone FROM members WHERE joined = 9", "warehouse")) == []

    @pytest.mark.parametrize(
        ("sql", "sentence"),
        [
            ("SELECT joined, phone FROM members", "returns 2 columns (joined, phone); select the phone's alone."),
            ("SELECT * FROM members WHERE 0", "returns 2 columns (phone, joined); select the phone's alone."),
            ("DELETE FROM members", "returns no rows at all; write a SELECT."),
            (
                "SELECT '13800130001' FROM nowhere",
                "fails: OperationalError: no such table: nowhere. Check sql, parameters and conn_id.",
            ),
            ("SELECT phone 13800130001", 'fails: OperationalError: near "138****0001": syntax error. Check sql'),
        ],
    )
    def test_what_is_no_query_of_phones(self, members: Path, sql: str, sentence: str) -> None:
        assert said(PhoneQuery(sql, "warehouse")).startswith(f"phones: the query on warehouse {sentence}")
        with closing(sqlite3.connect(members)) as connection:
            assert connection.execute("SELECT count(*) FROM members").fetchone() == (4,)

    def test_rows_that_are_dictionaries(self, database: Database, members: Path) -> None:
        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(members)
            connection.row_factory = lambda cursor, row: {"phone": row[0]}
            return connection

        database(connect)
        assert everything(PhoneQuery("SELECT phone FROM members", "warehouse"))[:2] == ["13800130001", 13800130002]

    def test_what_may_have_passed_by_the_next_try(self, database: Database) -> None:
        class Away(sqlite3.OperationalError):
            pass

        def away() -> None:
            raise Away("could not connect to db.example\nFATAL: 13800130001")

        database(away)
        with pytest.raises(PhonesSourceError, match="fails: Away: could not connect to db.example. Check"):
            everything(PhoneQuery("SELECT 1", "warehouse"))

    def test_what_has_not_passed_by_the_next_try(self) -> None:
        with pytest.raises(PhonesError) as error:
            everything(PhoneQuery("SELECT ?", "warehouse", [1, 2]))
        assert not error.value.passes_by_itself

    @pytest.mark.parametrize(
        ("query", "sentence"),
        [
            (PhoneQuery("", "warehouse"), "phones: sql: write a SELECT of the phones."),
            (PhoneQuery("SELECT 1", ""), "phones: conn_id: name a connection to the SQL database."),
            (
                PhoneQuery("SELECT 1", "nowhere"),
                "phones: conn_id: there is no connection 'nowhere'; create it in Airflow (Admin, Connections), or "
                "set AIRFLOW_CONN_NOWHERE.",
            ),
        ],
    )
    def test_what_is_missing(self, query: PhoneQuery, sentence: str) -> None:
        assert said(query) == sentence


class TestConnectionOfAQuery:
    def test_that_is_no_database(self, set_connection: SetConnection) -> None:
        set_connection("mail", conn_type="smtp", host="127.0.0.1")
        assert said(PhoneQuery("SELECT 1", "mail")) == (
            "phones: conn_id: 'mail' is a connection of type 'smtp'; a SQL database is needed, such as postgres or "
            "mysql."
        )

    def test_whose_provider_is_not_installed(self, set_connection: SetConnection) -> None:
        set_connection("odd", conn_type="oddbase")
        text = said(PhoneQuery("SELECT 1", "odd"))
        assert text.startswith("phones: conn_id: 'odd' is a connection of type 'oddbase'; Airflow has no hook for it: ")
        assert text.endswith("Install its provider.")

    def test_of_sqlite_s_own_provider(self, set_connection: SetConnection, tmp_path: Path) -> None:
        pytest.importorskip("airflow.providers.sqlite.hooks.sqlite")
        set_connection("members", conn_type="sqlite", host=str(tmp_path / "members.db"))
        assert everything(PhoneQuery("SELECT 13800130001", "members")) == [13800130001]


class TestClosing:
    """Whatever becomes of the one who reads, files and connections are closed."""

    @pytest.fixture
    def open_ones(self, database: Database, tmp_path: Path) -> set[object]:
        """The cursors and connections of `warehouse` that are open."""
        open_ones: set[object] = set()

        class Cursor(sqlite3.Cursor):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args)
                open_ones.add(self)

            def close(self) -> None:
                super().close()
                open_ones.remove(self)

        class Connection(sqlite3.Connection):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                open_ones.add(self)

            def cursor(self, *args: Any) -> Any:
                return super().cursor(Cursor)

            def close(self) -> None:
                super().close()
                open_ones.remove(self)

        database(sqlite(tmp_path / "x.db", Connection))
        return open_ones

    @pytest.mark.parametrize("sql", ["SELECT 1", "SELECT 1, 2", "SELECT", "SELECT ?", "CREATE TABLE x (y)"])
    def test_a_query_that_ends_or_fails(self, open_ones: set[object], sql: str) -> None:
        try:
            everything(PhoneQuery(sql, "warehouse"))
        except PhonesError as error:
            assert open_ones == set(), error  # noqa: PT017 - while the exception still holds all frames
        assert open_ones == set()

    def test_a_query_that_is_left(self, open_ones: set[object]) -> None:
        numbers = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n"
        found = stream(PhoneQuery(numbers, "warehouse"))
        assert len(next(found)) == 10_000
        assert len(open_ones) == 2
        found.close()  # type: ignore[attr-defined]
        assert open_ones == set()

    @pytest.mark.parametrize("content", ["phone\n" + "1\n" * 500_000, 'phone\n"1"2\n', "phone\n\x00", "mobile\n", ""])
    def test_a_file_that_ends_or_fails_or_is_left(
        self, write: Write, content: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[Any] = []
        real = Path.open

        def remembered(self: Path, *args: Any) -> Any:
            opened.append(real(self, *args))
            return opened[-1]

        path = write(content)
        monkeypatch.setattr(Path, "open", remembered)
        found = stream(PhoneFile(path, "phone"))
        try:
            next(found)
            found.close()  # type: ignore[attr-defined]
        except PhonesError as error:
            assert [file.closed for file in opened] == [True], error  # noqa: PT017
        assert [file.closed for file in opened] == [True]


def postgresql(url: str, **options: Any) -> Callable[[], Any]:
    address = make_url(url)

    def connect() -> Any:
        return psycopg2.connect(
            host=address.host,
            port=address.port,
            user=address.username,
            password=address.password,
            dbname=address.database,
            **options,
        )

    return connect


def mariadb(url: str, **options: Any) -> Callable[[], Any]:
    address = make_url(url)

    def connect() -> Any:
        return pymysql.connect(
            host=address.host,
            port=address.port,
            user=address.username,
            password=address.password,
            database=address.database,
            **options,
        )

    return connect


def memory_while(phones: object) -> tuple[int, int]:
    """How many items there are, and by how many bytes the process has grown at most while they were streamed."""
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    count = most = 0
    for chunk in stream(phones):
        count += len(chunk)
        most = max(most, process.memory_info().rss - before)
    return count, most


START = 138 * 10**8
NUMBERS = f"SELECT {START} + n AS phone FROM generate_series(1, {{count}}) AS n"
DIGITS = " CROSS JOIN ".join(f"digits AS {name}" for name in "abcdef")
DIGITS_SUM = " + ".join(f"{name}.digit * {10**at}" for at, name in enumerate("abcdef"))


class TestPostgresql:
    @pytest.mark.parametrize("autocommit", [False, True])
    @pytest.mark.parametrize(
        "rows", [None, psycopg2.extras.RealDictCursor, psycopg2.extras.DictCursor, psycopg2.extras.NamedTupleCursor]
    )
    def test_rows(self, postgresql_url: str, database: Database, autocommit: bool, rows: Any) -> None:
        def connect() -> Any:
            connection = postgresql(postgresql_url, **({"cursor_factory": rows} if rows else {}))()
            connection.autocommit = autocommit
            return connection

        database(connect, "postgres")
        query = PhoneQuery(
            "SELECT phone FROM (VALUES (13800130001.0::numeric), (%(one)s::bigint), (NULL)) AS members (phone) "
            "WHERE phone::text LIKE '138%%' OR phone IS NULL;",
            "warehouse",
            {"one": 13800130002},
        )
        assert everything(query) == [Decimal("13800130001.0"), Decimal(13800130002), None]

    @pytest.mark.parametrize(
        ("sql", "sentence"),
        [
            ("SELECT 1 AS a, 2 AS b", "phones: the query on warehouse returns 2 columns (a, b); select"),
            ("SELECT 1 AS a, 2 AS b WHERE false", "phones: the query on warehouse returns 2 columns (a, b); select"),
            ("SELECT x", 'phones: the query on warehouse fails: UndefinedColumn: column "x" does not exist. Check'),
            ("DELETE FROM x", 'phones: the query on warehouse fails: SyntaxError: syntax error at or near "DELETE". '),
            (
                "SELECT 'a 13800130001'::bigint",
                "phones: the query on warehouse fails: InvalidTextRepresentation: invalid input syntax for type "
                'bigint: "a 138****0001". Check',
            ),
            ("SELECT 1 / (n - 15000) FROM generate_series(1, 20000) AS n", "phones: the query on warehouse fails: Div"),
        ],
    )
    def test_what_is_no_query_of_phones(self, postgresql_url: str, database: Database, sql: str, sentence: str) -> None:
        database(postgresql(postgresql_url), "postgres")
        with pytest.raises(PhonesError) as error:
            everything(PhoneQuery(sql, "warehouse"))
        assert str(error.value).startswith(sentence)
        assert not error.value.passes_by_itself

    def test_a_server_that_is_not_there(self, postgresql_url: str, database: Database) -> None:
        nowhere = make_url(postgresql_url).set(port=9).render_as_string(hide_password=False)
        database(postgresql(nowhere), "postgres")
        with pytest.raises(PhonesSourceError, match="phones: the query on warehouse fails: OperationalError: "):
            everything(PhoneQuery("SELECT 1", "warehouse"))

    def test_a_million_rows_are_never_in_memory(self, postgresql_url: str, database: Database) -> None:
        database(postgresql(postgresql_url), "postgres")
        memory_while(PhoneQuery(NUMBERS.format(count=20_000), "warehouse"))
        count, grown = memory_while(PhoneQuery(NUMBERS.format(count=MANY), "warehouse"))
        assert count == MANY
        assert grown < FEW_MEGABYTES

    def test_nothing_is_left_open(self, postgresql_url: str, database: Database) -> None:
        connection = postgresql(postgresql_url)()
        database(lambda: connection, "postgres")
        found = stream(PhoneQuery(NUMBERS.format(count=MANY), "warehouse"))
        next(found)
        assert not connection.closed
        found.close()  # type: ignore[attr-defined]
        assert connection.closed


class TestMariadb:
    @pytest.fixture
    def digits(self, mariadb_url: str, database: Database) -> None:
        with closing(mariadb(mariadb_url)()) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE digits (digit INT)")
            cursor.execute("INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)")
            connection.commit()
        database(mariadb(mariadb_url), "mysql")

    @pytest.mark.parametrize("rows", [pymysql.cursors.Cursor, pymysql.cursors.DictCursor])
    def test_rows(self, mariadb_url: str, database: Database, rows: Any) -> None:
        database(mariadb(mariadb_url, cursorclass=rows), "mysql")
        query = PhoneQuery("SELECT '13800130001' UNION ALL SELECT %s UNION ALL SELECT NULL", "warehouse", (1380013,))
        assert everything(query) == ["13800130001", "1380013", None]

    def test_what_is_no_query_of_phones(self, mariadb_url: str, database: Database) -> None:
        database(mariadb(mariadb_url), "mysql")
        assert "returns 2 columns (1, 2)" in said(PhoneQuery("SELECT 1, 2", "warehouse"))
        assert "returns no rows at all" in said(PhoneQuery("DO 1", "warehouse"))
        assert "fails: ProgrammingError: " in said(PhoneQuery("SELECT 1 FROM nowhere", "warehouse"))

    @pytest.mark.usefixtures("digits")
    def test_a_million_rows_are_never_in_memory(self) -> None:
        query = PhoneQuery(f"SELECT {START} + {DIGITS_SUM} FROM {DIGITS}", "warehouse")
        memory_while(PhoneQuery(f"{query.sql} LIMIT 20000", "warehouse"))
        count, grown = memory_while(query)
        assert count == MANY
        assert grown < FEW_MEGABYTES


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a million phones in files of several kinds."""
    folder = tmp_path_factory.mktemp("million")
    plain = "".join(f"138{n:08d}\n" for n in range(MANY)).encode()
    (folder / "phones.txt").write_bytes(plain)
    (folder / "phones.txt.gz").write_bytes(gzip.compress(plain, 1))
    (folder / "phones.csv").write_bytes(b"name,phone\nTom," + plain.replace(b"\n", b"\nTom,")[:-4])
    return folder


@pytest.mark.once
class TestMemory:
    """A million phones take no more than the chunk they are in."""

    @pytest.mark.parametrize(
        ("url", "name", "column"),
        [
            ("", "phones.txt", None),
            pytest.param("file://", "phones.txt.gz", None, marks=object_storage),
            ("", "phones.csv", "phone"),
        ],
    )
    def test_of_a_file(self, million: Path, url: str, name: str, column: str | None) -> None:
        found = stream(PhoneFile(f"{url}{million / name}", column))
        first = next(found)  # with all that is imported for it
        tracemalloc.start()
        sizes = {len(chunk) for chunk in found}
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(first) == 10_000
        assert sizes == {10_000}
        assert most < FEW_MEGABYTES

    def test_of_a_query(self, database: Database, tmp_path: Path) -> None:
        database(sqlite(tmp_path / "x.db"))
        numbers = f"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {MANY}) SELECT x FROM n"
        tracemalloc.start()
        count = sum(map(len, stream(PhoneQuery(numbers, "warehouse"))))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert count == MANY
        assert most < FEW_MEGABYTES

    def test_a_file_goes_through_the_sieve(self, million: Path) -> None:
        sieve = Sieve()
        for chunk in stream(PhoneFile(str(million / "phones.txt"))):
            sieve.sift(chunk)
        assert (sieve.included, sieve.counted()) == (MANY, {})


class TestOtherPhones:
    @pytest.mark.parametrize("phones", [",".join(PHONES), PHONES, tuple(PHONES), iter(PHONES), str(PHONES)])
    def test_a_list_is_streamed_as_it_is_read(self, phones: object) -> None:
        assert list(stream(phones)) in ([PHONES], [[f"'{PHONES[0]}'", *(f" '{each}'" for each in PHONES[1:])]])

    def test_in_chunks(self) -> None:
        assert [len(chunk) for chunk in stream(range(25_000))] == [10_000, 10_000, 5_000]

    @pytest.mark.parametrize("rubbish", [None, 1.5, {"13800130001": 1}, b"13800130001", object()])
    def test_what_is_no_list(self, rubbish: object) -> None:
        assert "expected a list or comma text" in said(rubbish)


class TestShown:
    @pytest.mark.parametrize(
        ("phones", "text"),
        [
            (PhoneFile("s3://bucket/{{ ds }}.csv", "phone", "aws"), "file s3://bucket/{{ ds }}.csv, column phone"),
            (PhoneFile("s3://user:pass@bucket/a@b.csv?token=x#y"), "file s3://bucket/a@b.csv"),
            (PhoneFile("s3://AKIA:se/cr/et@bucket/phones.csv"), "file s3://bucket/phones.csv"),
            (PhoneFile("https://user:p@ss@host:8080/phones.csv"), "file https://host:8080/phones.csv"),
            (PhoneFile("https://host:8080/a@b.csv"), "file https://host:8080/a@b.csv"),
            (PhoneFile("data/13800130001.csv", "x\ny"), "file data/138****0001.csv, column x\\u000ay"),
            (PhoneFile(Path("data/phones.csv")), "file data/phones.csv"),
            (Path("data/phones.csv"), "file data/phones.csv"),
            (PhoneQuery("SELECT '13800130001'", "warehouse", {"x": "13800130001"}), "query on warehouse"),
            ([*PHONES, PHONES[0]], "3 phones, first 138****0001"),
            (["x", "+86 13800130002"], "1 phone, first 138****0002"),
            (13800130001, "1 phone, first 138****0001"),
            ("", "phones: there is none; hand in at least one mobile, such as 13800130001."),
            (None, "phones: expected a list or comma text such as 13800130001,13800130002, got NoneType."),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_in_a_few_words(self, phones: object, text: str) -> None:
        assert shown(phones) == text

    def test_what_is_none_says_so_like_a_reader(self) -> None:
        assert shown(["x"]).startswith("phones: none of 1 is a mainland mobile: 1 malformed (item 1: a text of 1 ")

    def test_what_can_be_read_once_only_is_not_read(self) -> None:
        once = iter(PHONES)
        assert shown(once) == "phones of a list_iterator"
        assert list(once) == PHONES

    def test_neither_a_query_s_text_nor_its_parameters_are_anywhere(self) -> None:
        query = PhoneQuery("SELECT '13800130001'", "warehouse", {"x": "13800130002"})
        assert f"{query} {query!r} {query!s}" == "query on warehouse <query on warehouse> query on warehouse"

    def test_a_file_is_not_looked_for(self) -> None:
        assert shown(PhoneFile("nowhere.csv")) == "file nowhere.csv"


def operator(**changes: Any) -> SmsGroupSendOperator:
    return SmsGroupSendOperator(**{"task_id": "send", "content": "【云通信】您好", **changes})


def sources() -> dict[str, Any]:
    return {
        "file": PhoneFile("s3://bucket/{{ ds }}.csv", "{{ column }}", "{{ conn }}"),
        "query": PhoneQuery("SELECT {{ column }} FROM {{ ds }}", "{{ conn }}", {"day": "{{ ds }}", "n": 1}),
    }


CONTEXT = {"ti": TaskInstance(), "ds": "2024-05-01", "column": "phone", "conn": "aws"}


class TestTemplates:
    """In an operator, as Airflow renders them."""

    def rendered(self, phones: object) -> Any:
        task = operator(phones=phones)
        task.render_template_fields(CONTEXT)  # type: ignore[arg-type]
        return task.phones.value  # type: ignore[union-attr]

    def test_of_a_file(self) -> None:
        assert self.rendered(sources()["file"]) == PhoneFile("s3://bucket/2024-05-01.csv", "phone", "aws")

    @object_storage
    def test_of_a_file_at_an_airflow_path(self) -> None:
        file = self.rendered(PhoneFile(ObjectStoragePath("file:///data/{{ ds }}.csv"), "{{ column }}"))
        assert str(file) == "file file:///data/2024-05-01.csv, column phone"

    def test_of_a_query(self) -> None:
        assert self.rendered(sources()["query"]) == PhoneQuery(
            "SELECT phone FROM 2024-05-01", "aws", {"day": "2024-05-01", "n": 1}
        )

    def test_a_file_without_column_and_connection(self) -> None:
        assert self.rendered(PhoneFile("{{ ds }}.csv")) == PhoneFile("2024-05-01.csv")

    @pytest.mark.parametrize("name", ["file", "query"])
    def test_a_copy_can_be_rendered_instead(self, name: str) -> None:
        phones = sources()[name]
        task = operator(phones=phones)
        found = rendered(phones, lambda value: task.render_template(value, CONTEXT))  # type: ignore[arg-type]
        assert found == self.rendered(sources()[name])
        assert phones == sources()[name]

    @pytest.mark.parametrize("kind", [Path, pytest.param(ObjectStoragePath, marks=object_storage)])
    def test_paths_in_a_copy(self, kind: Callable[[str], Any]) -> None:
        path = kind("/data/{{ ds }}.csv")
        task = operator(phones=path)
        found = rendered(path, lambda value: task.render_template(value, CONTEXT))  # type: ignore[arg-type]
        assert shown(found).endswith("data/2024-05-01.csv")

    def test_other_phones_are_rendered_as_ever(self) -> None:
        task = operator(phones=[])
        assert rendered(["{{ ds }}"], lambda value: task.render_template(value, CONTEXT)) == ["2024-05-01"]  # type: ignore[arg-type]


def own_texts() -> dict[str, Any]:
    return {
        "rows_file": MessageFile("s3://bucket/{{ ds }}.csv", "手机"),
        "rows_query": MessageQuery("SELECT '13800130001' AS phone", "bills"),
    }


def serialized() -> dict[str, Any]:
    """A DAG as Airflow stores it, parsed anew."""
    try:
        from airflow.serialization.serialized_objects import DagSerialization
    except ImportError:  # before 3.1
        from airflow.serialization.serialized_objects import SerializedDAG as DagSerialization  # type: ignore[assignment]
    with DAG("sources", schedule=None, start_date=datetime(2024, 1, 1, tzinfo=UTC)) as dag:
        for name, phones in sources().items():
            operator(task_id=name, phones=phones)
        for name, messages in own_texts().items():
            operator(task_id=name, phones=None, messages=messages)
        mapped = SmsGroupSendOperator.partial(task_id="mapped", content="【云通信】您好")
        mapped.expand(phones=[*sources().values(), PhoneQuery("SELECT '13800130001'", "warehouse")])
    stored: dict[str, Any] = json.loads(json.dumps(DagSerialization.to_dict(dag)))
    assert DagSerialization.from_dict(stored).task_ids == ["file", "query", *own_texts(), "mapped"]
    return stored


class TestSerializedDag:
    def test_does_not_change_from_parse_to_parse(self) -> None:
        assert serialized() == serialized()

    def test_says_where_the_phones_are_and_no_query(self) -> None:
        text = json.dumps(serialized())
        assert text.count("file s3://bucket/{{ ds }}.csv, column {{ column }}") == 2
        assert text.count("query on {{ conn }}") == 2
        assert text.count("query on warehouse") == text.count("query on bills") == 1
        assert "column 手机" in json.dumps(serialized(), ensure_ascii=False)
        assert "SELECT" not in text
        assert "13800130001" not in text


def test_a_dag_file_that_names_a_source_looks_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_up(*args: object, **kwargs: object) -> Iterator[None]:
        raise AssertionError("a connection was looked up")

    monkeypatch.setattr(BaseHook, "get_connection", looked_up)
    for phones in sources().values():
        operator(phones=phones)


def test_a_first_row_that_is_no_header_is_not_shown(tmp_path: Path) -> None:
    """It is a person's."""
    path = tmp_path / "bills.csv"
    path.write_text("13800130001,王芳,120\n13800130002,李明,80\n", "utf-8")
    for source in (
        lambda: next(stream(PhoneFile(str(path), column="phone"))),
        lambda: next(messages.stream(MessageFile(str(path)), ["name"])),
    ):
        with pytest.raises(InputError, match="its first row is no header row") as error:
            source()
        assert "王芳" not in str(error.value)
        assert "1380" not in str(error.value)
