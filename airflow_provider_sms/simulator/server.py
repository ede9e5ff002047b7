"""The HTTP server: reads requests, finds their page, logs a line that a bystander may read.

Parameters are bound from query string and form body alike, as the portal does, whatever the Content-Type.
Knows nothing of rules; how an answer looks on the wire is in `wire.py`.
"""

from __future__ import annotations

import json
import socket
import socketserver
import sys
import threading
import time
import urllib.parse
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any

from airflow_provider_sms.simulator import control
from airflow_provider_sms.simulator.phones import masked, without_phones
from airflow_provider_sms.simulator.record import Seen
from airflow_provider_sms.simulator.simulation import INTERFACES, SEND, Handled, Simulation
from airflow_provider_sms.simulator.wire import Asked, Delivery, Reply, Wire, deliver, deliver_spoiled

_MOST_BODY = 32 * 1024 * 1024
_IDLE_SECONDS = 300
_LONGEST_PATH_SHOWN = 120


class BadRequest(Exception):
    """A request that can not be read; carries the HTTP status to answer."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Server(socketserver.ThreadingTCPServer):
    """One thread per connection, kept alive."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, host: str, port: int, simulation: Simulation) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        self.address_family = family
        self.simulation = simulation
        self.stopping = threading.Event()
        super().__init__((str(address[0]), int(address[1])), Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def stop(self) -> None:
        """End serving, waiting faults and pushes. Not from the serving thread."""
        self.stopping.set()
        self.simulation.pushes.stop()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that went away is nothing to report; anything else is a bug of the simulator.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _IDLE_SECONDS

    def setup(self) -> None:
        super().setup()
        self._wire = Wire(self.connection, self.server.stopping)
        self.server.simulation.record.tally.connected()

    def _dispatch(self) -> None:
        path, _, query = self.path.partition("?")
        asked = Asked(keep_alive=not self.close_connection, without_body=self.command == "HEAD")
        try:
            body = self._read_body()
        except BadRequest as problem:
            self._answer_unread(path, problem.status)
            return
        interface = INTERFACES.get(path)
        if interface is not None and self.command == "POST":
            self._answer_interface(path, interface, _parameters(query, body), asked)
        else:
            self._answer_page(path, body, asked)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = _dispatch

    # The platform's interfaces

    def _answer_interface(self, path: str, interface: str, parameters: dict[str, str], asked: Asked) -> None:
        simulation = self.server.simulation
        with simulation.handling(interface, parameters) as handled:
            delivery = self._prepare(handled, asked)
            if handled.batch is not None and delivery.answered:
                simulation.platform.answer_went_out(handled.batch.task_id)
            seen = self._seen(path, interface, parameters, handled, delivery)
            accepted = 0 if handled.batch is None else len(handled.batch.phones)
            handled.tally.add(seen, accepted)
            _log(seen)
        try:
            self._wire.send(delivery.last)
        except OSError:
            if handled.batch is not None:
                simulation.platform.answer_was_lost(handled.batch.task_id)
            raise
        self._end(delivery)

    def _prepare(self, handled: Handled, asked: Asked) -> Delivery:
        """Send all but the last bytes of the answer, in the way that the switches and the fault want it."""
        reply = Reply(200, _json_bytes(handled.answer.as_json()))
        try:
            self._wire.wait(self.server.simulation.platform.switches().latency)
            if handled.fault is None:
                return deliver(self._wire, reply, asked)
            delivery = deliver_spoiled(self._wire, reply, asked, handled.fault)
        except OSError:
            return Delivery(None, answered=False, keep_alive=False)
        # `no_task_id` is a whole answer without what matters.
        if handled.batch is not None and handled.answer.task_id is None:
            return replace(delivery, answered=False)
        return delivery

    def _seen(
        self, path: str, interface: str, parameters: dict[str, str], handled: Handled, delivery: Delivery
    ) -> Seen:
        phones = parameters["phone"].split(",") if interface == SEND and parameters.get("phone") else []
        return Seen(
            at=self.server.simulation.platform.now(),
            method=self.command,
            path=path,
            interface=interface,
            status=delivery.status,
            outcome=handled.answer.message if handled.batch is None else "accepted",
            phones=len(phones),
            first_phone=masked(phones[0]) if phones else None,
            task_id=None if handled.batch is None else handled.batch.task_id,
            fault=None if handled.fault is None else handled.fault.kind,
            answered=delivery.answered,
        )

    # Everything else

    def _answer_page(self, path: str, body: bytes, asked: Asked) -> None:
        page = None
        if path in INTERFACES:
            methods = ["POST"]
        else:
            pages = control.pages_of(path)
            if pages is None:
                self._answer_json(path, 404, {"error": "there is no such page"}, asked)
                return
            methods, page = list(pages), pages.get(self.command)
        if page is None:
            allow = ("Allow", ", ".join(methods))
            self._answer_json(path, 405, {"error": f"this page takes {allow[1]}"}, asked, allow)
            return
        status, shown = control.open_page(self.server.simulation, page, body)
        self._answer_json(path, status, shown, asked)

    def _answer_json(self, path: str, status: int, shown: object, asked: Asked, *headers: tuple[str, str]) -> None:
        self._finish_page(path, Reply(status, _json_bytes(shown), headers=headers), asked)

    def _answer_unread(self, path: str, status: int) -> None:
        """The rest of the request is still on its way, so the connection can not be used again."""
        shown = {"error": "the request can not be read"}
        self._finish_page(path, Reply(status, _json_bytes(shown)), Asked(keep_alive=False))

    def _finish_page(self, path: str, reply: Reply, asked: Asked) -> None:
        delivery = deliver(self._wire, reply, asked)
        seen = Seen(
            at=self.server.simulation.platform.now(),
            method=self.command or "?",
            path=_shown_path(path),
            interface=None,
            status=reply.status,
            outcome=f"HTTP {reply.status}",
        )
        if not path.startswith(control.PREFIX):
            self.server.simulation.record.tally.add(seen)
        _log(seen)
        self._wire.send(delivery.last)
        self._end(delivery)

    def _end(self, delivery: Delivery) -> None:
        if delivery.keep_alive:
            return
        self.close_connection = True
        if delivery.status is None:
            # Closed here and now: the base class would send an orderly FIN first, too early for a reset.
            self.rfile.close()
            self.wfile.close()
            self.connection.close()

    # Reading

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._read_chunks()
        text = self.headers.get("Content-Length", "0").strip()
        if not (text.isascii() and text.isdigit()):
            raise BadRequest(400)
        return self._read_exactly(int(text))

    def _read_exactly(self, length: int) -> bytes:
        if length > _MOST_BODY:
            raise BadRequest(413)
        data = self.rfile.read(length) if length else b""
        if len(data) < length:
            raise BadRequest(400)
        return data

    def _read_chunks(self) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            try:
                length = int(self.rfile.readline(1024).partition(b";")[0], 16)
            except ValueError:
                raise BadRequest(400) from None
            size += length
            if length < 0 or size > _MOST_BODY:
                raise BadRequest(400 if length < 0 else 413)
            if length == 0:
                break
            chunks.append(self._read_exactly(length))
            self.rfile.readline(1024)
        while self.rfile.readline(65537).strip():
            pass
        return b"".join(chunks)

    # What the base class would log or echo may hold a query string, and that may hold an App Key.

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self._answer_unread(getattr(self, "path", "?").partition("?")[0], int(code))

    def log_message(self, *message: object) -> None:
        """Every request is logged by `_log` instead."""


def _parameters(query: str, body: bytes) -> dict[str, str]:
    """Query string and form body as one; the body wins, and of a repeated name the first."""
    parameters: dict[str, str] = {}
    for source in (body.decode("utf-8", "replace"), query):
        for name, value in urllib.parse.parse_qsl(source, keep_blank_values=True):
            parameters.setdefault(name, value)
    return parameters


def _json_bytes(shown: object) -> bytes:
    # Lone surrogates come in by \ud800 in a page's JSON; "replace" shows them as question marks.
    return json.dumps(shown, ensure_ascii=False).encode("utf-8", "replace")


def _shown_path(path: str) -> str:
    return without_phones("".join(letter if letter.isprintable() else "?" for letter in path))[:_LONGEST_PATH_SHOWN]


def _log(seen: Seen) -> None:
    parts = [
        time.strftime("%H:%M:%S"),
        seen.method,
        seen.path,
        "no answer" if seen.status is None else str(seen.status),
    ]
    if seen.interface is not None:
        parts.append(seen.outcome)
    if seen.phones:
        parts.append(f"phones={seen.phones} first={seen.first_phone}")
    if seen.task_id:
        parts.append(f"taskId={seen.task_id}")
    if seen.fault:
        parts.append(f"fault={seen.fault}")
    try:
        sys.stderr.write(" ".join(parts) + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        # Nobody reads the log any more; that must not keep the platform from answering.
        pass
