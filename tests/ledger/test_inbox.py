"""What is pushed is stored as it came, once, whatever it is; and an opt-out holds at once. On all three databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import delete, event, func, select

from airflow_provider_sms.gateway.opt_outs import OptOutWords
from airflow_provider_sms.gateway.pushes import Heard, Receipt, Reply, Unreadable
from airflow_provider_sms.ledger import inbox, opt_outs
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerDeadlockError
from airflow_provider_sms.ledger.inbox import QUARANTINED, Inbox, take_stock
from airflow_provider_sms.ledger.schema import (
    ledger_table,
    opt_out_table,
    quarantine_table,
    receipt_table,
    reply_table,
)

PHONE, ANOTHER = "13800130001", "13800130002"
TASKID = "3313746"
TIME = "2019-07-23 17:00:00"
OPTS_OUT = OptOutWords(["R", "退订"]).are_in


def receipt(mobile: str = PHONE, taskid: str = TASKID, status: str = "1", **changes: Any) -> Receipt:
    fields = {"code": "MA:0001", "receivetime": TIME, "extra": None, **changes}
    return Receipt(mobile, taskid, status, **fields)


def reply(content: str, mobile: str = PHONE, taskid: str = TASKID, **changes: Any) -> Reply:
    return Reply(mobile, taskid, content, **{"receivetime": TIME, "extra": None, **changes})


@pytest.fixture
def store(any_ledger: Ledger) -> Callable[..., None]:
    """Store pushes to the address without an account id."""
    box = Inbox(any_ledger, OPTS_OUT)
    return lambda *pushes: box.store([each if isinstance(each, Heard) else Heard(None, each) for each in pushes])


def rows(ledger: Ledger, table: Any) -> list[Any]:
    with ledger.reading() as connection:
        return list(connection.execute(select(table).order_by(table.c[next(iter(table.c.keys()))])).all())


def test_a_receipt_is_stored_as_it_came(any_ledger: Ledger, store: Callable[..., None]) -> None:
    store(Heard("APP-2", receipt(extra='{"spId": "7"}')))
    (row,) = rows(any_ledger, receipt_table)
    assert (row.account, row.mobile, row.taskid, row.status, row.code, row.receivetime, row.extra) == (
        "APP-2",
        PHONE,
        TASKID,
        "1",
        "MA:0001",
        TIME,
        '{"spId": "7"}',
    )
    assert row.matching is None
    age = datetime.now(UTC).replace(tzinfo=None) - row.received_at
    assert timedelta(seconds=-1) < age < timedelta(seconds=30)


def test_the_same_push_is_one_row_in_one_commit_or_in_many(any_ledger: Ledger, store: Callable[..., None]) -> None:
    store(receipt(), receipt(), reply("a"), reply("a"))
    store(receipt(), reply("a"), receipt(ANOTHER))
    assert [row.mobile for row in rows(any_ledger, receipt_table)] == [PHONE, ANOTHER]
    assert len(rows(any_ledger, reply_table)) == 1


@pytest.mark.parametrize(
    "change",
    [{"status": "0"}, {"code": "DELIVRD"}, {"receivetime": "2019-07-23 17:00:01"}, {"taskid": "3313746a"}],
    ids=lambda change: next(iter(change)),
)
def test_one_that_says_otherwise_is_another_one(
    any_ledger: Ledger, store: Callable[..., None], change: dict[str, str]
) -> None:
    store(receipt())
    store(receipt(**change))
    assert len(rows(any_ledger, receipt_table)) == 2


def test_no_two_pushes_look_the_same_because_of_where_a_field_ends(
    any_ledger: Ledger, store: Callable[..., None]
) -> None:
    store(
        receipt(status="1", code="1:x"),
        receipt(status="11", code=":x"),
        receipt(status="1", code="1", receivetime=":x"),
    )
    store(reply("1", receivetime="12"), reply("11", receivetime="2"))
    assert len(rows(any_ledger, receipt_table)) == 3
    assert len(rows(any_ledger, reply_table)) == 2


def test_the_account_and_extra_fields_make_no_other_push(any_ledger: Ledger, store: Callable[..., None]) -> None:
    store(receipt())
    store(Heard("APP-2", receipt(extra='{"a": "b"}')))
    assert len(rows(any_ledger, receipt_table)) == 1


def test_a_taskid_is_case_sensitive(any_ledger: Ledger, store: Callable[..., None]) -> None:
    store(receipt(taskid="abC"), receipt(taskid="abc"))
    assert len(rows(any_ledger, receipt_table)) == 2


STRANGE = [
    "👍 收到",
    "a\nb\r\n\tc",
    "'; DROP TABLE sms_reply; --",
    "%s %(a)s \\ \\n \\x1f ?",
    "",
    " ",
    '{"a": [1]}',
    "\u3000",
]


@pytest.mark.parametrize("content", STRANGE)
def test_a_text_is_stored_as_it_came(any_ledger: Ledger, store: Callable[..., None], content: str) -> None:
    store(reply(content, taskid=""), reply("beside it"))
    assert {row.content for row in rows(any_ledger, reply_table)} == {content, "beside it"}
    assert {row.taskid for row in rows(any_ledger, reply_table)} == {"", TASKID}


@pytest.mark.parametrize(
    ("content", "stored"), [("a\0b", r"a\u0000b"), ("a\ud83d", r"a\ud83d"), ("a\x1fb\x1e", r"a\u001fb\u001e")]
)
def test_what_no_database_takes_is_stored_escaped(
    any_ledger: Ledger, store: Callable[..., None], content: str, stored: str
) -> None:
    store(reply(content), receipt(status=content, code=content, receivetime=content))
    (row,) = rows(any_ledger, reply_table)
    assert row.content == stored
    (row,) = rows(any_ledger, receipt_table)
    assert (row.status, row.code, row.receivetime) == (stored, stored, stored)


def test_what_is_too_long_is_cut_off_and_still_two_pushes(any_ledger: Ledger, store: Callable[..., None]) -> None:
    store(
        *(receipt(status="9" * 1000 + end, code="c" * 1000, receivetime="t" * 1000) for end in "ab"),
        *(reply("长" * 60_000 + end, receivetime="t" * 1000, extra="x" * 70_000) for end in "ab"),
    )
    first, second = rows(any_ledger, receipt_table)
    assert first.status == second.status == "9" * 20
    assert (len(first.code), len(first.receivetime)) == (100, 64)
    first, second = rows(any_ledger, reply_table)
    assert first.content == second.content == "长" * inbox.LONGEST_CONTENT


def test_only_empty_fields_are_no_null(any_ledger: Ledger, store: Callable[..., None]) -> None:
    store(receipt(status="", code="x", receivetime=""))
    (row,) = rows(any_ledger, receipt_table)
    assert (row.status, row.receivetime, row.account, row.extra) == ("", "", None, None)


def test_a_thousand_in_one_commit(any_ledger: Ledger, store: Callable[..., None]) -> None:
    store(*(receipt(f"138{number:08}", str(number // 100)) for number in reversed(range(1000))))
    with any_ledger.reading() as connection:
        assert connection.execute(select(func.count()).select_from(receipt_table)).scalar() == 1000


def test_receivers_that_store_the_same_at_once_make_no_second_row_and_no_error(any_ledger: Ledger) -> None:
    pushes = [Heard(None, receipt(f"138{number:08}")) for number in range(300)]
    failures: list[Exception] = []
    together = threading.Barrier(4)

    def work(turn: int) -> None:
        box = Inbox(any_ledger, OPTS_OUT)
        together.wait()
        try:
            for _ in range(5):
                box.store(pushes[turn * 50 :] + pushes[: turn * 50] if turn % 2 else pushes[::-1])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert len(rows(any_ledger, receipt_table)) == 300


@pytest.mark.parametrize("any_ledger", ["mariadb"], indirect=True)
def test_a_deadlock_is_said_to_be_one_and_leaves_nothing_half_stored(any_ledger: Ledger) -> None:
    pushes = [Heard(None, reply("R", PHONE)), Heard(None, reply("R", ANOTHER))]
    box, failures = Inbox(any_ledger, OPTS_OUT), list[Exception]()
    is_at_the_second = threading.Event()

    def see(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: object) -> None:
        if "INTO sms_opt_out" in statement and ANOTHER in str(parameters) and threading.current_thread() is thread:
            is_at_the_second.set()

    def work() -> None:
        try:
            box.store(pushes)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    event.listen(any_ledger.engine, "before_cursor_execute", see)
    # Whoever looks at replies puts phones on the list in another order; of two the database undoes the shorter one.
    with any_ledger.writing() as connection:
        opt_outs.add_all(connection, any_ledger, [ANOTHER, *(f"139{at:08}" for at in range(50))], source="reply")
        thread.start()
        assert is_at_the_second.wait(30)
        opt_outs.add(connection, any_ledger, PHONE, source="reply")
    thread.join(30)
    assert [type(each) for each in failures] == [LedgerDeadlockError]
    assert rows(any_ledger, reply_table) == []
    box.store(pushes)
    assert len(rows(any_ledger, reply_table)) == 2


class TestFirstPush:
    def test_is_noted_once(self, any_ledger: Ledger, store: Callable[..., None]) -> None:
        assert rows(any_ledger, ledger_table)[0].first_push_at is None
        store(receipt())
        noted = rows(any_ledger, ledger_table)[0].first_push_at
        assert noted is not None
        Inbox(any_ledger, OPTS_OUT).store([Heard(None, receipt(ANOTHER))])
        assert rows(any_ledger, ledger_table)[0].first_push_at == noted

    def test_a_push_that_can_not_be_read_is_none(self, any_ledger: Ledger) -> None:
        Inbox(any_ledger, OPTS_OUT).store([Unreadable(None, "push", "no mobile", b"x")])
        assert rows(any_ledger, ledger_table)[0].first_push_at is None

    def test_a_receiver_is_noted_every_time(self, any_ledger: Ledger) -> None:
        box = Inbox(any_ledger, OPTS_OUT)
        box.note_receiver()
        first = rows(any_ledger, ledger_table)[0].receiver_at
        box.note_receiver()
        assert rows(any_ledger, ledger_table)[0].receiver_at >= first


class TestOptOuts:
    def test_a_reply_that_opts_out_puts_its_phone_on_the_list(
        self, any_ledger: Ledger, store: Callable[..., None]
    ) -> None:
        store(reply("r。", mobile="+86 " + PHONE), reply("No, thanks", mobile=ANOTHER))
        (listed,) = rows(any_ledger, opt_out_table)
        (opted, _) = sorted(rows(any_ledger, reply_table), key=lambda row: row.content, reverse=True)
        assert (listed.phone, listed.source, listed.reply_id) == (PHONE, "reply", opted.id)

    def test_both_or_neither_are_stored(self, any_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(*args: Any, **more: Any) -> bool:
            raise RuntimeError("between the two")

        with monkeypatch.context() as patch:
            patch.setattr(opt_outs, "add", fails)
            with pytest.raises(RuntimeError):
                Inbox(any_ledger, OPTS_OUT).store([Heard(None, reply("R")), Heard(None, receipt())])
        assert rows(any_ledger, reply_table) == rows(any_ledger, receipt_table) == []
        Inbox(any_ledger, OPTS_OUT).store([Heard(None, reply("R"))])
        assert len(rows(any_ledger, opt_out_table)) == 1

    def test_a_repeated_push_does_not_undo_what_a_person_has_done_since(
        self, any_ledger: Ledger, store: Callable[..., None]
    ) -> None:
        store(reply("退订"))
        with any_ledger.writing() as connection:
            connection.execute(delete(opt_out_table))
        store(reply("退订"))
        assert rows(any_ledger, opt_out_table) == []
        store(reply("退订", receivetime="2019-07-24 08:00:00"))
        assert len(rows(any_ledger, opt_out_table)) == 1

    def test_a_masked_phone_is_put_on_no_list(self, any_ledger: Ledger, store: Callable[..., None]) -> None:
        store(reply("R", mobile="1380013****"))
        assert rows(any_ledger, opt_out_table) == []
        assert len(rows(any_ledger, reply_table)) == 1

    def test_many_at_once(self, any_ledger: Ledger, store: Callable[..., None]) -> None:
        store(*(reply("R", mobile=f"138{number:08}") for number in range(200)), *(reply("R") for _ in range(3)))
        assert len(rows(any_ledger, opt_out_table)) == 201


class TestQuarantine:
    def test_keeps_the_newest_and_counts_all(self, any_ledger: Ledger) -> None:
        box = Inbox(any_ledger, OPTS_OUT)
        box.store([Unreadable(None, "push", "the first", b"")])
        before = take_stock(any_ledger, 0).unreadable
        for start in range(0, QUARANTINED + 200, 300):
            box.store([Unreadable("APP", "push", f"reason {start + at}", b"a=%00\0\xff") for at in range(300)])
        kept = rows(any_ledger, quarantine_table)
        assert len(kept) == QUARANTINED
        assert kept[-1].reason == "reason 1199"
        assert kept[-1].body == r"a=%00\u0000\xff"
        stock = take_stock(any_ledger, 2)
        assert stock.unreadable - before == 1200
        assert [each.reason for each in stock.newest] == ["reason 1199", "reason 1198"]

    def test_a_long_one_is_cut_off(self, any_ledger: Ledger) -> None:
        Inbox(any_ledger, OPTS_OUT).store([Unreadable(None, "push", "r" * 500, "值".encode() * 20_000)])
        (row,) = rows(any_ledger, quarantine_table)
        assert (len(row.reason), len(row.body)) == (200, inbox.LONGEST_BODY)


def test_the_stock_counts_by_what_became_of_them(any_ledger: Ledger, store: Callable[..., None]) -> None:
    store(receipt(), receipt(ANOTHER), reply("a"))
    with any_ledger.writing() as connection:
        connection.execute(receipt_table.update().where(receipt_table.c.mobile == PHONE).values(matching="unowned"))
    stock = take_stock(any_ledger, 10)
    assert stock.receipts.by_matching == {"unowned": 1, "new": 1}
    assert stock.replies.by_matching == {"new": 1}
    assert stock.receipts.is_all
    assert stock.replies.newest_at is not None
    assert stock.first_push_at is not None
    assert stock.first_push_at.tzinfo is UTC


def test_of_very_many_the_stock_counts_the_newest_and_says_so(
    any_ledger: Ledger, store: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    store(receipt())
    with any_ledger.writing() as connection:
        connection.execute(receipt_table.update().values(matching="unowned"))
    for at in range(3):
        store(receipt(ANOTHER, str(at)))
    for counted, by_matching, is_all in ((3, {"new": 3}, False), (5, {"new": 3, "unowned": 1}, True)):
        monkeypatch.setattr(inbox, "COUNTED", counted)
        stock = take_stock(any_ledger, 0)
        assert (stock.receipts.by_matching, stock.receipts.is_all) == (by_matching, is_all)
        assert stock.receipts.newest_at == rows(any_ledger, receipt_table)[-1].received_at.replace(tzinfo=UTC)
