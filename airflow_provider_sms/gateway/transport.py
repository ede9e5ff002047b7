"""One HTTP exchange, watched: when did the first byte of the request leave, and is the deadline past?

`requests` raises the same classes before and after a request has left, so the connection itself keeps the
record. Knows sockets and HTTP; knows nothing of the platform's answers.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import quote_plus, urlsplit

import requests
import urllib3.exceptions as urllib3_errors
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from requests.utils import get_encoding_from_headers
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from airflow_provider_sms.gateway.account import is_loopback

CONNECT_TIMEOUT = 10.0
LONGEST_ANSWER = 1024 * 1024
_CHUNK = 65536
_PAUSE = 0.1
IDLE_LIMIT = 3.0
"""Seconds after which an idle connection is not used again: one that the server is just closing would put a
request in doubt for nothing."""


class DeadlinePassed(OSError):
    """The request's total deadline passed."""


class TransportError(Exception):
    """There is no whole answer.

    :param reason: the cause in a few words, without address or secret.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Form:
    """Form fields that show themselves to nobody: some tracebacks print every local variable.

    :param fields: name to value.
    """

    fields: dict[str, str] = field(repr=False)

    def encoded(self) -> bytes:
        """Write the form as it is sent."""
        # What needs no quoting is not looked at letter by letter: hundreds of phones with commas between them.
        quoted = (f"{name}={quote_plus(value, safe=',').replace(',', '%2C')}" for name, value in self.fields.items())
        return "&".join(quoted).encode()


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An HTTP answer as it came.

    :param status: the HTTP status.
    :param charset: what the Content-Type says, or None.
    :param body: the bytes; one more than `LONGEST_ANSWER` if there were more.
    """

    status: int
    charset: str | None
    body: bytes


@dataclass(slots=True)
class Exchange:
    """What is known of one request while it is under way.

    :param deadline: when it must be over, by `time.monotonic`.
    :param leaving: called once, immediately before the first byte leaves, with the seconds that are left until the
        deadline; what it raises stops the request.
    """

    deadline: float
    leaving: Callable[[float], None] | None = None
    has_left: bool = False
    deadline_passed: bool = False
    _connection: HTTPConnection | None = field(default=None, repr=False)

    def uses(self, connection: HTTPConnection) -> None:
        """Remember the connection that the deadline has to end."""
        self._connection = connection
        self.check_deadline()

    def mark_leaving(self) -> None:
        """Note that the first byte leaves now; the last moment to stop it."""
        if self.has_left:
            return
        self.check_deadline()
        if self.leaving is not None:
            self.leaving(self.deadline - time.monotonic())
            # To look may have taken its time.
            self.check_deadline()
        self.has_left = True

    def check_deadline(self) -> None:
        """Raise if the deadline is past."""
        if self.deadline_passed or time.monotonic() >= self.deadline:
            self.deadline_passed = True
            raise DeadlinePassed(errno.ETIMEDOUT, "deadline passed")

    def expire(self) -> None:
        """End the request from another thread: whoever waits on its socket wakes up."""
        self.deadline_passed = True
        sock: Any = self._connection.sock if self._connection is not None else None
        sock = getattr(sock, "socket", sock)
        if isinstance(sock, socket.socket):
            # The plain method: SSLSocket's own would drop the TLS layer under the thread that reads.
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


_under_way: ContextVar[Exchange | None] = ContextVar("sms_exchange_under_way", default=None)


class Transport:
    """One `requests` session that follows no redirect and repeats nothing by itself.

    :param base_url: where all requests go; an address of this machine is reached without the environment's proxy.
    :param proxy: the proxy to use; None for what the environment says.
    :param ca_file: certificates to trust; None for the system's, or what REQUESTS_CA_BUNDLE names.
    """

    def __init__(self, base_url: str, *, proxy: str | None, ca_file: str | None) -> None:
        self._proxies = {"http": proxy, "https": proxy} if proxy else None
        self._ca_file = ca_file
        self._deadlines = _Deadlines()
        self._session = requests.Session()
        self._session.trust_env = not is_loopback(urlsplit(base_url).hostname or "")
        self._session.auth = _NoAuth()
        self._session.headers.update(
            {"User-Agent": "airflow-provider-sms", "Accept": "application/json", "Accept-Encoding": "identity"}
        )
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, _WatchedAdapter())

    def post(self, url: str, form: Form, exchange: Exchange) -> RawAnswer:
        """Post a form once.

        :param url: the whole address, without a query.
        :param form: sent as UTF-8 form data.
        :param exchange: the record of this request; its deadline bounds everything.
        :raises TransportError: there is no whole answer; the exchange tells whether the request had left.
        """
        remaining = max(exchange.deadline - time.monotonic(), 0.001)
        token = _under_way.set(exchange)
        try:
            with self._deadlines.watching(exchange):
                response = self._session.post(
                    url,
                    data=form.encoded(),
                    headers={"Content-Type": "application/x-www-form-urlencoded;charset=utf-8"},
                    timeout=(min(CONNECT_TIMEOUT, remaining), remaining),
                    proxies=self._proxies,
                    verify=self._ca_file,
                    allow_redirects=False,
                    stream=True,
                )
                body = b""
                # To the empty read: only there does urllib3 miss what the Content-Length promised.
                while len(body) <= LONGEST_ANSWER and (chunk := response.raw.read(_CHUNK, decode_content=False)):
                    body += chunk
                if exchange.deadline_passed and not body:
                    # Headers that the deadline cut off look like an answer without a body.
                    raise DeadlinePassed(errno.ETIMEDOUT, "deadline passed")
                if len(body) > LONGEST_ANSWER:
                    response.close()
                else:
                    response.raw.release_conn()
        except (requests.RequestException, urllib3_errors.HTTPError, HTTPException, OSError) as error:
            raise TransportError("deadline passed" if exchange.deadline_passed else describe(error)) from None
        finally:
            _under_way.reset(token)
        return RawAnswer(response.status_code, get_encoding_from_headers(response.headers), body)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
        self._deadlines.look()


