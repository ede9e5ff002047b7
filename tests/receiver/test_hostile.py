"""Whatever is thrown at the receiver: no 5xx, no memory without bound, nothing stored without a token, no token kept.

A sample by itself; all of it with SMS_HOSTILE_REQUESTS=100000. SMS_HOSTILE_SEED repeats a run's choices.
"""

from __future__ import annotations

import os
import random
import socket
import string
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import requests
import schemathesis
import schemathesis.checks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks as openapi_checks
from sqlalchemy import func, select

from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.schema import metadata, quarantine_table, receipt_table, reply_table
from tests.support.hostile import Answer, Hostile, exchange
from tests.support.push_load import Receipt, request
from tests.support.receiver_process import HOST, TOKEN, Receiver
from tests.support.simulator import REPOSITORY, wait_until

SAMPLE = 2_000
REQUESTS = int(os.environ.get("SMS_HOSTILE_REQUESTS", SAMPLE))
IS_SAMPLE = "SMS_HOSTILE_REQUESTS" not in os.environ
IS_REPEATABLE = IS_SAMPLE or "SMS_HOSTILE_SEED" in os.environ
SEED = int(os.environ.get("SMS_HOSTILE_SEED", 1 if IS_SAMPLE else random.SystemRandom().randrange(10**6)))
KINDS = ("sqlite", "postgresql", "mariadb")
# Of each database's part of the requests.
STRANGERS, RAW, FORMS, SCHEMA = 0.3, 0.45, 0.15, 0.1
AT_ONCE = 16
MOST_GROWTH = 64 * 1024 * 1024
QUARANTINE = 1000
LETTERS = string.ascii_letters + string.digits
DESCRIPTION = REPOSITORY / "docs" / "receiver.openapi.yaml"

