"""The receiver as an ASGI app: addresses, bodies, answers. Mounted in Airflow's API server, or on its own.

Raw ASGI: Airflow 2.11 has no web framework to build on, and a push must cost next to nothing. Knows no SQL.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any
from urllib.parse import unquote_to_bytes

from airflow_provider_sms.gateway.pushes import (
    UTF_8,
    Heard,
    PushError,
    Unreadable,
    charset_of,
    fields_of,
    read_either,
    read_receipt,
    read_reply,
)
from airflow_provider_sms.metrics import AirflowStats
from airflow_provider_sms.observing import Observer
from airflow_provider_sms.receiver.admission import Admission, read_rules
from airflow_provider_sms.receiver.counting import Counting
from airflow_provider_sms.receiver.intake import Busy, Desk, Intake

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LONGEST_BODY = 64 * 1024
BODY_SECONDS = 10.0
# In the scope, where our own server puts it: gives the body if all of it has come.
WHOLE_BODY = "airflow_provider_sms.whole_body"

_FORM = b"application/x-www-form-urlencoded"
_READERS = {"push": read_either, "receipts": read_receipt, "replies": read_reply}
_ACCOUNT = re.compile(r"[\w.*+@=:~-]{1,100}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Route:
    """Where an address leads.

    :param interface: `push`, `receipts`, `replies` or `health`; None if it leads nowhere.
    :param account: the account id behind it.
    :param token: the token in its path.
    """

    interface: str | None
    account: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the few answers that there are."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def _answer(status: int, text: str, *headers: tuple[bytes, bytes]) -> Answer:
    body = text.encode()
    kinds = (
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    )
    return Answer(status, (*kinds, *headers), body)


# What is left of such a request is not read.
_CLOSE = (b"connection", b"close")
OK = _answer(200, "ok")
STRANGER = _answer(403, "forbidden", _CLOSE)
SLOW_DOWN = _answer(429, "too many requests", _CLOSE, (b"retry-after", b"10"))
NOWHERE = _answer(404, "no such address", _CLOSE)
NO_POST = _answer(405, "POST only", _CLOSE, (b"allow", b"POST"))
NO_FORM = _answer(415, "application/x-www-form-urlencoded only", _CLOSE)
TOO_LARGE = _answer(413, f"more than {LONGEST_BODY} bytes", _CLOSE)
TOO_SLOW = _answer(408, "too slow", _CLOSE)
NOT_NOW = _answer(503, "not stored, push it again", (b"retry-after", b"5"))
WELL = _answer(200, "ok")
UNWELL = _answer(503, "unwell")


class App:
    """The receiver.

    :param prefix: what stands before its addresses where it runs on its own; empty where it is mounted.
    """

    def __init__(self, prefix: str = "/sms") -> None:
        self._prefix = prefix
        self._intake: Intake | None = None
        self._counting: Counting | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            answer = await self._answer(scope, receive)
            if answer is not None:
                headers = [*answer.headers]
                if scope.get("http_version", "1.1")[0] != "1":
                    headers = [each for each in headers if each != _CLOSE]
                await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                await send({"type": "http.response.body", "body": answer.body})
        elif kind == "lifespan":
            await self._live(receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self._running_intake().settled()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def close(self) -> None:
        """Store what waits to be, and end."""
        intake, self._intake = self._intake, None
        if intake is not None:
            await intake.stop()
        counting, self._counting = self._counting, None
        if counting is not None:
            await asyncio.to_thread(counting.close)

    def _running_intake(self) -> Intake:
        """The intake of this event loop and process: begun at the first request, and again after a fork."""
        intake = self._intake
        if intake is None or not intake.serves(asyncio.get_running_loop()):
            self._counting = counting = Counting(AirflowStats())
            self._intake = intake = Intake(_read_admission, partial(_open_desk, counting))
        return intake

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | None:
        """The answer to a request; None if whoever asked has left."""
        intake = self._running_intake()
        route = route_of(scope["path"], scope.get("root_path", ""), self._prefix)
        if route.interface == "health":
            return WELL if intake.is_well else UNWELL
        answer = await self._answer_push(intake, route, scope, receive)
        if answer is not OK and answer is not None and self._counting is not None:
            self._counting.turned_away(1, answer.status)
        return answer

    async def _answer_push(self, intake: Intake, route: Route, scope: Scope, receive: Receive) -> Answer | None:
        admission = intake.admission
        if admission is None:
            await intake.settled()
            admission = intake.admission
            if admission is None:
                return NOT_NOW
        forwarded: list[bytes] = []
        content_type = b""
        length = b""
        chunked = False
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = value
            elif name == b"content-type":
                content_type = value
            elif name == b"x-forwarded-for":
                forwarded.append(value)
            elif name == b"transfer-encoding":
                chunked = True
        client = scope.get("client")
        peer = client[0] if client else ""
        query: bytes = scope.get("query_string", b"")
        if not admission.admits(peer, forwarded, query, route.token):
            return SLOW_DOWN if admission.is_too_much(peer, forwarded) else STRANGER
        # Who has put the token where the account belongs shall hear of it, and not find it in the ledger.
        if route.interface is None or (route.account is not None and admission.is_told_in(route.account)):
            return NOWHERE
        if scope["method"] != "POST":
            return NO_POST
        has_body = chunked or length not in (b"", b"0")
        charset = _form_charset(content_type)
        if charset is None:
            if has_body:
                return NO_FORM
            charset = UTF_8
        if length and (not length.isdigit() or len(length) > 10 or int(length) > LONGEST_BODY):
            return TOO_LARGE
        body = b""
        if has_body or scope.get("http_version") not in ("1.1", "1.0"):
            # Mostly all of it came with the head. To wait for it, with an end to the waiting, is a third of our work.
            at_once = scope.get(WHOLE_BODY)
            read = at_once() if at_once is not None else None
            if read is None or len(read) > LONGEST_BODY:
                read = await _read(receive)
            if not isinstance(read, bytes):
                return read
            body = read
        return await self._take(intake, admission, route, body or _without_token(query), charset)

    async def _take(self, intake: Intake, admission: Admission, route: Route, form: bytes, charset: str) -> Answer:
        interface = route.interface or ""
        reason = ""
        item: Heard | Unreadable
        try:
            fields = admission.without_tokens(fields_of(form, charset))
            item = Heard(route.account, _READERS[interface](fields))
        except PushError as error:
            reason = error.reason
            item = Unreadable(route.account, interface, reason, admission.readable(form))
        try:
            await intake.put(item)
        except Busy:
            return NOT_NOW
        return _answer(400, reason) if reason else OK


@lru_cache(maxsize=512)
def route_of(path: str, root_path: str, prefix: str) -> Route:
    """Find out where an address leads.

    :param path: the whole of it, or without `root_path` where a proxy has cut that off.
    :param root_path: where the app is mounted.
    :param prefix: what stands before the app's own addresses.
    """
    inside = path
    # Airflow may itself lie under a path that a proxy has cut off already.
    root = root_path.rstrip("/")
    while root:
        if path == root or path.startswith(f"{root}/"):
            inside = path[len(root) :]
            break
        root = root[root.index("/", 1) :] if "/" in root[1:] else ""
    if prefix:
        if not inside.startswith(f"{prefix}/"):
            return Route(None)
        inside = inside[len(prefix) :]
    parts = inside.strip("/").split("/")
    token = None
    if parts[0] == "t" and len(parts) >= 2:
        token, parts = parts[1], parts[2:]
    if parts == ["health"] and token is None:
        return Route("health")
    if not parts or parts[0] not in _READERS or len(parts) > 2:
        return Route(None, token=token)
    account = parts[1] if len(parts) == 2 else None
    if account is not None and not _ACCOUNT.fullmatch(account):
        return Route(None, token=token)
    return Route(parts[0], account, token)


@lru_cache(maxsize=64)
def _form_charset(content_type: bytes) -> str | None:
    """The charset of a form; None if it is none. Nothing said means a form."""
    kind = content_type.partition(b";")[0].strip().lower()
    return charset_of(content_type.decode("latin-1")) if kind in (_FORM, b"") else None


async def _read(receive: Receive) -> bytes | Answer | None:
    """Read a body, as much and as long as it may be; None if the other side has left."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body: bytes = message.get("body", b"")
            while message.get("more_body", False):
                if len(body) > LONGEST_BODY:
                    return TOO_LARGE
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
    except TimeoutError:
        return TOO_SLOW
    return body if len(body) <= LONGEST_BODY else TOO_LARGE


def _without_token(query: bytes) -> bytes:
    pairs = query.split(b"&")
    return b"&".join(each for each in pairs if unquote_to_bytes(each.partition(b"=")[0]).strip().lower() != b"token")


def _read_admission() -> Admission:
    return Admission(read_rules())


def _open_desk(observer: Observer) -> Desk:
    # Only now: whoever merely mounts the app needs no database.
    from airflow_provider_sms.receiver.desk import LedgerDesk

    return LedgerDesk(observer)