def describe(error: BaseException) -> str:
    """Say what broke in a few words, without the address, a proxy's password or anything that was sent.

    :param error: what `requests`, urllib3 or the socket raised.
    """
    chain = list(_causes(error))
    for cause in chain:
        match cause:
            case ssl.SSLCertVerificationError():
                return f"certificate not trusted: {cause.verify_message}"
            case urllib3_errors.NameResolutionError() | socket.gaierror():
                return "host name not found"
            case urllib3_errors.NewConnectionError():  # a ConnectTimeoutError by name only
                continue
            case urllib3_errors.ConnectTimeoutError():
                return "connecting timed out"
            case urllib3_errors.ReadTimeoutError():
                return "no answer in time"
            case urllib3_errors.IncompleteRead():
                return "answer cut short"
    for cause in reversed(chain):
        match cause:
            case ssl.SSLError():
                return f"TLS failed: {cause.reason or type(cause).__name__}"
            case OSError(errno=int(number)):
                return os.strerror(number)
            case OSError() if str(cause).startswith("Tunnel connection failed"):
                return f"the proxy refused: {str(cause).removeprefix('Tunnel connection failed').strip(': ')}"
    return type(chain[-1]).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it wraps, from the outside in."""
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        each = pending.pop(0)
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            pending += [getattr(each, "reason", None), *each.args, each.__cause__, each.__context__]


class _Deadlines:
    """Ends requests that are past their deadline: one thread for all, as to start one for each takes its time.

    A read time-out bounds the wait for each byte; only ending the socket bounds the whole answer.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: dict[int, Exchange] = {}
        self._thread: threading.Thread | None = None
        self._next_look = 0.0

    @contextmanager
    def watching(self, exchange: Exchange) -> Iterator[None]:
        """End the exchange if it is still under way at its deadline."""
        with self._changed:
            self._watched[id(exchange)] = exchange
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="sms-deadlines", daemon=True)
                self._thread.start()
            elif exchange.deadline < self._next_look:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del self._watched[id(exchange)]

    def look(self) -> None:
        """Look now whether anything is under way; the thread ends if nothing is."""
        with self._changed:
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while self._watched:
                now = time.monotonic()
                for exchange in self._watched.values():
                    if exchange.deadline <= now:
                        exchange.expire()
                # One that was just connecting had no socket to be ended by: it is ended again.
                self._next_look = min(max(each.deadline, now + _PAUSE) for each in self._watched.values())
                self._changed.wait(self._next_look - now)
            self._thread = None


class _NoAuth(AuthBase):
    """Keeps `requests` from sending what a .netrc says."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _WatchedConnection(HTTPConnection):
    """A connection that tells the exchange under way when the request's first byte leaves."""

    returned_at: float | None = None
    _is_connecting = False

    def connect(self) -> None:
        exchange = _under_way.get()
        if exchange is not None:
            exchange.uses(self)
        self._is_connecting = True
        try:
            super().connect()
        finally:
            self._is_connecting = False

    def send(self, data: Any) -> None:
        if self.sock is None and self.auto_open:
            self.connect()
        exchange = _under_way.get()
        # What is sent while connecting is the proxy's CONNECT, not our request.
        if exchange is not None and not self._is_connecting:
            exchange.uses(self)
            exchange.mark_leaving()
        super().send(data)


class _WatchedTlsConnection(_WatchedConnection, HTTPSConnection):
    """The same over TLS."""


class _FreshPool(HTTPConnectionPool):
    """Uses no connection again that has been idle for long."""

    ConnectionCls = _WatchedConnection

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)
        returned_at = getattr(connection, "returned_at", None)
        if returned_at is not None and time.monotonic() - returned_at > IDLE_LIMIT:
            connection.close()
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.returned_at = time.monotonic()
        super()._put_conn(conn)


class _FreshTlsPool(_FreshPool, HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = _WatchedTlsConnection


class _WatchedAdapter(HTTPAdapter):
    """Makes `requests` use the pools above, with a proxy and without."""

    _pools = {"http": _FreshPool, "https": _FreshTlsPool}  # noqa: RUF012

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager
