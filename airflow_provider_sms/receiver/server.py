"""The receiver on its own: uvicorn, told to show no query, to wait for nobody too long, and to end in good order.

Imported by `airflow-sms receiver` only: uvicorn comes with the extra `[receiver]`.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from airflow_provider_sms.receiver.app import WHOLE_BODY, App

# Seconds that a request's head may take, from its first byte; a connection may say nothing for as long.
HEAD_SECONDS = 10.0
KEEP_ALIVE = 30
MOST_CONNECTIONS = 2_000
MOST_OF_A_REQUEST = 1024 * 1024
SAY_AGAIN = 300.0
SWITCH_SECONDS = 0.0005
# Longer than any push is waited for, so that what is queued gets its answer.
GRACE = 12


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to listen, and how.

    :param port: 0 picks a free one.
    :param certificate: a PEM file with the whole chain; None for plain HTTP.
    :param key: its private key; None if the certificate's file holds it.
    """

    host: str
    port: int
    workers: int = 1
    certificate: Path | None = None
    key: Path | None = None


class _NotEachTime(logging.Filter):
    """Anybody can make uvicorn warn, as often as he likes: the same is said again after a while only."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to say it."""
        if record.levelno >= logging.ERROR:
            return True
        text, now = str(record.msg), time.monotonic()
        is_due = now - self._said.get(text, -SAY_AGAIN) >= SAY_AGAIN
        if is_due:
            self._said[text] = now
        return is_due


_http_log = logging.getLogger("airflow_provider_sms.receiver.http")
_http_log.addFilter(_NotEachTime())


class Protocol(HttpToolsProtocol):
    """uvicorn's, with an end to heads and trailers that never end, and without an access log."""

    _head_since: float | None = None
    _watch: Any = None
    _heard = 0

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.logger = _http_log
        self._unanswered: list[Any] = []
        # It would show the query. uvicorn is told so, too, but whoever sets logging up anew after it undoes that.
        self.access_log = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._watch = self.loop.call_later(HEAD_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)
        self._give_up()

    def data_received(self, data: bytes) -> None:
        if self._head_since is None and (self.cycle is None or self.cycle.response_complete):
            self._head_since = self.loop.time()
        self._heard += len(data)
        super().data_received(data)
        # The parser takes heads and trailers of any length.
        if self._heard > MOST_OF_A_REQUEST and not self.transport.is_closing():
            self.transport.abort()

    def on_message_complete(self) -> None:
        self._heard = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        # It has closed the line, on those too that came before the rubbish and are still being stored.
        self._give_up()

    def on_headers_complete(self) -> None:
        self._head_since = None
        super().on_headers_complete()
        waiting = self._unanswered
        if waiting:
            waiting[:] = [each for each in waiting if not each.response_complete]
        if self.cycle is not None and not self.cycle.response_complete:
            waiting.append(self.cycle)
            self.cycle.scope[WHOLE_BODY] = self._whole_body  # type: ignore[literal-required]

    def _whole_body(self) -> bytes | None:
        """The body of the one request that is under way; None if not all of it is there, or there are more."""
        cycle = self.cycle
        if cycle is None or cycle.more_body or len(self._unanswered) != 1:
            return None
        return bytes(cycle.body)

    def _give_up(self) -> None:
        """Answer nobody any more. uvicorn thinks of the last request only, and writes to a line that is closed."""
        for each in self._unanswered:
            each.disconnected = True
            each.message_event.set()
        self._unanswered.clear()

    def _look(self) -> None:
        since = self._head_since
        if since is not None and self.loop.time() - since >= HEAD_SECONDS:
            self.transport.abort()
            return
        self._watch = self.loop.call_later(HEAD_SECONDS / 2, self._look)


def make_app() -> App:
    """The app, as a worker runs it."""
    prepare_logging()
    # The thread that stores wants Python back a few times for each commit, and the event loop would keep it for ten
    # times as long. Not where we are mounted: that process is Airflow's.
    sys.setswitchinterval(SWITCH_SECONDS)
    return App()


def bind(listening: Listening) -> socket.socket:
    """Take hold of the address.

    :raises OSError: it can not be had.
    """
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    held = socket.socket(family)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((listening.host, listening.port))
        held.listen(2048)
    except BaseException:
        held.close()
        raise
    held.set_inheritable(True)
    return held


def configure(listening: Listening) -> uvicorn.Config:
    """Tell uvicorn how to serve."""
    return uvicorn.Config(
        "airflow_provider_sms.receiver.server:make_app",
        factory=True,
        http=Protocol,
        ws="none",
        # Not `auto`: where the app could not begin, it would serve all the same.
        lifespan="on",
        workers=listening.workers,
        log_config=None,
        access_log=False,
        # X-Forwarded-For is our own matter.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        limit_concurrency=MOST_CONNECTIONS,
        ssl_certfile=listening.certificate,
        ssl_keyfile=listening.key,
    )


def serve(listening: Listening, held: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; what is queued then is still stored and answered.

    :param held: see `bind`.
    """
    config = configure(listening)
    if listening.workers > 1:
        Multiprocess(config, sockets=[held]).run()
        return
    # uvicorn raises the signals that it has seen once more: to end in good order is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    uvicorn.Server(config).run(sockets=[held])


def _leave(number: int, frame: object) -> None:
    raise SystemExit(0)


def prepare_logging() -> None:
    """Lines to standard error, ours and uvicorn's warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {os.getpid()} %(levelname)s %(message)s"))
    for name, level in (("airflow_provider_sms", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level)
