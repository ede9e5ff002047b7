"""Requests as nobody should send them, byte for byte, and the answers that come back. Knows HTTP/1.1 at its worst.

The same seed makes the same requests.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote_from_bytes

HOST = "127.0.0.1"
_METHODS = ["POST"] * 6 + ["GET", "PUT", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "post", "", "P\0ST"]
_PATHS = [
    "/sms/push",
    "/sms/receipts",
    "/sms/replies",
    "/sms/push/FAKE-APP-ID",
    "/sms/health",
    "/sms/push/",
    "/sms//push",
    "/sms/push/a/b/c",
    "/sms/push/%00",
    "/sms/push/%ff%fe",
    "/sms/push/" + "a" * 300,
    "/sms/push/\u4e91".encode().decode("latin-1"),
    "/sms/../sms/push",
    "/sms/t/x/push",
    "/sms/t//push",
    "/sms/t",
    "/sms",
    "/",
    "*",
    "",
    "http://127.0.0.1/sms/push",
    "//evil/sms/push",
    "/sms/push%3Ftoken=x",
    "/" + "a" * 9000,
]
_TYPES = [
    "application/x-www-form-urlencoded;charset=utf-8",
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=gbk",
    "application/x-www-form-urlencoded; charset=utf-16",
    "application/x-www-form-urlencoded; charset=rot13",
    "application/x-www-form-urlencoded; charset=../../etc/passwd",
    "APPLICATION/X-WWW-FORM-URLENCODED; CHARSET='big5'",
    "multipart/form-data; boundary=x",
    "application/json",
    "text/plain",
    ";;;===",
    "",
]
_BODIES = [
    b"mobile=13800130001&taskid=33&status=1&code=DELIVRD&receivetime=2026-07-23+17%3A00%3A00",
    b"mobile=13800130001&taskid=33&content=%E6%94%B6%E5%88%B0&receivetime=2026-07-23+17%3A00%3A00",
    b"mobile=1380013****&taskid=33&status=9&code=&receivetime=",
    b"",
    b"&&&&",
    b"=&=&=",
    b"mobile",
    b"%",
    b"%%%%%zz%0",
    b"mobile=%00&taskid=%00&status=%00",
    b"mobile=%ed%a0%80&taskid=%ff%fe&status=%c0%80",
    b"mobile=\xff\xfe\x00&taskid=\x80&content=\xca\xd5\xb5\xbd",
    b"mobile=1&mobile=2&taskid=1&taskid=2&status=1&status=0",
    b"mobile=" + b"1" * 500 + b"&taskid=" + b"2" * 500 + b"&status=" + b"3" * 500,
    b"&".join(b"f%d=v" % number for number in range(500)),
    b"mobile=1&taskid=1&status=1&" + b"&".join(b"f%d=%s" % (number, b"v" * 300) for number in range(150)),
    b"mobile=1&taskid=1&content=" + "退订\u0000🙂\U0010ffff".encode() * 500,
    b'{"mobile": "13800130001"}',
    b'--x\r\nContent-Disposition: form-data; name="mobile"\r\n\r\n1\r\n--x--\r\n',
    b"\x1f\x8b\x08\x00garbage",
    b"mobile=1'--&taskid='; DROP TABLE sms_receipt; --&status=1",
    b"mobile=1&taskid=1\x1f2\x1e3&status=\x1e\x1f&code=%1e%1f&receivetime=%1f",
    b"a" * 65_537,
    b"mobile=1&taskid=1&status=" + b"%25" * 20_000,
]
_HEADERS = [
    "Expect: 100-continue",
    "Connection: close",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==",
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "X-Forwarded-For: 203.0.113.9, , ::1, [::1]:80, 1.2.3.4:99, unknown, \xff",
    "X-Forwarded-For: " + "1.2.3.4, " * 500,
    "Content-Encoding: gzip",
    "Host: \xff\xff",
    "Host:",
    "Cookie: " + "a" * 8000,
    "X-Empty:",
    ": nameless",
    "no colon at all",
    "X-Null: a\0b",
    "Content-Length: -1",
    "Content-Length: 99999999999999999999",
    "Content-Length: 1e3",
    "Content-Length: 3\r\nContent-Length: 4",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: banana",
    " folded: header",
    "X-Many: " + "\r\nX-Many: ".join("v" * 3 for _ in range(200)),
]
_CHUNKS = [
    b"0\r\n\r\n",
    b"5\r\nmobil\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"-1\r\nx\r\n",
    b"zz\r\nx\r\n0\r\n\r\n",
    b'3;ext="\xff"\r\nabc\r\n0\r\nTrailer: x\r\n\r\n',
    b"1\r\na\r\n" * 2000 + b"0\r\n\r\n",
    b"1\r\nab\r\n0\r\n\r\n",
    b"10000\r\n" + b"a" * 65_536 + b"\r\n10000\r\n" + b"a" * 65_536 + b"\r\n0\r\n\r\n",
]


@dataclass(frozen=True)
class Answer:
    """One answer.

    :param headers: all but the date, as they came.
    """

    status: int
    headers: bytes
    body: bytes


class Hostile:
    """Makes hostile requests.

    :param query: makes what stands behind the `?`, and thereby says who it is that is hostile.
    """

    def __init__(self, chance: random.Random, query: Callable[[random.Random], bytes]) -> None:
        self._chance = chance
        self._query = query
        self._kinds: Sequence[tuple[Callable[[], bytes], int]] = (
            (self._put_together, 40),
            (self._damaged, 30),
            (self._chunked, 10),
            (self._pipelined, 8),
            (self._noise, 6),
            (self._oversized, 1),
        )

    def next(self) -> bytes:
        """One piece of hostility: what is sent over one connection."""
        kinds, weights = zip(*self._kinds, strict=True)
        make: Callable[[], bytes] = self._chance.choices(kinds, weights)[0]
        return make()

    def _put_together(self) -> bytes:
        pick = self._chance.choice
        body = self._body()
        lines = [self._first_line(), b"Host: 127.0.0.1"]
        if self._chance.random() < 0.9:
            lines.append(b"Content-Type: " + pick(_TYPES).encode("latin-1"))
        if self._chance.random() < 0.9:
            lines.append(b"Content-Length: %d" % len(body))
        lines += [pick(_HEADERS).encode("latin-1") for _ in range(self._chance.choice([0, 0, 0, 1, 1, 2]))]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    def _damaged(self) -> bytes:
        """A proper push, with a few bytes changed, left out, doubled, or cut off."""
        data = bytearray(self._proper())
        for _ in range(self._chance.randint(1, 4)):
            at = self._chance.randrange(len(data))
            what = self._chance.randrange(5)
            if what == 0:
                data[at] = self._chance.randrange(256)
            elif what == 1:
                del data[at : at + self._chance.randint(1, 20)]
            elif what == 2:
                data[at:at] = self._chance.randbytes(self._chance.randint(1, 20))
            elif what == 3:
                data[at:at] = data[at : at + 50]
            elif len(data) > 40:
                del data[self._chance.randrange(20, len(data)) :]
            data = data or bytearray(b"P")
        return bytes(data)

    def _chunked(self) -> bytes:
        head = self._first_line("POST") + b"\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: "
        return head + _TYPES[0].encode() + b"\r\n\r\n" + self._chance.choice(_CHUNKS)

    def _pipelined(self) -> bytes:
        return b"".join(self._chance.choice((self._proper, self._put_together))() for _ in range(4))

    def _noise(self) -> bytes:
        return self._chance.choice(
            (b"", b"\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /\r\n", b"\x16\x03\x01")
        ) + (self._chance.randbytes(self._chance.randrange(2000)))

    def _oversized(self) -> bytes:
        much = b"a" * self._chance.choice((70_000, 300_000, 2_000_000))
        return self._chance.choice(
            (
                self._first_line("POST") + b"\r\nHost: x\r\nX-Much: " + much + b"\r\nContent-Length: 0\r\n\r\n",
                b"POST /sms/push?" + much + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                self._first_line("POST") + b"\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(much) + much,
                self._first_line("POST")
                + b"\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(much)
                + much
                + b"\r\n0\r\n\r\n",
            )
        )

    def _proper(self) -> bytes:
        body = self._chance.choice(_BODIES[:3])
        head = b"POST /sms/push?" + self._query(self._chance) + b" HTTP/1.1\r\nHost: x\r\nContent-Type: "
        return head + _TYPES[0].encode() + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    def _first_line(self, method: str | None = None) -> bytes:
        pick = self._chance.choice
        method = pick(_METHODS) if method is None else method
        version = pick(["HTTP/1.1"] * 8 + ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.1.1", ""])
        return f"{method} {pick(_PATHS)}?".encode("latin-1") + self._query(self._chance) + b" " + version.encode()

    def _body(self) -> bytes:
        if self._chance.random() < 0.3:
            fields = [b"mobile", b"taskid", b"status", b"code", b"content", b"receivetime", b"token", b"\xff"]
            return b"&".join(
                self._chance.choice(fields)
                + b"="
                + quote_from_bytes(self._chance.randbytes(self._chance.randrange(60))).encode()
                for _ in range(self._chance.randrange(1, 9))
            )
        return self._chance.choice(_BODIES)


def exchange(port: int, data: bytes, patience: float = 0.05) -> list[Answer]:
    """Send it over a connection of its own, and read what is answered.

    :param patience: seconds to wait for an answer before it is believed that more is waited for.
    :returns: what was answered; what was cut off is left out.
    """
    received = b""
    with socket.create_connection((HOST, port), timeout=20) as line, suppress(ConnectionError):
        with suppress(ConnectionError):
            line.sendall(data)
        line.settimeout(patience)
        try:
            while chunk := line.recv(65536):
                received += chunk
                if len(whole := answers_in(received)) == data.count(b" HTTP/1.1\r\n"):
                    return whole
        except TimeoutError:
            # It waits for the rest, or has nothing to say: there is no more.
            line.shutdown(socket.SHUT_WR)
            line.settimeout(20)
            while chunk := line.recv(65536):
                received += chunk
    return answers_in(received, is_all=True)


def answers_in(received: bytes, *, is_all: bool = False) -> list[Answer]:
    """Take apart what came.

    :param is_all: nothing more comes: `HEAD` is answered without a body.
    """
    answers = []
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        if not end or not head.startswith(b"HTTP/1."):
            break
        status, *lines = head.split(b"\r\n")
        kept = [line for line in lines if not line.lower().startswith(b"date:")]
        length = next((int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")), None)
        if length is None:
            # uvicorn's own words on what is no HTTP; the connection ends with them.
            length = len(rest)
        if rest.startswith(b"HTTP/1."):
            length = 0
        elif len(rest) < length and not is_all:
            break
        answers.append(Answer(int(status.split()[1]), b"\r\n".join(kept), rest[:length]))
        received = rest[length:]
    return answers
