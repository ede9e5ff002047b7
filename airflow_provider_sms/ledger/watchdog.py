"""Cuts off a server that has fallen silent: PostgreSQL's driver waits for an answer for as long as the line stands.

A frozen server keeps its line, so no time-out of the network ends the wait. Knows sockets, nothing of SQL.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Watchdog:
    """Closes the line of whatever takes longer than it may; its reader then ends with an error.

    :param seconds: how long one thing may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._watched: dict[int, float] = {}
        self._closed = threading.Event()
        self._pid = 0

    @contextmanager
    def watching(self, line: int) -> Iterator[None]:
        """Watch one thing.

        :param line: its socket's file descriptor, open until the end.
        """
        if self._pid != os.getpid():
            self._start()
        with self._lock:
            self._watched[line] = time.monotonic() + self._seconds
        try:
            yield
        finally:
            with self._lock:
                self._watched.pop(line, None)

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()

    def _start(self) -> None:
        # A thread does not survive a fork.
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._watched = {}
        threading.Thread(target=self._watch, name="sms-ledger-watchdog", daemon=True).start()

    def _watch(self) -> None:
        while not self._closed.wait(self._seconds / 5):
            now = time.monotonic()
            with self._lock:
                for line, deadline in list(self._watched.items()):
                    if deadline <= now:
                        del self._watched[line]
                        _cut(line)


def _cut(line: int) -> None:
    try:
        with socket.socket(fileno=os.dup(line)) as held:
            held.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has just ended by itself
