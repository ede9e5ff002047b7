"""What triggers ask about replies: in one query for all, and texts only where a pattern asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import event, update

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.replies import Claims, Interest
from airflow_provider_sms.ledger.reply_counts import (
    ReplyCounter,
    ReplyWanted,
    Unhandled,
    UnhandledCounter,
    find,
)
from airflow_provider_sms.ledger.schema import reply_claim_table
from tests.support.pushed import put_replies


@contextmanager
def statements(ledger: Ledger) -> Iterator[list[str]]:
    """What is asked in the block."""
    asked: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            asked.append(statement)

    event.listen(ledger.engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(ledger.engine, "before_cursor_execute", note)


class TestWhoWaitsForAReply:
    def test_to_a_campaign_or_to_batches(self, any_ledger: Ledger) -> None:
        put_replies(any_ledger, ["1", "2"], campaign_id=1, taskid="T1")
        put_replies(any_ledger, ["3"], campaign_id=1, taskid="T2")
        # From a phone that was not texted.
        put_replies(any_ledger, ["4"], taskid="T2")
        wanted = [
            ReplyWanted(1),
            ReplyWanted(2),
            ReplyWanted(None, ("T2", "T9")),
            ReplyWanted(None, ("T1", "T2")),
            ReplyWanted(None, ("T9",)),
        ]
        counts = ReplyCounter().count(any_ledger, wanted)
        assert [counts[each] for each in wanted] == [3, 0, 1, 3, 0]

    def test_ten_thousand_ask_one_query(self, any_ledger: Ledger) -> None:
        put_replies(any_ledger, ["1"], campaign_id=77)
        wanted = [ReplyWanted(number) for number in range(10_000)]
        wanted += [ReplyWanted(None, (f"U{number}",)) for number in range(1_000)]
        with statements(any_ledger) as asked:
            counts = ReplyCounter().count(any_ledger, wanted)
        assert len(asked) == 1
        assert [each for each in wanted if counts[each]] == [ReplyWanted(77)]

    def test_a_pattern_reads_texts_only_when_replies_have_come(self, any_ledger: Ledger) -> None:
        wanted = ReplyWanted(1, (), "^yes")
        counter = ReplyCounter()
        put_replies(any_ledger, ["no"], campaign_id=1)
        asked_of_each_time = []
        for contents in ((), (), ("no",), ("yes", "yes!")):
            if contents:
                put_replies(any_ledger, contents, campaign_id=1)
            with statements(any_ledger) as asked:
                found = counter.count(any_ledger, [wanted])[wanted]
            asked_of_each_time.append((found, len(asked)))
        assert asked_of_each_time == [(0, 2), (0, 1), (0, 2), (2, 2)]
        # Whoever asks again is told again.
        assert counter.count(any_ledger, [wanted])[wanted] == 2

    def test_which_ones(self, any_ledger: Ledger) -> None:
        ids = put_replies(any_ledger, ["yes", "no"], campaign_id=1, mobile="1380013****", phone="13800130007")
        put_replies(any_ledger, ["yes"], campaign_id=2)
        assert [(each.id, each.phone) for each in find(any_ledger, ReplyWanted(1, (), "yes"))] == [
            (ids[0], "13800130007")
        ]
        assert len(find(any_ledger, ReplyWanted(1))) == 2


class TestWhatIsUnhandled:
    def test_by_consumer(self, any_ledger: Ledger) -> None:
        ids = put_replies(any_ledger, ["1", "2", "3"])
        orders, audit = Interest("orders"), Interest("audit")
        run = Claims(any_ledger, orders, "task", timedelta(minutes=5))
        assert len(run.take(2)) == 2
        counts = UnhandledCounter().count(any_ledger, [orders, audit])
        # What somebody works on is no news.
        assert counts == {orders: Unhandled(1, ids[2]), audit: Unhandled(3, ids[2])}
        with any_ledger.writing() as connection:
            connection.execute(update(reply_claim_table).values(lease_until=any_ledger.now(connection)))
        assert UnhandledCounter().count(any_ledger, [orders]) == {orders: Unhandled(3, ids[2])}
        run.handle()
        assert UnhandledCounter().count(any_ledger, [orders]) == {orders: Unhandled(1, ids[2])}

    def test_many_consumers_ask_one_query(self, any_ledger: Ledger) -> None:
        put_replies(any_ledger, ["1"])
        interests = [Interest(f"consumer-{number}") for number in range(100)]
        with statements(any_ledger) as asked:
            counts = UnhandledCounter().count(any_ledger, interests)
        assert len(asked) == 1
        assert {each.replies for each in counts.values()} == {1}

    def test_what_does_not_fit_is_read_once(self, any_ledger: Ledger) -> None:
        interest = Interest("orders", pattern="^yes")
        counter = UnhandledCounter()
        put_replies(any_ledger, ["no", "no"])
        found = []
        for contents in ((), (), ("yes",), ()):
            if contents:
                put_replies(any_ledger, contents)
            with statements(any_ledger) as asked:
                found.append((counter.count(any_ledger, [interest])[interest].replies, len(asked)))
        assert found == [(0, 2), (0, 1), (1, 2), (1, 2)]

    def test_old_ones_do_not_count(self, any_ledger: Ledger) -> None:
        put_replies(any_ledger, ["1"], ago=timedelta(days=8))
        interest = Interest("orders")
        assert UnhandledCounter().count(any_ledger, [interest]) == {interest: Unhandled(0, 0)}

    def test_nobody_asks(self, ledger: Ledger) -> None:
        assert UnhandledCounter().count(ledger, []) == {}
        assert ReplyCounter().count(ledger, []) == {}


@pytest.mark.parametrize("pattern", [None, "^yes"])
def test_a_hundred_thousand_old_replies_cost_nothing(ledger: Ledger, pattern: str | None) -> None:
    for _ in range(10):
        put_replies(ledger, ["no"] * 10_000, ago=timedelta(days=30))
    put_replies(ledger, ["yes"])
    interest = Interest("orders", pattern=pattern)
    with statements(ledger) as asked:
        assert UnhandledCounter().count(ledger, [interest])[interest].replies == 1
    with ledger.reading() as connection:
        plan = " ".join(
            str(row) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked[0]}", _bound(asked[0]))
        )
    assert "SEARCH sms_reply USING INDEX ix_sms_reply_received_at" in plan
    assert "SCAN sms_reply" not in plan


def _bound(statement: str) -> tuple[str, ...]:
    return ("2030-01-31",) * statement.count("?")
