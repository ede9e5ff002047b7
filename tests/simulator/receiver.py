"""The customer's address that receipts and replies are pushed to: remembers every push, answers as told."""

from __future__ import annotations

import queue
import ssl
import threading
import urllib.parse
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Seconds that it takes over an answer that it is not to give.
HANGS = 30


@dataclass(frozen=True)
class Heard:
    """One push as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        text = self.body.decode("ascii")
        return dict(urllib.parse.parse_qsl(text, keep_blank_values=True, strict_parsing=True))

    @property
    def mobile(self) -> str:
        return self.fields["mobile"]


class Receiver:
    """`with Receiver() as receiver:` listens at `receiver.url`; `answers`: statuses for the next pushes."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.heard: queue.Queue[Heard] = queue.Queue()
        self.answers: deque[int] = deque()
        self.answer_when = threading.Event()
        self.answer_when.set()
        self.connections = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                receiver.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.heard.put(Heard(self.path, dict(self.headers), body))
                receiver.answer_when.wait(HANGS)
                status = receiver.answers.popleft() if receiver.answers else 200
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", receiver.url + "/elsewhere")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *message: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 100

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.answer_when.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, count: int, seconds: float = 15) -> list[Heard]:
        """The next `count` pushes; fails if one of them is longer in coming than `seconds`."""
        return [self.heard.get(timeout=seconds) for _ in range(count)]

    def heard_nothing_more(self) -> bool:
        return self.heard.empty()
