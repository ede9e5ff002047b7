"""A sender of pushes: many connections kept open, one push at a time on each, and a record of what was answered.

As the platform would: what got no 200 is sent again. Knows HTTP/1.1 and the document's field names, nothing of the
receiver. One thread, one loop over plain sockets, so that it is quicker than what it measures.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

HOST = "127.0.0.1"
_PAUSE_BETWEEN_CONNECTS = 0.02
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One receipt, by the document's names."""

    taskid: str
    mobile: str
    status: str = "1"
    code: str = "DELIVRD"
    receivetime: str = "2026-07-23 17:00:00"

    def body(self) -> bytes:
        """The form that is posted."""
        fields = (
            ("mobile", self.mobile),
            ("taskid", self.taskid),
            ("status", self.status),
            ("code", self.code),
            ("receivetime", self.receivetime),
        )
        return urlencode(fields).encode()


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, by the document's names."""

    taskid: str
    mobile: str
    content: str = "收到"
    receivetime: str = "2026-07-23 17:00:00"

    def body(self) -> bytes:
        """The form that is posted."""
        fields = (
            ("mobile", self.mobile),
            ("taskid", self.taskid),
            ("content", self.content),
            ("receivetime", self.receivetime),
        )
        return urlencode(fields).encode()


def request(target: str, body: bytes) -> bytes:
    """A push as it goes over the wire."""
    return (
        b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Apache-HttpClient/4.5.3\r\n"
        b"Content-Type: application/x-www-form-urlencoded;charset=utf-8\r\nContent-Length: %d\r\n\r\n%b"
        % (target.encode("ascii"), len(body), body)
    )


class _Connection:
    """One connection: what it is sending, and what came back so far."""

    __slots__ = ("key", "received", "socket", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.key: Hashable | None = None
        self.unsent = b""
        self.received = b""


class Load:
    """Sends until it is told to stop, from a thread of its own: `with Load(port, source, 16) as load:`.

    :param port: of the receiver; may be changed while it runs.
    :param source: pairs of a key and a request; a key names one push, for the record.
    :param connections: how many are open at once.
    :param on_answer: told each key with its status, in this thread.
    """

    def __init__(
        self,
        port: int,
        source: Iterator[tuple[Hashable, bytes]],
        connections: int,
        on_answer: Callable[[Hashable, int], None] | None = None,
    ) -> None:
        self.port = port
        self.statuses: Counter[int] = Counter()
        self.lost = 0
        self.first = self.last = 0.0
        self.problem: BaseException | None = None
        self._source = source
        self._on_answer = on_answer or (lambda key, status: None)
        self._connections = connections
        self._again: deque[tuple[Hashable, bytes]] = deque()
        self._sending: dict[Hashable, bytes] = {}
        self._is_dry = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def answered(self) -> int:
        """How many were answered 200 so far."""
        return self.statuses[200]

    @property
    def is_done(self) -> bool:
        """Whether the source is dry and all of it was answered 200, or it has failed."""
        return not self._thread.is_alive()

    @property
    def seconds(self) -> float:
        """From the first push to the last answer."""
        return self.last - self.first

    def wait(self, seconds: float) -> None:
        """Wait until the source is dry and all of it was answered 200."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            self.stop()
            raise AssertionError(f"not done within {seconds} s: {self.statuses}, {self.lost} lost")
        self._check()

    def stop(self) -> None:
        """Take nothing more from the source, and leave at once."""
        self._stopping.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._check()

    def _check(self) -> None:
        if self.problem is not None:
            raise AssertionError("the load failed") from self.problem

    # In the thread

    def _run(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                try:
                    self._send_all(selector)
                finally:
                    for key in list(selector.get_map().values()):
                        key.fileobj.close()  # type: ignore[union-attr]
        except BaseException as problem:
            self.problem = problem

    def _send_all(self, selector: selectors.BaseSelector) -> None:
        self.first = self.last = time.perf_counter()
        next_try = 0.0
        while not self._stopping.is_set():
            missing = self._connections - len(selector.get_map())
            if missing and not (self._is_dry and not self._again) and time.monotonic() >= next_try:
                for _ in range(missing):
                    if not self._connect(selector):
                        next_try = time.monotonic() + _PAUSE_BETWEEN_CONNECTS
                        break
            if self._is_dry and not self._again and not self._sending:
                return
            for key, _ in selector.select(_PAUSE_BETWEEN_CONNECTS):
                self._read(selector, key.data)

    def _connect(self, selector: selectors.BaseSelector) -> bool:
        try:
            sock = socket.create_connection((HOST, self.port), timeout=5)
        except OSError:
            return False
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(sock)
        selector.register(sock, selectors.EVENT_READ, connection)
        self._send_next(selector, connection)
        return True

    def _send_next(self, selector: selectors.BaseSelector, connection: _Connection) -> None:
        if self._again:
            key, wire = self._again.popleft()
        else:
            following = None if self._is_dry else next(self._source, None)
            if following is None:
                self._is_dry = True
                self._drop(selector, connection)
                return
            key, wire = following
        connection.key = key
        self._sending[key] = wire
        try:
            # Small enough to go into the kernel's buffer in one piece.
            connection.socket.sendall(wire)
        except OSError:
            self._drop(selector, connection)

    def _read(self, selector: selectors.BaseSelector, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._drop(selector, connection)
            return
        if connection.received:
            data = connection.received + data
        status = _status_if_whole(data)
        if status is None:
            connection.received = data
            return
        connection.received = b""
        key, connection.key = connection.key, None
        assert key is not None, f"an answer to nothing: {data[:200]!r}"
        wire = self._sending.pop(key)
        self.statuses[status] += 1
        self.last = time.perf_counter()
        if status != 200:
            self._again.append((key, wire))
        self._on_answer(key, status)
        self._send_next(selector, connection)

    def _drop(self, selector: selectors.BaseSelector, connection: _Connection) -> None:
        selector.unregister(connection.socket)
        with contextlib.suppress(OSError):
            connection.socket.close()
        if connection.key is not None:
            # Nobody knows whether it was stored: once more.
            self.lost += 1
            self._again.append((connection.key, self._sending.pop(connection.key)))


def _status_if_whole(data: bytes) -> int | None:
    head, end, body = data.partition(_END_OF_HEAD)
    if not end:
        return None
    at = head.lower().find(b"content-length:")
    assert at >= 0, f"no length: {head!r}"
    line = head[at + 15 :].partition(b"\r\n")[0]
    return int(head[9:12]) if len(body) >= int(line) else None
