"""Asks the simulator as a customer's program would, with the standard library only."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.simulator import Simulator

SEND = "/smsApi/group"
BALANCE = "/smsApi/group/getBalance"
FORM = "application/x-www-form-urlencoded;charset=utf-8"
TEXT = "【云通信】您的短信群发功能已开通,请在3个工作日之内至平台进行企业认证!"


def phone(number: int) -> str:
    return f"1380013{number:04d}"


def phones(count: int) -> list[str]:
    return [phone(number) for number in range(1, count + 1)]


@dataclass(frozen=True)
class Told:
    """An answer as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body.decode("utf-8"))


def send_fields(simulator: Simulator, to: Sequence[str] = (phone(1),), **changes: str | None) -> dict[str, str]:
    """The fields of a send that is in order, with changes; None leaves a field out."""
    fields: dict[str, str | None] = {
        "appId": simulator.app_id,
        "appKey": simulator.app_key,
        "phone": ",".join(to),
        "content": TEXT,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def balance_fields(simulator: Simulator) -> dict[str, str]:
    return {"appId": simulator.app_id, "appKey": simulator.app_key}


def post(
    simulator: Simulator, path: str, fields: Mapping[str, str], timeout: float = 30, content_type: str = FORM
) -> Told:
    connection = simulator.connection(timeout)
    try:
        return post_on(connection, path, fields, content_type)
    finally:
        connection.close()


@contextlib.contextmanager
def unanswered(simulator: Simulator, path: str, fields: Mapping[str, str]) -> Iterator[None]:
    """While this lasts, somebody has posted and waits for the answer; then they leave."""
    connection = simulator.connection()
    try:
        connection.request("POST", path, urllib.parse.urlencode(fields), {"Content-Type": FORM})
        yield
    finally:
        connection.close()


def post_on(
    connection: http.client.HTTPConnection, path: str, fields: Mapping[str, str], content_type: str = FORM
) -> Told:
    body = urllib.parse.urlencode(fields).encode()
    connection.request("POST", path, body, {"Content-Type": content_type})
    answer = connection.getresponse()
    return Told(answer.status, dict(answer.headers), answer.read())


def send(simulator: Simulator, to: Sequence[str] = (phone(1),), **changes: str | None) -> Any:
    """The JSON that a send is answered with."""
    return post(simulator, SEND, send_fields(simulator, to, **changes)).json


def balance(simulator: Simulator) -> Any:
    return post(simulator, BALANCE, balance_fields(simulator)).json


def raw(simulator: Simulator, data: bytes, timeout: float = 30) -> bytes:
    """What comes back for `data` until the other side closes."""
    parts = urllib.parse.urlsplit(simulator.base_url)
    with socket.create_connection((parts.hostname, parts.port), timeout) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        pieces = []
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def refusal(message: str) -> dict[str, str | None]:
    """The failure sample of the document."""
    return {
        "returnStatus": "0",
        "message": message,
        "remainPoint": None,
        "taskId": None,
        "successCounts": None,
    }
