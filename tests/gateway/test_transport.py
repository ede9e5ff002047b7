"""Did the request leave? Shown with real sockets: TLS, a proxy, stalls, resets, trickles."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from airflow_provider_sms.gateway import transport
from airflow_provider_sms.gateway.account import Account
from airflow_provider_sms.gateway.client import SmsClient
from airflow_provider_sms.gateway.errors import (
    AnswerLostError,
    AnswerUnreadableError,
    HttpRefusedError,
    UnsentError,
)
from tests.support.wire import Server, TestAuthority, answer, reset, serving

PHONES = ("13800130001",)
TEXT = "【云通信】您好"
KEY = "FAKE-APP-KEY-0001"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(str(tmp_path_factory.mktemp("ca")))


@pytest.fixture(autouse=True)
def no_proxy_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def client(base_url: str, *, timeout: float = 30, **settings: object) -> SmsClient:
    return SmsClient(Account("FAKE-APP-ID", KEY, base_url, timeout, **settings))  # type: ignore[arg-type]


def send(port: int, scheme: str = "http", **settings: object) -> str:
    with client(f"{scheme}://127.0.0.1:{port}", **settings) as platform:  # type: ignore[arg-type]
        return platform.send(PHONES, TEXT).task_id


def answering(server: Server, connection: socket.socket) -> None:
    while server.read(connection):
        connection.sendall(answer())


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def over_tls(authority: TestAuthority) -> Iterator[Server]:
    def handler(server: Server, connection: socket.socket) -> None:
        with authority.context.wrap_socket(connection, server_side=True) as wrapped:
            answering(server, wrapped)

    with serving(handler) as server:
        yield server


@pytest.fixture
def tls_server(authority: TestAuthority) -> Iterator[Server]:
    yield from over_tls(authority)


class TestProvenUnsent:
    def test_nobody_listens(self) -> None:
        with pytest.raises(UnsentError, match="Connection refused"):
            send(closed_port())

    def test_the_host_has_no_address(self) -> None:
        with client("https://platform.invalid") as platform, pytest.raises(UnsentError, match="host name not found"):
            platform.send(PHONES, TEXT)

    def test_the_tls_handshake_is_broken_off(self, authority: TestAuthority) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            connection.recv(1024)
            reset(connection)

        with serving(handler) as server, pytest.raises(UnsentError):
            send(server.port, "https", ca_file=authority.ca_file)

    def test_the_tls_handshake_stalls(self, authority: TestAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transport, "CONNECT_TIMEOUT", 0.3)

        def handler(server: Server, connection: socket.socket) -> None:
            server.closing.wait(30)

        with serving(handler) as server, pytest.raises(UnsentError):
            send(server.port, "https", ca_file=authority.ca_file)

    def test_what_answers_the_handshake_is_not_tls(self, authority: TestAuthority) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            connection.recv(1024)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        with serving(handler) as server, pytest.raises(UnsentError, match="TLS failed"):
            send(server.port, "https", ca_file=authority.ca_file)

    def test_the_certificate_is_not_trusted(self, tls_server: Server) -> None:
        with pytest.raises(UnsentError, match="certificate not trusted"):
            send(tls_server.port, "https")
        assert tls_server.requests == []

    def test_the_proxy_is_not_there(self) -> None:
        with (
            client("https://platform.invalid", proxy=f"http://u:pw-of-proxy@127.0.0.1:{closed_port()}") as platform,
            pytest.raises(UnsentError) as error,
        ):
            platform.send(PHONES, TEXT)
        assert "pw-of-proxy" not in str(error.value)

    def test_the_proxy_refuses_the_tunnel(self) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            server.read(connection)
            connection.sendall(answer(b"", "407 Proxy Authentication Required"))

        with serving(handler) as proxy:
            with (
                client("https://platform.invalid", proxy=f"http://u:pw-of-proxy@127.0.0.1:{proxy.port}") as platform,
                pytest.raises(UnsentError, match="407") as error,
            ):
                platform.send(PHONES, TEXT)
            assert proxy.requests[0].startswith(b"CONNECT platform.invalid:443")
        assert "pw-of-proxy" not in str(error.value)

    def test_the_proxy_stalls_the_tunnel_until_the_deadline(self) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            server.read(connection)
            while not server.closing.wait(0.2):
                connection.sendall(b"H")

        with (
            serving(handler) as proxy,
            client("https://platform.invalid", timeout=1, proxy=f"http://127.0.0.1:{proxy.port}") as platform,
            pytest.raises(UnsentError, match="deadline passed"),
        ):
            platform.send(PHONES, TEXT)

    def test_the_deadline_passes_before_the_first_byte(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving(answering) as server:
            with client(f"http://127.0.0.1:{server.port}") as platform:
                real = time.monotonic
                late = iter([0.0, 0.0])
                monkeypatch.setattr(transport.time, "monotonic", lambda: real() + next(late, 1000.0))
                with pytest.raises(UnsentError, match="deadline passed"):
                    platform.send(PHONES, TEXT)
            assert server.requests == []

    def test_what_the_caller_raises_at_the_last_moment_stops_the_request(self) -> None:
        class TooLate(Exception):
            pass

        def leaving(seconds: float) -> None:
            raise TooLate

        with serving(answering) as server:
            with client(f"http://127.0.0.1:{server.port}") as platform, pytest.raises(TooLate):
                platform.send(PHONES, TEXT, leaving=leaving)
            assert server.requests == []

    def test_the_caller_is_told_how_long_the_request_may_still_take(self) -> None:
        told: list[float] = []
        with serving(answering) as server:
            with client(f"http://127.0.0.1:{server.port}", timeout=40) as platform:
                platform.send(PHONES, TEXT, leaving=told.append)
            assert len(server.requests) == 1
        (seconds,) = told
        assert 10 < seconds <= 40

    def test_the_deadline_passes_while_the_caller_looks_for_the_last_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = time.monotonic
        late = 0.0

        def leaving(seconds: float) -> None:
            nonlocal late
            late = 1000.0

        with serving(answering) as server:
            with client(f"http://127.0.0.1:{server.port}") as platform:
                monkeypatch.setattr(transport.time, "monotonic", lambda: real() + late)
                with pytest.raises(UnsentError, match="deadline passed"):
                    platform.send(PHONES, TEXT, leaving=leaving)
            assert server.requests == []


class TestInDoubt:
    def test_the_connection_is_reset_after_the_request(self) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            server.read(connection)
            reset(connection)

        with serving(handler) as server:
            with pytest.raises(AnswerLostError):
                send(server.port)
            assert len(server.requests) == 1

    def test_the_connection_is_reset_in_the_middle_of_the_request(self) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            connection.recv(10)
            reset(connection)

        with serving(handler) as server, pytest.raises(AnswerLostError):
            send(server.port)

    def test_the_connection_closes_without_an_answer(self) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            server.read(connection)

        with serving(handler) as server:
            with pytest.raises(AnswerLostError, match=r"RemoteDisconnected|Connection reset"):
                send(server.port)
            assert len(server.requests) == 1

    def test_no_answer_comes_in_time(self) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            server.read(connection)
            server.closing.wait(30)

        with serving(handler) as server, pytest.raises(AnswerLostError, match=r"deadline passed|no answer in time"):
            send(server.port, timeout=1)

    @pytest.mark.parametrize(
        "start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"], ids=["headers", "body"]
    )
    def test_an_answer_that_trickles_ends_at_the_deadline(self, start: bytes) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            server.read(connection)
            connection.sendall(start or b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not server.closing.wait(0.1):
                connection.sendall(b" ")

        with serving(handler) as server:
            started = time.monotonic()
            with pytest.raises(AnswerLostError, match="deadline passed"):
                send(server.port, timeout=1)
            assert time.monotonic() - started < 10

    def test_an_answer_over_tls_that_trickles_ends_at_the_deadline(self, authority: TestAuthority) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            with authority.context.wrap_socket(connection, server_side=True) as wrapped:
                server.read(wrapped)
                wrapped.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while not server.closing.wait(0.1):
                    wrapped.sendall(b" ")

        with serving(handler) as server, pytest.raises(AnswerLostError, match="deadline passed"):
            send(server.port, "https", timeout=1, ca_file=authority.ca_file)

    def test_an_answer_is_cut_short(self) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            server.read(connection)
            connection.sendall(answer()[:-10])

        with serving(handler) as server, pytest.raises(AnswerLostError, match="answer cut short"):
            send(server.port)

    def test_an_answer_without_end_is_not_read_to_the_end(self) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            server.read(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                connection.sendall(b"x" * 65536)

        with serving(handler) as server, pytest.raises(AnswerUnreadableError, match="too long"):
            send(server.port)

    def test_what_answers_is_not_http(self) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            server.read(connection)
            connection.sendall(b"\x00\x01 rubbish\r\n\r\n")

        with serving(handler) as server, pytest.raises(AnswerLostError):
            send(server.port)

    def test_a_plain_proxy_that_breaks_after_the_request(self) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            server.read(connection)
            reset(connection)

        with serving(handler) as proxy, pytest.raises(AnswerLostError):
            send(9, proxy=f"http://127.0.0.1:{proxy.port}")


class TestSent:
    def test_over_tls(self, tls_server: Server, authority: TestAuthority) -> None:
        assert send(tls_server.port, "https", ca_file=authority.ca_file) == "3313746"

    def test_through_a_tunnel(self, tls_server: Server, authority: TestAuthority) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            server.read(connection)
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with socket.create_connection(("127.0.0.1", tls_server.port)) as onward:
                connection.setblocking(False)
                onward.setblocking(False)
                _splice(server, connection, onward)

        with serving(handler) as proxy:
            url = f"http://user:pw-of-proxy@127.0.0.1:{proxy.port}"
            assert send(tls_server.port, "https", ca_file=authority.ca_file, proxy=url) == "3313746"
            assert b"Proxy-Authorization: Basic" in proxy.requests[0]
        assert b"Proxy-Authorization" not in tls_server.requests[0]

    def test_as_a_form_whose_address_carries_nothing(self) -> None:
        with serving(answering) as server:
            send(server.port)
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /smsApi/group HTTP/1.1\r\n")
        assert b"application/x-www-form-urlencoded;charset=utf-8" in head
        assert KEY.encode() not in head
        assert KEY.encode() in body

    def test_a_redirect_is_not_followed(self) -> None:
        with serving(answering) as elsewhere:

            def handler(server: Server, connection: socket.socket) -> None:
                server.read(connection)
                target = f"Location: http://127.0.0.1:{elsewhere.port}/smsApi/group\r\n"
                connection.sendall(answer(b"", "307 Temporary Redirect", target))

            with serving(handler) as server, pytest.raises(HttpRefusedError, match="redirect"):
                send(server.port)
            assert elsewhere.requests == []

    def test_a_young_connection_is_used_again(self) -> None:
        with serving(answering) as server, client(f"http://127.0.0.1:{server.port}") as platform:
            platform.send(PHONES, TEXT)
            platform.send(PHONES, TEXT)
            assert (len(server.requests), server.connections) == (2, 1)

    def test_an_old_connection_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transport, "IDLE_LIMIT", -1.0)
        with serving(answering) as server, client(f"http://127.0.0.1:{server.port}") as platform:
            platform.send(PHONES, TEXT)
            platform.send(PHONES, TEXT)
            assert (len(server.requests), server.connections) == (2, 2)

    def test_the_environment_s_proxy_is_not_used_for_this_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
        with serving(answering) as server:
            assert send(server.port) == "3313746"

    def test_the_environment_s_proxy_is_used_for_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def handler(server: Server, connection: socket.socket) -> None:
            server.read(connection)
            connection.sendall(answer(b"", "502 Bad Gateway"))

        with serving(handler) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            with client("https://platform.invalid") as platform, pytest.raises(UnsentError, match="502"):
                platform.send(PHONES, TEXT)
            assert proxy.requests[0].startswith(b"CONNECT platform.invalid:443")

    def test_a_netrc_is_not_read(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine platform.invalid login somebody password secret-of-netrc\n")
        monkeypatch.setenv("NETRC", str(netrc))
        with client("https://platform.invalid") as platform:
            request = requests.Request("POST", "https://platform.invalid/")
            prepared = platform._transport._session.prepare_request(request)
        assert "Authorization" not in prepared.headers


def _splice(server: Server, one: socket.socket, other: socket.socket) -> None:
    import select

    peers = {one: other, other: one}
    while not server.closing.is_set():
        for ready in select.select(list(peers), [], [], 0.2)[0]:
            try:
                data = ready.recv(65536)
            except ssl.SSLWantReadError:
                continue
            if not data:
                return
            peers[ready].sendall(data)
