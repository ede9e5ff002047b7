"""Servers that take messages and go wrong as they are told: HTTP and SMTP, on this machine. They count what they took.

Know nothing of Airflow. An HTTP server answers as the platform, Telegram's API, SNS and a plain web service do,
by the address that is asked for.
"""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from enum import StrEnum
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, Self

_LONGEST_SILENCE = 60.0


class Trouble(StrEnum):
    """What goes wrong with a message, in the words of the table."""

    NONE = "nothing goes wrong"
    CUT_AFTER = "the connection is cut after the message was taken"
    SILENCE = "no answer in time; the message was taken"
    ERROR = "HTTP 500, SMTP 451; the message was taken"
    EMPTY = "an empty answer; the message was taken"
    KILLED = "the process is killed after the message was taken"
    CUT_BEFORE = "the connection is cut before the message is taken"


class Server(socketserver.ThreadingTCPServer):
    """Listens on a free port of this machine while the `with` lasts.

    :param handler: the protocol.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, handler: type[socketserver.StreamRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._lock = threading.Lock()
        self._trouble = Trouble.NONE
        self._hits: int | None = 0
        self._over = threading.Event()
        self.taken = 0
        self.kill: Callable[[], None] = lambda: None

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def begin(self, trouble: Trouble, hits: int | None) -> None:
        """Start counting anew.

        :param hits: how many messages it befalls; None for every one.
        """
        with self._lock:
            self._trouble, self._hits, self.taken = trouble, hits, 0

    def end_silence(self) -> None:
        """Let go of those who still wait for an answer."""
        with self._lock:
            self._over.set()
            self._over = threading.Event()

    def next_trouble(self) -> Trouble:
        """What befalls the message that is coming."""
        with self._lock:
            if self._hits == 0:
                return Trouble.NONE
            if self._hits is not None:
                self._hits -= 1
            return self._trouble

    def take(self) -> None:
        """Count a message that came whole."""
        with self._lock:
            self.taken += 1

    def be_silent(self) -> None:
        self._over.wait(_LONGEST_SILENCE)

    def shutdown_request(self, request: Any) -> None:
        # Without the orderly end (FIN) that would come before a reset.
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # whoever was told to go wrong leaves half a conversation

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_silence()
        self.shutdown()
        self.server_close()


def _reset_on_close(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Http(BaseHTTPRequestHandler):
    """Takes every POST."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        trouble = self.server.next_trouble()
        if trouble is Trouble.CUT_BEFORE:
            self._cut()
            return
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.take()
        match trouble:
            case Trouble.NONE:
                self._answer(200, *_answer_for(self.path))
            case Trouble.CUT_AFTER:
                self._cut()
            case Trouble.SILENCE:
                self.server.be_silent()
                self._cut()
            case Trouble.ERROR:
                self._answer(500, "text/html", "<h1>500 Internal Server Error</h1>")
            case Trouble.EMPTY:
                self._answer(200, _answer_for(self.path)[0], "")
            case Trouble.KILLED:
                self.server.kill()
                self.server.be_silent()
                self._cut()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        pass

    def _answer(self, status: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _cut(self) -> None:
        _reset_on_close(self.connection)
        self.close_connection = True


def _answer_for(path: str) -> tuple[str, str]:
    """Content type and body of success."""
    if path.startswith("/smsApi/"):
        fields = {"returnStatus": "1 ", "message": "成功", "remainPoint": "99", "taskId": "1", "successCounts": "1"}
        return "application/json;charset=UTF-8", json.dumps(fields)
    if path.startswith("/bot"):
        message = {"message_id": 1, "date": 0, "chat": {"id": 1, "type": "private"}, "text": "text"}
        return "application/json", json.dumps({"ok": True, "result": message})
    if path == "/":
        return "text/xml", (
            '<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>1</MessageId>'
            "</PublishResult><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></PublishResponse>"
        )
    return "text/plain", "sent"


class Smtp(socketserver.StreamRequestHandler):
    """Takes every mail."""

    server: Server

    def handle(self) -> None:
        self._say("220 fake ESMTP")
        goes_on = True
        while goes_on and (line := self.rfile.readline()):
            match line[:4].upper():
                case b"DATA":
                    goes_on = self._data()
                case b"QUIT":
                    self._say("221 bye")
                    goes_on = False
                case _:
                    self._say("250 fine")

    def _data(self) -> bool:
        """Take one mail; whether the conversation goes on."""
        trouble = self.server.next_trouble()
        if trouble is Trouble.CUT_BEFORE:
            _reset_on_close(self.connection)
            return False
        self._say("354 go on")
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return False
        self.server.take()
        match trouble:
            case Trouble.NONE:
                self._say("250 taken")
            case Trouble.ERROR:
                self._say("451 local error")
            case Trouble.EMPTY:
                self._say("")
            case _:
                if trouble is Trouble.KILLED:
                    self.server.kill()
                if trouble is not Trouble.CUT_AFTER:
                    self.server.be_silent()
                _reset_on_close(self.connection)
                return False
        return True

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())
