"""The receiver in processes of its own: HTTPS, workers, its end, and what it says of itself."""

from __future__ import annotations

import http.client
import resource
import shutil
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

import pytest
import trustme

from airflow_provider_sms import cli
from airflow_provider_sms.cli import Exit
from tests.receiver.conftest import FORM, RECEIPT
from tests.support.fixtures import APP_KEY
from tests.support.receiver_process import HOST, TOKEN, Receiver
from tests.support.simulator import Simulator, wait_until

PUSH = f"/sms/push?token={TOKEN}"


def push(port: int, taskid: str) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    with closing(connection):
        connection.request("POST", PUSH, urlencode({**RECEIPT, "taskid": taskid}), {"Content-Type": FORM})
        return connection.getresponse().status


def taskids(file: Path) -> list[str]:
    with closing(sqlite3.connect(file)) as connection:
        return [taskid for (taskid,) in connection.execute("SELECT taskid FROM sms_receipt ORDER BY id")]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for this machine, its key in the same file; `ca.pem` beside it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert(HOST, "localhost")
    file = tmp_path / "certificate.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(file)
    return file


@pytest.mark.timeout(120)
class TestItsEnd:
    def test_what_is_queued_at_sigterm_is_stored_and_answered(self, ledger_file: Path, tmp_path: Path) -> None:
        statuses: list[int] = []
        with Receiver(tmp_path, f"sqlite:///{ledger_file}") as receiver:
            with closing(sqlite3.connect(ledger_file, isolation_level=None)) as somebody:
                somebody.execute("BEGIN IMMEDIATE")
                pushing = [
                    threading.Thread(target=lambda number=number: statuses.append(push(receiver.port, str(number))))
                    for number in range(20)
                ]
                for thread in pushing:
                    thread.start()
                assert receiver.process is not None
                wait_until(lambda: len(receiver.processes()[0].net_connections("tcp")) > 20, 10)
                receiver.process.send_signal(signal.SIGTERM)
                wait_until(lambda: not _listens(receiver.port), 10)
                somebody.execute("ROLLBACK")
            for thread in pushing:
                thread.join(30)
            assert statuses == [200] * 20
            assert receiver.process.wait(20) == 0
        assert sorted(taskids(ledger_file), key=int) == [str(number) for number in range(20)]

    def test_a_connection_that_nobody_uses_does_not_hold_it_up(self, ledger_file: Path, tmp_path: Path) -> None:
        with (
            Receiver(tmp_path, f"sqlite:///{ledger_file}") as receiver,
            socket.create_connection((HOST, receiver.port)) as line,
        ):
            line.sendall(b"POST /sms/push HTTP/1.1\r\n")
            assert receiver.process is not None
            receiver.process.send_signal(signal.SIGTERM)
            assert receiver.process.wait(20) == 0


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.timeout(120)
def test_the_simulator_pushes_to_it_over_https(ledger_file: Path, tmp_path: Path, certificate: Path) -> None:
    receiver = Receiver(tmp_path, f"sqlite:///{ledger_file}", "--certificate", str(certificate))
    address = f"https://localhost:{receiver.port}{PUSH}"
    options = ("--push-url", address, "--push-ca", str(tmp_path / "ca.pem"), "--reply-share", "1")
    try:
        receiver.start()
        wait_until(lambda: "listening on https://" in receiver.log(), 60)
        with Simulator(*options, app_id="FAKE-APP-ID", app_key=APP_KEY) as simulator:
            fields = {"appId": "FAKE-APP-ID", "appKey": APP_KEY, "content": "【测】x"}
            phones = ",".join(f"138001300{number:02}" for number in range(10))
            with closing(simulator.connection()) as connection:
                body = urlencode({**fields, "phone": phones})
                connection.request("POST", "/smsApi/group", body, {"Content-Type": FORM})
                assert connection.getresponse().status == 200
            pushes = simulator.wait_for_pushes(30)
        assert (pushes["done"], pushes["answered200"]) == (20, 20), receiver.log()
    finally:
        receiver.stop()
    assert len(taskids(ledger_file)) == 10
    assert TOKEN not in receiver.log()


@pytest.mark.timeout(180)
def test_several_workers_share_the_work_and_the_ledger(ledger_file: Path, tmp_path: Path) -> None:
    with Receiver(tmp_path, f"sqlite:///{ledger_file}", "--workers", "2") as receiver:
        wait_until(lambda: len({process.pid for process in receiver.processes()}) >= 3, 30)
        assert {push(receiver.port, str(number)) for number in range(60)} == {200}
        assert receiver.process is not None
        receiver.process.send_signal(signal.SIGTERM)
        assert receiver.process.wait(30) == 0, receiver.log()
    assert len(taskids(ledger_file)) == 60
    assert TOKEN not in receiver.log()


