"""The receiver as it serves, in a thread of the test's process: real HTTP, and the ledger that `[sms]` names."""

from __future__ import annotations

import http.client
import importlib.util
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from airflow_provider_sms.receiver import server
from airflow_provider_sms.receiver.app import App
from airflow_provider_sms.receiver.server import Listening
from tests.support.simulator import wait_until

# It makes requests out of the receiver's description, and is in the development environment only.
collect_ignore = [] if importlib.util.find_spec("schemathesis") else ["test_hostile.py"]

TOKEN = "FAKE-PUSH-TOKEN-0123456789abcdef"
ANOTHER = "FAKE-OTHER-TOKEN-0123456789abcdef"
FORM = "application/x-www-form-urlencoded;charset=utf-8"
RECEIPT = {
    "mobile": "13800130001",
    "taskid": "3313746",
    "status": "1",
    "code": "MA:0001",
    "receivetime": "2019-07-23 17:00:00",
}
REPLY = {"mobile": "13800130001", "taskid": "3313746", "content": "收到", "receivetime": "2019-07-23 17:00:00"}
HOST = "127.0.0.1"


class Served:
    """A receiver at `port`."""

    def __init__(self, port: int, app: Any) -> None:
        self.port = port
        self.app = app

    def ask(
        self, method: str, target: str, body: bytes | Iterator[bytes] | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[int, str]:
        """Status and text of an answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request(method, target, body, dict(headers), encode_chunked=True)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def push(
        self, fields: Mapping[str, str] | bytes, address: str = f"/sms/push?token={TOKEN}", **headers: str
    ) -> tuple[int, str]:
        """Push one receipt or reply."""
        body = fields if isinstance(fields, bytes) else urllib.parse.urlencode(fields).encode()
        return self.ask("POST", address, body, {"Content-Type": FORM, **headers})

    def health(self) -> int:
        return self.ask("GET", "/sms/health")[0]

    def wait_until_well(self, seconds: float = 30) -> None:
        wait_until(lambda: self.health() == 200, seconds)


@contextmanager
def serving(app: Any, **changes: Any) -> Iterator[Served]:
    """Serve an ASGI app as the receiver is served."""
    held = server.bind(Listening(HOST, 0))
    config = server.configure(Listening(HOST, 0))
    config.app, config.factory = app, False
    for name, value in changes.items():
        setattr(config, name, value)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [held]}, daemon=True)
    thread.start()
    try:
        wait_until(lambda: running.started or not thread.is_alive(), 30)
        yield Served(held.getsockname()[1], app)
    finally:
        running.should_exit = True
        thread.join(30)
        held.close()
        assert not thread.is_alive()


SetOptions = Callable[..., None]


@pytest.fixture
def set_options(monkeypatch: pytest.MonkeyPatch) -> SetOptions:
    """Set options of `[sms]` as a person would."""

    def set_options(**options: str) -> None:
        for name, value in options.items():
            monkeypatch.setenv(f"AIRFLOW__SMS__{name.upper()}", value)

    set_options(push_tokens=f"{TOKEN},{ANOTHER}")
    return set_options


@pytest.fixture
def start(ledger_file: object, set_options: SetOptions) -> Iterator[Callable[[], Served]]:
    """Start a receiver when the options are as the test wants them."""
    started: list[Any] = []

    def start() -> Served:
        context = serving(App())
        started.append(context)
        return context.__enter__()

    yield start
    for context in reversed(started):
        context.__exit__(None, None, None)


@pytest.fixture
def receiver(start: Callable[[], Served]) -> Served:
    """One that runs, with two tokens and a SQLite ledger."""
    served = start()
    served.wait_until_well()
    return served


def raw(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send bytes as they are, and read until the other side closes or says no more."""
    with socket.create_connection((HOST, port), timeout=30) as line:
        for part in parts:
            line.sendall(part)
            time.sleep(pause)
        received = b""
        while chunk := line.recv(65536):
            received += chunk
        return received


def as_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
