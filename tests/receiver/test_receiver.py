"""The receiver as a platform, and a stranger, meets it: over HTTP."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from airflow_provider_sms.ledger import sqlite_file
from airflow_provider_sms.receiver import app as receiver_app
from airflow_provider_sms.receiver import server
from airflow_provider_sms.receiver.admission import STRANGE_OF_ONE
from airflow_provider_sms.receiver.app import LONGEST_BODY, App, Route, route_of
from tests.receiver.conftest import (
    ANOTHER,
    FORM,
    HOST,
    RECEIPT,
    REPLY,
    TOKEN,
    Served,
    SetOptions,
    as_json,
    raw,
    serving,
)
from tests.support.databases import PostgreSQL
from tests.support.simulator import wait_until

OK = (200, "ok")
FORBIDDEN = (403, "forbidden")
PUSH = f"/sms/push?token={TOKEN}"
Start = Callable[[], Served]


def rows(path: Path, table: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY id")]


class TestAddresses:
    @pytest.mark.parametrize(
        ("path", "route"),
        [
            ("/sms/push", Route("push")),
            ("/sms/receipts", Route("receipts")),
            ("/sms/replies", Route("replies")),
            ("/sms/health", Route("health")),
            ("/sms/push/2RYN7CQHL1M", Route("push", "2RYN7CQHL1M")),
            ("/sms/push/", Route("push")),
            ("/sms/t/secret/receipts/APP", Route("receipts", "APP", "secret")),
            ("/sms/t/secret/push", Route("push", None, "secret")),
            ("/sms/t/secret/health", Route(None, None, "secret")),
            ("/sms/t", Route(None)),
            ("/sms", Route(None)),
            ("/push", Route(None)),
            ("/sms/push/a/b", Route(None)),
            ("/sms/push/a b", Route(None)),
            (f"/sms/push/{'a' * 101}", Route(None)),
            ("/", Route(None)),
            ("", Route(None)),
            ("*", Route(None)),
        ],
    )
    def test_on_its_own(self, path: str, route: Route) -> None:
        assert route_of(path, "", "/sms") == route

    @pytest.mark.parametrize(
        ("path", "root_path"),
        [
            ("/sms/push/APP", "/sms"),
            ("/airflow/sms/push/APP", "/airflow/sms"),
            # A proxy has cut off what Airflow lies under.
            ("/sms/push/APP", "/airflow/sms"),
            ("/sms/push/APP", "/a/b/sms"),
            # As Starlette had it once.
            ("/push/APP", "/sms"),
        ],
    )
    def test_mounted(self, path: str, root_path: str) -> None:
        assert route_of(path, root_path, "") == Route("push", "APP")

    def test_each_takes_its_own_and_the_common_one_tells_them_apart(self, receiver: Served, ledger_file: Path) -> None:
        assert receiver.push(RECEIPT) == OK
        assert receiver.push(REPLY) == OK
        assert receiver.push({**RECEIPT, "taskid": "2"}, f"/sms/receipts/APP-2?token={TOKEN}") == OK
        assert receiver.push({**REPLY, "taskid": "2"}, f"/sms/replies/APP-2?token={TOKEN}") == OK
        for table in ("sms_receipt", "sms_reply"):
            assert [(row["taskid"], row["account"]) for row in rows(ledger_file, table)] == [
                ("3313746", None),
                ("2", "APP-2"),
            ]

    def test_the_fields_may_stand_in_the_address(self, receiver: Served, ledger_file: Path) -> None:
        for headers in ({}, {"Content-Type": "text/plain; charset=utf-8"}):
            assert receiver.ask("POST", f"{PUSH}&{urlencode(REPLY)}", b"", headers) == OK
        (row,) = rows(ledger_file, "sms_reply")
        assert (row["content"], row["extra"]) == (REPLY["content"], None)

    def test_one_that_leads_nowhere_is_said_to_those_with_a_token_only(self, receiver: Served) -> None:
        assert receiver.push(RECEIPT, f"/sms/pusch?token={TOKEN}")[0] == 404
        assert receiver.push(RECEIPT, "/sms/pusch") == FORBIDDEN


class TestStrangers:
    @pytest.mark.parametrize(
        "target",
        [
            "/sms/push",
            "/sms/push?token=",
            "/sms/push?token=wrong",
            f"/sms/push?token={TOKEN}x",
            f"/sms/push?TOKEN={TOKEN}",
            "/sms/push?token=%00",
            f"/sms/t/{TOKEN}/push",
            f"/sms/t/{TOKEN}/push?token={TOKEN}",
            "/sms/push/../health/x",
            "/sms/",
            "/",
            "/sms/push/APP",
        ],
    )
    def test_get_the_very_same_answer_whatever_is_wrong(self, receiver: Served, target: str) -> None:
        def answer(method: str, path: str, body: bytes, kind: str) -> bytes:
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            received = raw(receiver.port, head.encode() + body)
            return b"\r\n".join(line for line in received.split(b"\r\n") if not line.startswith(b"date:"))

        usual = answer("POST", "/sms/push?token=x", b"a=b", FORM)
        assert usual.startswith(b"HTTP/1.1 403 ")
        for method, kind in (("POST", FORM), ("POST", "application/json"), ("PUT", FORM), ("GET", FORM)):
            assert answer(method, target, b"a=b", kind) == usual

    def test_store_nothing(self, receiver: Served, ledger_file: Path) -> None:
        receiver.push(RECEIPT, "/sms/push?token=wrong")
        receiver.push(b"rubbish", "/sms/push?token=wrong")
        for table in ("sms_receipt", "sms_reply", "sms_quarantine"):
            assert rows(ledger_file, table) == []

    def test_are_answered_before_their_body_comes(self, receiver: Served) -> None:
        head = b"POST /sms/push?token=x HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
        assert raw(receiver.port, head).startswith(b"HTTP/1.1 403 ")

    def test_are_told_to_slow_down_and_the_platform_is_not(self, receiver: Served) -> None:
        statuses = [receiver.push(RECEIPT, "/sms/push")[0] for _ in range(STRANGE_OF_ONE + 1)]
        assert statuses == [403] * STRANGE_OF_ONE + [429]
        assert receiver.push(RECEIPT) == OK
        assert all(receiver.push({**RECEIPT, "taskid": str(number)}) == OK for number in range(STRANGE_OF_ONE * 2))

    def test_learn_nothing_from_health(self, receiver: Served) -> None:
        assert receiver.ask("GET", "/sms/health") == OK

    @pytest.mark.parametrize("tokens", ["", " , "])
    def test_are_all_there_are_where_no_token_is_set(
        self, start: Start, set_options: SetOptions, caplog: pytest.LogCaptureFixture, tokens: str, ledger_file: Path
    ) -> None:
        set_options(push_tokens=tokens)
        ledger_file.unlink()
        served = start()
        for target in (PUSH, "/sms/push", "/sms/push?token="):
            assert served.push(RECEIPT, target) == FORBIDDEN
        assert served.health() == 503
        assert "[sms] push_tokens is not set. `airflow-sms push-url`" in caplog.text
        # Nor does a stranger make a ledger.
        assert not ledger_file.exists()


class TestTokens:
    def test_two_at_a_time(self, receiver: Served, ledger_file: Path) -> None:
        for number, token in enumerate((TOKEN, ANOTHER)):
            assert receiver.push({**RECEIPT, "taskid": str(number)}, f"/sms/push?token={token}") == OK
        assert len(rows(ledger_file, "sms_receipt")) == 2

    def test_in_the_path_where_it_is_allowed(self, start: Start, set_options: SetOptions, ledger_file: Path) -> None:
        set_options(path_tokens="True")
        served = start()
        assert served.push(RECEIPT, f"/sms/t/{TOKEN}/receipts/APP") == OK
        assert served.push(RECEIPT, "/sms/t/wrong/receipts/APP") == FORBIDDEN
        assert served.push(RECEIPT) == OK
        assert len(rows(ledger_file, "sms_receipt")) == 1

    def test_only_from_networks_that_are_allowed(self, start: Start, set_options: SetOptions) -> None:
        set_options(allowed_networks="203.0.113.0/24", trusted_proxies="127.0.0.1,10.0.0.0/8")
        served = start()
        assert served.push(RECEIPT) == FORBIDDEN
        assert served.push(RECEIPT, **{"X-Forwarded-For": "203.0.113.7, 10.0.0.1"}) == OK
        assert served.push(RECEIPT, **{"X-Forwarded-For": "203.0.113.7, 198.51.100.1"}) == FORBIDDEN

    def test_a_spoofed_header_helps_nobody(self, start: Start, set_options: SetOptions) -> None:
        set_options(allowed_networks="203.0.113.0/24")
        served = start()
        assert served.push(RECEIPT, **{"X-Forwarded-For": "203.0.113.7"}) == FORBIDDEN


class TestBodies:
    def test_only_post(self, receiver: Served) -> None:
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
            assert receiver.ask(method, PUSH)[0] == 405
        assert receiver.ask("HEAD", PUSH) == (405, "")

    @pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain", "x"])
    def test_only_a_form(self, receiver: Served, kind: str) -> None:
        assert receiver.push(RECEIPT, **{"Content-Type": kind})[0] == 415

    @pytest.mark.parametrize("kind", ["APPLICATION/X-WWW-FORM-URLENCODED", "application/x-www-form-urlencoded ; a=b"])
    def test_a_form_however_it_is_written(self, receiver: Served, kind: str) -> None:
        assert receiver.push(RECEIPT, **{"Content-Type": kind}) == OK

    def test_without_a_content_type(self, receiver: Served) -> None:
        assert receiver.ask("POST", PUSH, urlencode(RECEIPT).encode()) == OK

    def test_of_the_charset_that_is_named(self, receiver: Served, ledger_file: Path) -> None:
        body = urlencode(REPLY, encoding="gbk").encode()
        assert receiver.push(body, **{"Content-Type": f"{FORM.partition(';')[0]};charset=GBK"}) == OK
        assert rows(ledger_file, "sms_reply")[0]["content"] == REPLY["content"]

    def test_of_a_charset_that_is_not_the_one_named(self, receiver: Served, ledger_file: Path) -> None:
        assert receiver.push(urlencode(REPLY, encoding="gbk").encode()) == OK
        assert rows(ledger_file, "sms_reply")[0]["content"].startswith(r"\xca")

    def test_too_large_a_one_is_refused_before_it_comes(self, receiver: Served) -> None:
        head = f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Length: {LONGEST_BODY + 1}\r\n\r\n"
        assert raw(receiver.port, head.encode()).startswith(b"HTTP/1.1 413 ")

    def test_too_large_a_one_in_chunks_is_refused_as_it_comes(self, receiver: Served) -> None:
        head = f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        with socket.create_connection((HOST, receiver.port), timeout=30) as line:
            line.sendall(head.encode())
            chunk = b"4000\r\n" + b"a" * 0x4000 + b"\r\n"
            for _ in range(5):
                line.sendall(chunk)
            assert line.recv(100).startswith(b"HTTP/1.1 413 ")

    def test_so_is_one_that_comes_at_once(self, receiver: Served, ledger_file: Path) -> None:
        start = b"mobile=13800130001&content="
        body = start + b"x" * (LONGEST_BODY - len(start) + 1)
        head = f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n"
        assert raw(receiver.port, head.encode() + body + b"\r\n0\r\n\r\n").startswith(b"HTTP/1.1 413 ")
        assert rows(ledger_file, "sms_reply") == []

    def test_in_chunks(self, receiver: Served) -> None:
        def chunks() -> Iterator[bytes]:
            for at in urlencode(RECEIPT):
                yield at.encode()

        assert receiver.ask("POST", PUSH, chunks(), {"Content-Type": FORM}) == OK

    def test_the_largest(self, receiver: Served, ledger_file: Path) -> None:
        start = b"mobile=13800130001&content="
        assert receiver.push(start + b"x" * (LONGEST_BODY - len(start))) == OK
        assert receiver.push(start + b"x" * (LONGEST_BODY - len(start) + 1))[0] == 413
        assert len(rows(ledger_file, "sms_reply")) == 1

    def test_a_slow_one_is_given_up(self, receiver: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(receiver_app, "BODY_SECONDS", 0.3)
        head = f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nmobile="
        begun = time.monotonic()
        assert raw(receiver.port, head.encode()).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - begun < 5
        assert receiver.push(RECEIPT) == OK

    def test_a_sender_that_leaves_in_the_middle_harms_nobody(
        self, receiver: Served, caplog: pytest.LogCaptureFixture, ledger_file: Path
    ) -> None:
        head = f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nmobile="
        with socket.create_connection((HOST, receiver.port), timeout=30) as line:
            line.sendall(head.encode())
        assert receiver.push(RECEIPT) == OK
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
        assert len(rows(ledger_file, "sms_receipt")) == 1

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", "neither status, code nor content"),
            (b"\xff\x00", "neither status, code nor content"),
            (b"mobile=13800130001&status=1", "no taskid"),
            (b"&" * 300, "more than 200 fields"),
        ],
    )
    def test_what_is_no_push_is_refused_with_a_reason_and_kept_for_a_look(
        self, receiver: Served, ledger_file: Path, body: bytes, reason: str
    ) -> None:
        assert receiver.push(body, f"/sms/push/APP?token={TOKEN}") == (400, reason)
        (row,) = rows(ledger_file, "sms_quarantine")
        assert (row["interface"], row["account"], row["reason"]) == ("push", "APP", reason)

    def test_no_token_is_kept_with_it(self, receiver: Served, ledger_file: Path) -> None:
        assert receiver.ask("POST", f"{PUSH}&mobile=1")[0] == 400
        assert rows(ledger_file, "sms_quarantine")[0]["body"] == "mobile=1"


class TestHeads:
    def test_one_that_never_ends_is_given_up(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server, "HEAD_SECONDS", 0.4)
        served = start()
        begun = time.monotonic()
        with socket.create_connection((HOST, served.port), timeout=20) as line:
            line.sendall(b"POST /sms/push HTTP/1.1\r\n")

            def trickles() -> bool:
                try:
                    line.sendall(b"X-A: b\r\n")
                except OSError:
                    return False
                return True

            wait_until(lambda: not trickles(), 10)
        assert time.monotonic() - begun > 0.3

    def test_a_silent_connection_is_given_up(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server, "HEAD_SECONDS", 0.4)
        with socket.create_connection((HOST, start().port), timeout=20) as line:
            try:
                assert line.recv(10) == b""
            except ConnectionResetError:
                pass

    def test_a_connection_is_kept_for_the_next_push(self, receiver: Served) -> None:
        body = urlencode(RECEIPT)
        push = f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        last = push.replace(b"Host: x", b"Connection: close")
        assert raw(receiver.port, push, push, last, pause=0.1).count(b"HTTP/1.1 200 OK") == 3


def test_many_at_once_are_stored_each_once(receiver: Served, ledger_file: Path) -> None:
    def push(number: int) -> tuple[int, str]:
        return receiver.push({**RECEIPT, "mobile": f"138{number % 200:08}"})

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(push, range(400))) == {OK}
    assert len(rows(ledger_file, "sms_receipt")) == 200


def test_an_opt_out_holds_when_it_is_answered(receiver: Served, ledger_file: Path) -> None:
    assert receiver.push({**REPLY, "content": "td"}) == OK
    with closing(sqlite3.connect(ledger_file)) as connection:
        assert connection.execute("SELECT phone, source FROM sms_opt_out").fetchall() == [("13800130001", "reply")]


def test_it_says_that_it_was_here(receiver: Served, ledger_file: Path) -> None:
    wait_until(lambda: rows(ledger_file, "sms_ledger")[0]["receiver_at"] is not None, 10)


class TestALedgerThatIsAway:
    def test_at_the_start(
        self, start: Start, ledger_file: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        elsewhere = tmp_path / "elsewhere.db"
        ledger_file.rename(elsewhere)
        ledger_file.mkdir()
        served = start()
        assert served.push(RECEIPT)[0] == 503
        assert served.health() == 503
        assert served.push(RECEIPT, "/sms/push") == FORBIDDEN
        said = [record.getMessage() for record in caplog.records if "503" in record.getMessage()]
        assert len(said) == 1
        ledger_file.rmdir()
        elsewhere.rename(ledger_file)
        served.wait_until_well()
        assert served.push(RECEIPT) == OK
        assert "Pushes are stored again." in caplog.text

    def test_in_the_middle_and_no_empty_one_is_made_in_its_place(
        self, receiver: Served, ledger_file: Path, tmp_path: Path
    ) -> None:
        assert receiver.push(RECEIPT) == OK
        elsewhere = Path(shutil.move(ledger_file, tmp_path / "elsewhere.db"))
        assert receiver.push({**RECEIPT, "taskid": "2"})[0] == 503
        assert not ledger_file.exists()
        elsewhere.rename(ledger_file)
        receiver.wait_until_well()
        assert receiver.push({**RECEIPT, "taskid": "2"}) == OK
        assert [row["taskid"] for row in rows(ledger_file, "sms_receipt")] == ["3313746", "2"]

    def test_replaced_by_another_one(self, receiver: Served, ledger_file: Path, tmp_path: Path) -> None:
        assert receiver.push(RECEIPT) == OK
        sqlite_file.make(tmp_path / "another.db")
        for ending in ("", "-wal", "-shm"):
            Path(f"{ledger_file}{ending}").unlink(missing_ok=True)
        (tmp_path / "another.db").rename(ledger_file)
        wait_until(lambda: receiver.push(RECEIPT) == OK, 20)
        assert len(rows(ledger_file, "sms_receipt")) == 1

    def test_of_another_version(self, start: Start, ledger_file: Path, caplog: pytest.LogCaptureFixture) -> None:
        with closing(sqlite3.connect(ledger_file, isolation_level=None)) as connection:
            (version,) = connection.execute("SELECT version_num FROM sms_ledger_version").fetchone()
            connection.execute("UPDATE sms_ledger_version SET version_num = '0001'")
        served = start()
        assert served.push(RECEIPT)[0] == 503
        assert "run `airflow-sms ledger upgrade`" in caplog.text
        with closing(sqlite3.connect(ledger_file, isolation_level=None)) as connection:
            connection.execute("UPDATE sms_ledger_version SET version_num = ?", (version,))
        served.wait_until_well()
        assert served.push(RECEIPT) == OK

    def test_locked_by_somebody_for_long(self, receiver: Served, ledger_file: Path) -> None:
        with closing(sqlite3.connect(ledger_file, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            begun = time.monotonic()
            assert receiver.push(RECEIPT)[0] == 503
            assert time.monotonic() - begun < 9
            connection.execute("ROLLBACK")
        receiver.wait_until_well()
        assert receiver.push(RECEIPT) == OK

    def test_locked_for_a_moment_is_waited_out(self, receiver: Served, ledger_file: Path) -> None:
        with closing(sqlite3.connect(ledger_file, isolation_level=None)) as connection, ThreadPoolExecutor(1) as pool:
            connection.execute("BEGIN IMMEDIATE")
            answer = pool.submit(receiver.push, RECEIPT)
            time.sleep(0.3)
            assert not answer.done()
            connection.execute("ROLLBACK")
            assert answer.result() == OK

    def test_that_can_not_keep_the_promises(
        self, start: Start, set_options: SetOptions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
        assert start().push(RECEIPT)[0] == 503
        assert "The ledger is a SQLite file, and [core] executor names CeleryExecutor" in caplog.text


class TestPostgreSQLThatIsAway:
    @pytest.fixture
    def served(self, postgresql_url: str, start: Start, monkeypatch: pytest.MonkeyPatch) -> Served:
        from airflow_provider_sms.ledger import versions
        from airflow_provider_sms.ledger.database import Ledger, read_url

        ledger = Ledger(read_url(postgresql_url))
        versions.upgrade(ledger)
        ledger.close()
        monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", postgresql_url)
        served = start()
        served.wait_until_well()
        return served

    def test_a_restart_between_two_pushes_is_not_even_noticed(
        self, served: Served, postgresql_server: PostgreSQL
    ) -> None:
        assert served.push(RECEIPT) == OK
        postgresql_server.stop()
        postgresql_server.start()
        assert served.push({**RECEIPT, "taskid": "2"}) == OK

    def test_stopped_and_started(self, served: Served, postgresql_server: PostgreSQL) -> None:
        postgresql_server.stop()
        assert served.push(RECEIPT)[0] == 503
        wait_until(lambda: served.health() == 503, 20)
        postgresql_server.start()
        served.wait_until_well()
        assert served.push(RECEIPT) == OK

    def test_frozen_and_thawed(self, served: Served, postgresql_server: PostgreSQL) -> None:
        assert served.push(RECEIPT) == OK
        postgresql_server.freeze()
        try:
            begun = time.monotonic()
            assert served.push({**RECEIPT, "taskid": "2"})[0] == 503
            waited = time.monotonic() - begun
            assert waited < 9
            wait_until(lambda: served.health() == 503, 30)
            begun = time.monotonic()
            assert served.push(RECEIPT, "/sms/push") == FORBIDDEN
            # Who has no token does not get as far as the ledger.
            assert time.monotonic() - begun < waited
        finally:
            postgresql_server.thaw()
        served.wait_until_well()
        assert served.push({**RECEIPT, "taskid": "2"}) == OK


class TestWrongSettings:
    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"push_tokens": "short"}, "[sms] push_tokens: a token is not 22 to 200"),
            ({"allowed_networks": "everywhere"}, "[sms] allowed_networks: one of them is no network"),
            ({"path_tokens": "perhaps"}, "[sms] path_tokens: neither true nor false"),
            ({"push_tokens": "", "push_tokens_cmd": "false"}, "[sms] push_tokens: "),
            ({"sql_alchemy_conn": "oracle://x"}, "[sms] sql_alchemy_conn: "),
        ],
    )
    def test_are_answered_503_and_said_once_in_words(
        self,
        start: Start,
        set_options: SetOptions,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        options: dict[str, str],
        named: str,
    ) -> None:
        if "push_tokens_cmd" in options:
            monkeypatch.delenv("AIRFLOW__SMS__PUSH_TOKENS")
            options = {"push_tokens_cmd": options["push_tokens_cmd"]}
        set_options(**options)
        served = start()
        assert served.push(RECEIPT)[0] == 503
        assert served.health() == 503
        (said,) = [record.getMessage() for record in caplog.records if named in record.getMessage()]
        assert "503" in said
        assert TOKEN not in caplog.text

    def test_no_token_and_no_phone_is_ever_logged(
        self, receiver: Served, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        caplog.set_level(logging.DEBUG)
        receiver.push(RECEIPT)
        receiver.push({"mobile": "13800130001"})
        receiver.push(RECEIPT, f"/sms/push?token={TOKEN}x")
        logged = caplog.text + "".join(capfd.readouterr())
        assert TOKEN not in logged
        assert "13800130001" not in logged


class TestMounted:
    def test_in_another_app_without_a_lifespan_of_its_own(self, ledger_file: Path, set_options: SetOptions) -> None:
        fastapi = pytest.importorskip("fastapi")
        outer = fastapi.FastAPI(root_path="/airflow")
        outer.mount("/sms", App(prefix=""))
        with serving(outer) as served:
            assert served.push(RECEIPT) == OK
            assert served.push({**RECEIPT, "taskid": "2"}, f"/airflow/sms/push?token={TOKEN}") == OK
            assert served.health() == 200
            assert served.push(RECEIPT, "/sms/push") == FORBIDDEN
        assert len(rows(ledger_file, "sms_receipt")) == 2

    def test_behind_middleware_that_changes_headers(self, ledger_file: Path, set_options: SetOptions) -> None:
        fastapi = pytest.importorskip("fastapi")
        from starlette.middleware.gzip import GZipMiddleware

        outer = fastapi.FastAPI()
        outer.add_middleware(GZipMiddleware, minimum_size=1)
        outer.mount("/sms", App(prefix=""))
        with serving(outer) as served:
            for number in range(3):
                status, _ = served.push({**RECEIPT, "taskid": str(number)}, **{"Accept-Encoding": "identity"})
                assert status == 200
        assert all(name != b"vary" for name, _ in receiver_app.OK.headers)

    def test_two_event_loops_of_one_process_each_have_their_own(
        self, ledger_file: Path, set_options: SetOptions
    ) -> None:
        app = App()
        for number in range(2):
            with serving(app) as served:
                assert served.push({**RECEIPT, "taskid": str(number)}) == OK
        assert len(rows(ledger_file, "sms_receipt")) == 2

    def test_after_a_fork_each_process_has_its_own(self, ledger_file: Path, set_options: SetOptions) -> None:
        app = App()
        with serving(app) as served:
            assert served.push(RECEIPT) == OK
        child = os.fork()
        if not child:
            status = 1
            try:
                with serving(app) as served:
                    status = 0 if served.push({**RECEIPT, "taskid": "2"}) == OK else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert len(rows(ledger_file, "sms_receipt")) == 2


def test_extra_fields_are_kept(receiver: Served, ledger_file: Path) -> None:
    assert receiver.push({**RECEIPT, "spId": "7"}) == OK
    assert as_json(rows(ledger_file, "sms_receipt")[0]["extra"]) == {"spid": "7"}