@pytest.mark.timeout(120)
def test_a_full_disk_is_answered_503_until_there_is_room(ledger_file: Path, tmp_path: Path) -> None:
    with Receiver(tmp_path, f"sqlite:///{ledger_file}") as receiver:
        assert push(receiver.port, "1") == 200
        assert receiver.process is not None
        # As a full disk, for this process alone: what it writes may not grow any more.
        log = ledger_file.with_name(ledger_file.name + "-wal").stat().st_size
        resource.prlimit(receiver.process.pid, resource.RLIMIT_FSIZE, (log, resource.RLIM_INFINITY))
        statuses = [push(receiver.port, str(number)) for number in range(2, 8)]
        assert 503 in statuses
        limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(receiver.process.pid, resource.RLIMIT_FSIZE, limits)
        wait_until(lambda: push(receiver.port, "again") == 200, 20)
        assert receiver.is_running
    kept = taskids(ledger_file)
    assert {"1", "again"} <= set(kept)
    assert {str(number) for number, status in enumerate(statuses, 2) if status == 200} <= set(kept)


class TestWhatItSays:
    @pytest.fixture
    def port(self) -> Iterator[int]:
        with socket.create_server((HOST, 0)) as taken:
            yield taken.getsockname()[1]

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (("--port", "70000"), "--port: 70000 is not between 0 and 65535."),
            (("--workers", "0"), "--workers: 0 is not between 1 and 64."),
            (("--key", "x"), "--key: give --certificate, too."),
            (("--host", ""), "--host: it is empty. Name the address to listen on: 127.0.0.1, or 0.0.0.0 for all."),
            (("--certificate", "/no/such/file"), "--certificate: there is no file /no/such/file."),
            (("--host", "no.such.host.invalid"), "--host, --port: can not listen on no.such.host.invalid port 8085"),
        ],
    )
    def test_a_wrong_flag_is_named(
        self, ledger_file: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], said: str
    ) -> None:
        assert cli.main(["receiver", *flags]) == Exit.USAGE
        assert said in capsys.readouterr().err

    def test_a_port_that_is_taken_is_named(
        self, ledger_file: Path, capsys: pytest.CaptureFixture[str], port: int
    ) -> None:
        assert cli.main(["receiver", "--port", str(port)]) == Exit.USAGE
        assert f"can not listen on 127.0.0.1 port {port}: Address already in use." in capsys.readouterr().err

    def test_what_is_no_certificate_is_named(
        self, ledger_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "nonsense.pem").write_text("nonsense")
        assert cli.main(["receiver", "--certificate", str(tmp_path / "nonsense.pem")]) == Exit.USAGE
        assert "not a certificate and its key in PEM" in capsys.readouterr().err

    def test_a_wrong_setting_is_named_before_it_starts(
        self, ledger_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("AIRFLOW__SMS__ALLOWED_NETWORKS", "everywhere")
        assert cli.main(["receiver"]) == Exit.USAGE
        assert "[sms] allowed_networks: one of them is no network." in capsys.readouterr().err

    def test_a_missing_uvicorn_is_named_with_the_extra(
        self, ledger_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import sys

        monkeypatch.delitem(sys.modules, "airflow_provider_sms.receiver.server", raising=False)
        monkeypatch.setitem(sys.modules, "uvicorn", None)
        assert cli.main(["receiver"]) == Exit.USAGE
        assert "uvicorn is not installed; it comes with airflow-provider-sms[receiver]" in capsys.readouterr().err

    @pytest.mark.timeout(120)
    def test_how_it_is_without_a_word_of_the_tokens(self, ledger_file: Path, tmp_path: Path) -> None:
        with Receiver(tmp_path, f"sqlite:///{ledger_file}") as receiver:
            said = receiver.log()
        assert "tokens set: 1\n" in said
        assert f"the ledger is fit: Ledger(sqlite:///{ledger_file})\n" in said
        assert f"listening on http://127.0.0.1:{receiver.port}\n" in said
        assert TOKEN not in receiver.log()

    @pytest.mark.timeout(120)
    def test_a_ledger_that_is_away_and_comes_back(self, ledger_file: Path, tmp_path: Path) -> None:
        elsewhere = Path(shutil.move(ledger_file, tmp_path / "elsewhere.db"))
        ledger_file.mkdir()
        receiver = Receiver(tmp_path, f"sqlite:///{ledger_file}")
        try:
            receiver.start()
            wait_until(lambda: receiver.health() == 503, 60)
            assert "pushes will be answered 503 until this is mended:" in receiver.log()
            ledger_file.rmdir()
            elsewhere.rename(ledger_file)
            receiver.wait_until_ready()
            assert push(receiver.port, "1") == 200
        finally:
            receiver.stop()

    @pytest.mark.timeout(120)
    def test_without_a_token_it_says_how_to_get_one(self, ledger_file: Path, tmp_path: Path) -> None:
        receiver = Receiver(tmp_path, f"sqlite:///{ledger_file}", push_tokens="")
        try:
            receiver.start()
            wait_until(lambda: receiver.health() == 503, 60)
            assert push(receiver.port, "1") == 403
            assert "`airflow-sms push-url` makes a token" in receiver.log()
        finally:
            receiver.stop()