pytestmark = pytest.mark.timeout(180 + REQUESTS // 20)


def near_miss(chance: random.Random) -> str:
    """The token, but for a trifle."""
    at = chance.randrange(len(TOKEN))
    other = chance.choice([each for each in LETTERS if each != TOKEN[at]])
    return chance.choice(
        (
            TOKEN[:at] + other + TOKEN[at + 1 :],
            TOKEN[:at],
            TOKEN + other,
            TOKEN.swapcase(),
            TOKEN + "%00",
            TOKEN + "+",
            "%20" + TOKEN,
            TOKEN[:at] + "%EF%BC%A1" + TOKEN[at:],
            TOKEN * 2,
        )
    )


def wrong_query(chance: random.Random) -> bytes:
    """What somebody without a token writes behind the `?`."""
    text = chance.choice(
        (
            "",
            "token",
            "token=",
            "token=%",
            "token=\xff\xfe",
            "token=%f0%9f%99%82%ed%a0%80",
            "token=" + "a" * chance.choice((1, 22, 33, 200, 4000)),
            "token[]=" + TOKEN,
            "TOKEN=" + TOKEN,
            "key=" + TOKEN,
            "token=" + near_miss(chance),
            "token=" + near_miss(chance),
            "token=" + near_miss(chance) + "&mobile=13800130001&taskid=1&status=1",
            "&".join(["a=b"] * 200) + "&token=" + near_miss(chance),
        )
    )
    return text.encode("latin-1")


def right_query(chance: random.Random) -> bytes:
    """The same, by one who has it, in all the ways in which it can be written."""
    escaped = "".join(f"%{ord(each):02X}" for each in TOKEN)
    more = "&".join(f"{quote(chance.randbytes(5))}={quote(chance.randbytes(20))}" for _ in range(3))
    return chance.choice(
        (
            f"token={TOKEN}",
            f"token={TOKEN}",
            f"token={escaped}",
            f"%74oken={TOKEN}",
            f"token={TOKEN}&{more}",
            f"{more}&token={TOKEN}",
            f"mobile=13800130001&taskid=7&status=1&token={TOKEN}",
            f"token={TOKEN}&token=another",
        )
    ).encode()


class Target:
    """A receiver, its ledger, and what it answered so far."""

    def __init__(self, receiver: Receiver, ledger: Ledger, chance: random.Random) -> None:
        self.receiver = receiver
        self.ledger = ledger
        self.chance = chance
        self.statuses: Counter[int] = Counter()
        self.sent = 0
        self.most_memory = 0

    def hurl(self, hostile: Hostile, count: int) -> list[Answer]:
        """Send so many requests, some at once."""
        answers = []
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for first in range(0, count, 1000):
                wires = [hostile.next() for _ in range(min(1000, count - first))]
                for wire, found in zip(
                    wires, pool.map(lambda wire: exchange(self.receiver.port, wire), wires), strict=True
                ):
                    self.sent += 1
                    self.note(found, wire)
                    answers += found
                self.look()
        return answers

    def note(self, answers: list[Answer], wire: bytes) -> None:
        self.statuses.update(answer.status for answer in answers)
        bad = [answer for answer in answers if answer.status >= 500]
        assert not bad, f"seed {SEED}: {bad[0]} to {wire[:3000]!r}\n{self.receiver.log()[-3000:]}"

    def look(self) -> None:
        self.most_memory = max(self.most_memory, self.receiver.memory())

    def rows(self) -> int:
        """In all tables that a push can get into."""
        with self.ledger.reading() as connection:
            tables = (receipt_table, reply_table, quarantine_table)
            return sum(connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables)

    def push(self, receipt: Receipt) -> list[Answer]:
        """One as it should be."""
        return exchange(self.receiver.port, request(f"/sms/push?token={TOKEN}", receipt.body()), patience=15)


@contextmanager
def target(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Target]:
    url = f"sqlite:///{folder / 'ledger.db'}" if kind == "sqlite" else request.getfixturevalue(f"{kind}_url")
    ledger = Ledger(read_url(url))
    versions.upgrade(ledger)
    with Receiver(folder, url, trusted_proxies=HOST) as receiver:
        yield Target(receiver, ledger, random.Random(SEED))
    ledger.close()


@pytest.mark.hostile
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_is_thrown_at_it_harms_it(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = REQUESTS // len(KINDS)
    with target(kind, request, tmp_path) as at:
        for number in range(100):
            assert [each.status for each in at.push(Receipt("WARM", f"1380013{number:04d}"))] == [200]
        # As it is when all its threads and caches have been used.
        at.hurl(Hostile(at.chance, right_query), min(500, count // 8))
        before, rows = at.receiver.memory(), at.rows()

        at.hurl(Hostile(at.chance, wrong_query), int(count * STRANGERS))
        assert at.rows() == rows, f"seed {SEED}: stored without a token"
        assert at.statuses[403] or at.statuses[429]

        at.hurl(Hostile(at.chance, right_query), int(count * RAW))
        _throw_forms(at, int(count * FORMS))
        _throw_what_the_description_allows(at, int(count * SCHEMA))
        at.look()

        # It got as far as it can: each answer was given.
        assert {200, 400, 404, 405, 413, 415} <= set(at.statuses), at.statuses
        grown = at.most_memory - before
        with capsys.disabled():
            if not IS_SAMPLE:
                told = ", ".join(f"{status}: {number:,}" for status, number in sorted(at.statuses.items()))
                print(
                    f"\n{kind}: {at.sent:,} requests, seed {SEED}; answers {told}; memory {before / 1e6:.0f} MB, "
                    f"at most {grown / 1e6:+.1f} MB; {at.rows() - rows:,} rows"
                )
        assert grown < MOST_GROWTH, f"seed {SEED}: {grown / 1e6:.0f} MB more"
        with at.ledger.reading() as connection:
            kept = connection.execute(select(func.count()).select_from(quarantine_table)).scalar_one()
        assert 0 < kept <= QUARANTINE

        # And it is as it was.
        assert at.receiver.is_running
        good = Receipt("GOOD", "13800130001", code="AFTER")
        assert [each.status for each in at.push(good)] == [200]
        with at.ledger.reading() as connection:
            of_good = select(receipt_table.c.code).where(receipt_table.c.taskid == "GOOD")
            assert connection.execute(of_good).scalars().all() == ["AFTER"]
        _assert_no_token(at, tmp_path)


def _throw_forms(at: Target, count: int) -> None:
    """Any field with any value: read, or refused as unreadable."""
    names = st.sampled_from(["mobile", "taskid", "status", "code", "content", "receivetime"]) | st.text(max_size=80)
    forms = st.lists(st.tuples(names, st.text(max_size=120) | st.binary(max_size=120)), max_size=12)
    pages = st.sampled_from(["push", "receipts", "replies", "push/FAKE-APP-ID"])
    charsets = st.sampled_from(["utf-8", "gbk", "latin1", "utf-7", "big5"])
    with requests.Session() as session:
        session.trust_env = False

        @settings(max_examples=count, deadline=None, database=None, derandomize=IS_REPEATABLE, **_UNHEALTHY)
        @given(forms, pages, charsets)
        def throw(form: list[tuple[str, str | bytes]], page: str, charset: str) -> None:
            body = urlencode(
                [(name.encode("utf-8", "surrogatepass"), _as_bytes(value)) for name, value in form]
            ).encode()
            kind = f"application/x-www-form-urlencoded; charset={charset}"
            answer = session.post(
                f"http://{HOST}:{at.receiver.port}/sms/{page}?token={TOKEN}", body, headers={"Content-Type": kind}
            )
            at.sent += 1
            at.statuses[answer.status_code] += 1
            assert answer.status_code in (200, 400), answer.text

        throw()


def _throw_what_the_description_allows(at: Target, count: int) -> None:
    """And what it does not: docs/receiver.openapi.yaml is what the receiver does."""
    described = schemathesis.openapi.from_path(DESCRIPTION)
    described.config.update(base_url=f"http://{HOST}:{at.receiver.port}")
    operations = [found.ok() for found in described.get_all_operations()]
    wanted = [
        schemathesis.checks.not_a_server_error,
        openapi_checks.status_code_conformance,
        openapi_checks.content_type_conformance,
        openapi_checks.response_schema_conformance,
    ]
    each = max(1, count // len(operations) // 2)
    with requests.Session() as session:
        session.trust_env = False

        def ask(case: schemathesis.Case) -> schemathesis.Response:
            case.query = {**(case.query or {}), "token": TOKEN}
            answer = case.call(session=session)
            at.sent += 1
            at.statuses[answer.status_code] += 1
            case.validate_response(answer, checks=wanted)
            return answer

        def ask_properly(case: schemathesis.Case) -> None:
            answer = ask(case)
            assert answer.status_code == 200, (answer.status_code, answer.text, case.body)

        def ask_anyhow(case: schemathesis.Case) -> None:
            ask(case)

        chosen = settings(max_examples=each, deadline=None, database=None, derandomize=IS_REPEATABLE, **_UNHEALTHY)
        for operation in operations:
            proper = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
            chosen(given(proper)(ask_properly))()
            # Nothing can be wrong about a page that takes nothing.
            if operation.path != "/sms/health":
                improper = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
                chosen(given(improper)(ask_anyhow))()


_UNHEALTHY = {"suppress_health_check": list(HealthCheck)}


def _as_bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")


def _assert_no_token(at: Target, folder: Path) -> None:
    log = at.receiver.log()
    assert TOKEN not in log
    assert "Traceback" not in log
    with at.ledger.reading() as connection:
        for table in metadata.sorted_tables:
            for row in connection.execute(select(table)):
                assert TOKEN not in repr(row), f"in {table.name}: {row!r}"
    for file in folder.glob("ledger.db*"):
        assert TOKEN.encode() not in file.read_bytes(), file.name


def test_wrong_tokens_are_answered_alike_whatever_is_wrong_with_them(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    # Each from somewhere else: one address gets no more than a few answers, and then another one.
    chance = random.Random(SEED)
    # Raw bytes above 127 are no HTTP at all, and answered so whoever sends them.
    queries = sorted({query for query in (wrong_query(chance) for _ in range(400)) if query.isascii()})
    pages = (b"/sms/push", b"/sms/receipts", b"/sms/push/FAKE-APP-ID", b"/sms/nowhere", b"/sms/t/x/push")
    body = Receipt("T", "13800130001").body()
    with target("sqlite", request, tmp_path) as at:

        def ask(number: int, page: bytes, query: bytes) -> Answer:
            sender = b"203.0.%d.%d" % (113 + number // 250, number % 250)
            wire = request_from(sender, page + b"?" + query, body)
            answers = exchange(at.receiver.port, wire, patience=15)
            assert len(answers) == 1, (answers, wire)
            return answers[0]

        found = {ask(number, chance.choice(pages), query) for number, query in enumerate(queries)}
        assert len(found) == 1, found
        assert found.pop().status == 403

        # And so are those who ask too often.
        often = {ask(0, b"/sms/push", query) for query in (queries * 3)[:200]}
        assert {answer.status for answer in often} == {403, 429}
        assert len(often) == 2, often
        # Not so one who knows it, from the same address.
        answers = exchange(
            at.receiver.port, request_from(b"203.0.113.0", b"/sms/push?token=" + TOKEN.encode(), body), patience=15
        )
        assert [answer.status for answer in answers] == [200]
        assert at.rows() == 1
        _assert_no_token(at, tmp_path)


def request_from(sender: bytes, target: bytes, body: bytes) -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: %b\r\nContent-Length: %d\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\n%b" % (target, sender, len(body), body)
    )


def test_a_token_in_the_wrong_place_is_not_stored(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    address = f"/sms/push?token={TOKEN}".encode()
    form = Receipt("T", "13800130001").body()
    with target("sqlite", request, tmp_path) as at:
        for body in (
            form + b"&token=" + TOKEN.encode(),
            form + b"&Token=" + TOKEN.encode(),
            form + b"&%74oken=" + "".join(f"%{ord(each):02x}" for each in TOKEN).encode(),
            form + b"&address=https://x/sms/push?token%3D" + TOKEN.encode(),
            b"token=" + TOKEN.encode(),
            b"address=" + TOKEN.encode(),
        ):
            answers = exchange(at.receiver.port, request_from(b"::1", address, body), patience=15)
            assert answers[0].status in (200, 400)
        for query in (b"&more=" + TOKEN.encode(), b"&Token=" + TOKEN.encode()):
            exchange(at.receiver.port, request_from(b"::1", address + b"&" + form + query, b""), patience=15)
        exchange(at.receiver.port, request_from(b"::1", address.replace(b"?", b"/" + TOKEN.encode() + b"?"), form), 15)
        assert at.rows() > 1
        _assert_no_token(at, tmp_path)


def test_many_slow_ones_keep_nobody_waiting_and_are_cut_off(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    address = f"/sms/push?token={TOKEN}".encode()
    begun = (
        b"",
        b"P",
        b"POST " + address,
        b"POST " + address + b" HTTP/1.1\r\nHost: x\r\n",
        b"POST " + address + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + b"a" * 50_000,
        b"POST " + address + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    )
    with target("sqlite", request, tmp_path) as at, ExitStack() as stack:
        before = at.receiver.memory()
        lines = [stack.enter_context(socket.create_connection((HOST, at.receiver.port), 10)) for _ in range(300)]
        for number, line in enumerate(lines):
            line.sendall(begun[number % len(begun)])
            line.settimeout(0)
        assert [each.status for each in at.push(Receipt("T", "13800130001"))] == [200]
        # 50 of them have handed in 50,000 bytes each.
        assert at.receiver.memory() - before < MOST_GROWTH

        def are_all_cut_off() -> bool:
            open_ones.difference_update([each for each in open_ones if _is_cut_off(each)])
            return not open_ones

        open_ones = set(lines)
        wait_until(are_all_cut_off, 40)
        assert [each.status for each in at.push(Receipt("T", "13800130002"))] == [200]


@pytest.mark.parametrize(
    "begun",
    [
        b"POST /sms/push HTTP/1.1\r\nHost: x\r\nX-Endless: ",
        b"POST /sms/push?",
        b"POST /sms/push?token=%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Endless: "
        % TOKEN.encode(),
        b"POST /sms/push?token=%b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;endless=" % TOKEN.encode(),
    ],
    ids=["header", "address", "trailer", "chunk extension"],
)
def test_what_never_ends_is_cut_off(begun: bytes, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with target("sqlite", request, tmp_path) as at:
        before = at.receiver.memory()
        with socket.create_connection((HOST, at.receiver.port), 10) as line:
            line.sendall(begun)
            with pytest.raises(ConnectionError):
                line.sendall(b"a" * 100_000_000)
        at.look()
        assert at.receiver.memory() - before < MOST_GROWTH // 4
        assert [each.status for each in at.push(Receipt("T", "13800130001"))] == [200]


def test_strangers_can_not_fill_the_disk_with_our_log(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with target("sqlite", request, tmp_path) as at:
        before = len(at.receiver.log())
        for wire in (
            b"\xff\xff\r\n\r\n",
            b"GET /sms/push HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        ):
            for _ in range(30):
                exchange(at.receiver.port, wire)
        assert len(at.receiver.log()) - before < 2000, at.receiver.log()


def _is_cut_off(line: socket.socket) -> bool:
    try:
        return line.recv(65536) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
