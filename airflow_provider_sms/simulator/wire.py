"""An answer as bytes on a socket, told straight or spoiled by a fault.

Knows HTTP/1.1 and the look of each fault; nothing of rules, parameters or accounts.
"""

from __future__ import annotations

import http
import select
import socket
import struct
import time
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from airflow_provider_sms.simulator.faults import Fault

JSON_TYPE = "application/json;charset=UTF-8"
_HTML_TYPE = "text/html;charset=UTF-8"
_HTML_PAGE = "<!DOCTYPE html>\n<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>\n"
_BYTES_WITHOUT_MEANING = bytes(range(256)) * 4
_PIECE = 64 * 1024
_SECONDS_BETWEEN_LOOKS = 0.1
_STATUSES_WITHOUT_BODY = (204, 304)


@dataclass(frozen=True)
class Reply:
    """A status, a body, and headers beside the usual ones."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Delivery:
    """What became of an answer: the status that was sent if any, whether it goes out whole, what follows.

    `last` is what is still to be sent: whoever has read an answer to its end must find it on the simulator's
    pages, so all of it is noted before these bytes leave.
    """

    status: int | None
    answered: bool
    keep_alive: bool
    last: bytes = b""


@dataclass(frozen=True)
class Asked:
    """What the request says about the form of its answer."""

    keep_alive: bool = True
    without_body: bool = False


class Wire:
    """One connection's sending side."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self._connection = connection
        self._stopping = stopping

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def wait(self, seconds: float) -> None:
        """Cut short when the client leaves or the simulator stops."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._stopping.wait(min(left, _SECONDS_BETWEEN_LOOKS)) or self.other_side_left():
                return

    def other_side_left(self) -> bool:
        """Whether the client has closed: what is sent now would be read by nobody."""
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        if not poll.poll(0):
            return False
        try:
            return self._connection.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    def reset_on_close(self) -> None:
        """Make the coming close a reset (RST) instead of an orderly end (FIN)."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def deliver(wire: Wire, reply: Reply, asked: Asked) -> Delivery:
    """Answer with `reply` as it is."""
    data = _head(reply, asked) + (b"" if asked.without_body else reply.body)
    return Delivery(reply.status, not wire.other_side_left(), asked.keep_alive, data)


def deliver_spoiled(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    """Answer with what `fault` makes of `reply`."""
    return _SPOILERS.get(fault.kind, _plain)(wire, reply, asked, fault)


def _head(reply: Reply, asked: Asked, length: int | None = None) -> bytes:
    headers = [
        ("Server", "sms-simulator"),
        ("Date", formatdate(usegmt=True)),
        ("Content-Type", reply.content_type),
    ]
    if reply.status not in _STATUSES_WITHOUT_BODY:
        headers.append(("Content-Length", str(len(reply.body) if length is None else length)))
    headers.append(("Connection", "keep-alive" if asked.keep_alive else "close"))
    return _head_of(reply.status, [*headers, *reply.headers])


def _head_of(status: int, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_reason(status)}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _reason(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _page(status: int, *headers: tuple[str, str]) -> Reply:
    body = b"" if status in _STATUSES_WITHOUT_BODY else _HTML_PAGE.format(f"{status} {_reason(status)}").encode()
    return Reply(status, body, _HTML_TYPE, headers)


def _plain(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    return deliver(wire, reply, asked)


def _lost(delivery: Delivery) -> Delivery:
    """The client got something, but not the platform's own answer."""
    return replace(delivery, answered=False)


def _cut(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    if fault.cut == "reset":
        wire.reset_on_close()
    return Delivery(None, answered=False, keep_alive=False)


def _close_after(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    return replace(deliver(wire, reply, asked), keep_alive=False)


def _slow(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    wire.wait(fault.seconds)
    return deliver(wire, reply, asked)


def _trickle(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    wire.send(_head(reply, asked))
    return _byte_by_byte(wire, reply, asked, reply.body, fault.seconds)


def _trickle_headers(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    return _byte_by_byte(wire, reply, asked, _head(reply, asked) + reply.body, fault.seconds)


def _byte_by_byte(wire: Wire, reply: Reply, asked: Asked, data: bytes, seconds: float) -> Delivery:
    for position in range(len(data)):
        wire.wait(seconds)
        if wire.other_side_left():
            return Delivery(reply.status, answered=False, keep_alive=False)
        if position < len(data) - 1:
            wire.send(data[position : position + 1])
    return Delivery(reply.status, answered=True, keep_alive=asked.keep_alive, last=data[-1:])


def _stall_headers(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    data = _head(reply, asked) + reply.body
    middle = data.index(b"Content-Type") + len(b"Content-Ty")
    wire.send(data[:middle])
    wire.wait(fault.seconds)
    return Delivery(reply.status, not wire.other_side_left(), asked.keep_alive, data[middle:])


def _status(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    headers = () if fault.location is None else (("Location", fault.location),)
    return _lost(deliver(wire, _page(fault.status, *headers), asked))


def _html(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    return _lost(deliver(wire, _page(200), asked))


def _empty(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    return _lost(deliver(wire, replace(reply, body=b""), asked))


def _truncated(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    half = reply.body[: len(reply.body) // 2]
    if fault.missing == "text":
        return _lost(deliver(wire, replace(reply, body=half), asked))
    data = _head(reply, asked, length=len(reply.body)) + half
    return Delivery(reply.status, answered=False, keep_alive=False, last=data)


def _charset(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    declared = f"application/json;charset={fault.charset}" if fault.declared else "application/json"
    body = reply.body.decode("utf-8").encode(fault.charset, "replace")
    return deliver(wire, replace(reply, body=body, content_type=declared), asked)


def _big(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    """Valid JSON, then blanks, with no length given: whoever reads to the end reads `size` bytes."""
    wire.send(_head_of(reply.status, [("Content-Type", reply.content_type), ("Connection", "close")]))
    wire.send(reply.body)
    left = fault.size - len(reply.body)
    while left > _PIECE:
        wire.send(b" " * _PIECE)
        left -= _PIECE
    return Delivery(reply.status, answered=True, keep_alive=False, last=b" " * left)


def _garbage(wire: Wire, reply: Reply, asked: Asked, fault: Fault) -> Delivery:
    if fault.where == "body":
        return _lost(deliver(wire, replace(reply, body=_BYTES_WITHOUT_MEANING), asked))
    return Delivery(None, answered=False, keep_alive=False, last=_BYTES_WITHOUT_MEANING)


_SPOILERS: Mapping[str, Callable[[Wire, Reply, Asked, Fault], Delivery]] = {
    "cut_before": _cut,
    "cut_after": _cut,
    "close_after": _close_after,
    "slow": _slow,
    "trickle": _trickle,
    "trickle_headers": _trickle_headers,
    "stall_headers": _stall_headers,
    "status": _status,
    "html": _html,
    "empty": _empty,
    "truncated": _truncated,
    "charset": _charset,
    "big": _big,
    "garbage": _garbage,
}
