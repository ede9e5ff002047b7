"""The interface document's two Java programs get a documented answer: what they sent, sent again."""

from __future__ import annotations

import json
import socket
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulator import java_requests
from tests.simulator.client import refusal
from tests.support.simulator import Simulator


@pytest.fixture(scope="module")
def their_account() -> Iterator[Simulator]:
    flags = ("--balance", "243", "--one-per-minute", "off")
    with Simulator(*flags, app_id=java_requests.APP_ID, app_key=java_requests.APP_KEY) as simulator:
        yield simulator


def replay(simulator: Simulator, request: bytes) -> tuple[bytes, Any]:
    """The status line and the JSON that come back; the connection stays open, as the programs leave it."""
    parts = urllib.parse.urlsplit(simulator.base_url)
    with socket.create_connection((parts.hostname, parts.port), 10) as connection:
        connection.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        while len(body) < int(length.split(b":")[1]):
            body += connection.recv(65536)
    return head.split(b"\r\n")[0], json.loads(body.decode("utf-8"))


def test_the_send_program_is_answered_as_documented(their_account: Simulator) -> None:
    their_account.reset()
    status, told = replay(their_account, java_requests.SEND)
    assert status == b"HTTP/1.1 200 OK"
    task_id = told["taskId"]
    assert told == {
        "returnStatus": "1 ",
        "message": "成功",
        "remainPoint": "241",
        "taskId": task_id,
        "successCounts": "2",
    }
    batch = their_account.accepted()[0]
    assert (batch["phones"], batch["content"]) == (list(java_requests.PHONES), java_requests.CONTENT)


def test_the_balance_program_is_answered_as_documented(their_account: Simulator) -> None:
    their_account.reset()
    status, told = replay(their_account, java_requests.BALANCE)
    assert status == b"HTTP/1.1 200 OK"
    assert told == {
        "returnStatus": "1 ",
        "message": "成功",
        "remainPoint": "243",
        "taskId": None,
        "successCounts": None,
    }


@pytest.mark.parametrize("request_bytes", [java_requests.SEND, java_requests.BALANCE], ids=["send", "balance"])
def test_both_are_refused_where_their_account_is_not_known(simulator: Simulator, request_bytes: bytes) -> None:
    status, told = replay(simulator, request_bytes)
    assert status == b"HTTP/1.1 200 OK"
    assert told == refusal("账号或密码错误")
    assert simulator.accepted() == []
