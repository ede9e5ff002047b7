"""Replies are claimed row by row: each by one run at a time, none lost, and handed on again until it is handled."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from airflow_provider_sms.ledger import owners, replies
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerUsageError
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.replies import Claims, Interest, fits
from airflow_provider_sms.ledger.schema import Matching, campaign_table, reply_claim_table, reply_table
from tests.support.pushed import put_replies, reply_row

LEASE = timedelta(minutes=5)
ORDERS = Interest("orders")


def claims(
    ledger: Ledger, identity: str | None = "task-1", interest: Interest = ORDERS, lease: timedelta = LEASE
) -> Claims:
    return Claims(ledger, interest, identity, lease)


def taken(claims: Claims, most: int = 1000) -> list[int]:
    return [int(reply.id) for reply in claims.take(most)]


def begin(ledger: Ledger, key: str, namespace: str = "") -> int:
    """A campaign's id."""
    Plans(ledger, "somebody").enter(CampaignKey(namespace, campaign_key=key))
    with ledger.reading() as connection:
        return int(connection.execute(select(func.max(campaign_table.c.id))).scalar_one())


def test_what_a_run_gets(any_ledger: Ledger) -> None:
    campaign_id = begin(any_ledger, "spring")
    put_replies(any_ledger, ["好的"], mobile="1380013****", phone="13800130001", campaign_id=campaign_id, account="A")
    (reply,) = claims(any_ledger).take(10)
    assert (reply.phone, reply.content, reply.campaign) == ("13800130001", "好的", "spring")
    assert (reply.taskid, reply.account) == ("T1", "A")
    assert reply.received_at.tzinfo is not None
    assert "13800130001" not in repr(reply)
    assert "好的" not in repr(reply)


def test_oldest_first_and_no_more_than_asked_for(any_ledger: Ledger) -> None:
    new = put_replies(any_ledger, ["3", "4"])
    old = put_replies(any_ledger, ["1", "2"], ago=timedelta(hours=1))
    run = claims(any_ledger)
    assert taken(run, 3) == [*old, new[0]]
    assert run.held == 3
    assert taken(claims(any_ledger, "task-2")) == [new[1]]


def test_a_reply_is_one_run_s_until_it_is_given_back_or_handled(any_ledger: Ledger) -> None:
    ids = put_replies(any_ledger, ["1", "2", "3"])
    first, second = claims(any_ledger), claims(any_ledger, "task-2")
    assert taken(first) == ids
    assert taken(second) == []
    assert first.release() == 3
    assert taken(second) == ids
    assert second.handle() == 0
    assert second.held == 0
    assert taken(first) == []
    assert taken(claims(any_ledger, "task-3")) == []


def test_one_may_be_handled_before_the_others(any_ledger: Ledger) -> None:
    ids = put_replies(any_ledger, ["1", "2", "3"])
    run = claims(any_ledger)
    run.take(10)
    assert run.handle([ids[1]]) == 0
    run.release()
    assert taken(claims(any_ledger, "task-2")) == [ids[0], ids[2]]


def test_consumers_do_not_see_each_other(any_ledger: Ledger) -> None:
    ids = put_replies(any_ledger, ["1", "2"])
    run = claims(any_ledger)
    assert taken(run) == ids
    run.handle()
    assert taken(claims(any_ledger, interest=Interest("audit"))) == ids
    assert taken(claims(any_ledger, interest=Interest("orders", namespace="prod"))) == ids


def test_forty_replies_and_eight_runs_at_once(any_ledger: Ledger) -> None:
    ids = put_replies(any_ledger, [str(number) for number in range(40)])
    got: list[list[int]] = []
    start = threading.Barrier(8)

    def run(number: int) -> None:
        mine = claims(any_ledger, f"task-{number}")
        start.wait()
        got.append(taken(mine, 20))
        mine.handle()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert sorted(each for some in got for each in some) == ids


def test_a_row_that_commits_late_under_a_lower_id_is_not_lost(any_ledger: Ledger) -> None:
    if any_ledger.kind == "sqlite":
        # Two writers at once it does not have: the same to a reader is a row put in afterwards.
        ids = put_replies(any_ledger, ["first", "late", "last"])
        with any_ledger.writing() as connection:
            late = connection.execute(select(reply_table).where(reply_table.c.id == ids[1])).mappings().one()
            connection.execute(reply_table.delete().where(reply_table.c.id == ids[1]))
        run = claims(any_ledger)
        assert taken(run) == [ids[0], ids[2]]
        run.handle()
        with any_ledger.writing() as connection:
            connection.execute(insert(reply_table).values(**late))
        assert taken(claims(any_ledger, "task-2")) == [ids[1]]
        return
    with any_ledger.writing() as slow:
        at = any_ledger.now(slow)
        (late_id,) = slow.execute(insert(reply_table).values(**reply_row("late", at))).inserted_primary_key or (0,)
        quick = put_replies(any_ledger, ["1", "2"])
        assert late_id < quick[0]
        run = claims(any_ledger)
        assert taken(run) == quick
        run.handle()
    assert taken(claims(any_ledger, "task-2")) == [late_id]


class TestWhoMayTakeOver:
    def test_whoever_comes_once_the_lease_is_over(self, any_ledger: Ledger) -> None:
        ids = put_replies(any_ledger, ["1"])
        slow = claims(any_ledger)
        assert taken(slow) == ids
        with any_ledger.writing() as connection:
            connection.execute(update(reply_claim_table).values(lease_until=any_ledger.now(connection)))
        other = claims(any_ledger, "task-2")
        assert taken(other) == ids
        # Who comes back too late is told, and takes nothing away.
        assert slow.handle() == 1
        assert slow.release() == 0
        assert taken(claims(any_ledger, "task-3")) == []
        assert other.handle() == 0

    def test_a_lease_is_renewed(self, any_ledger: Ledger) -> None:
        put_replies(any_ledger, ["1", "2"])
        run = claims(any_ledger)
        run.take(10)
        with any_ledger.writing() as connection:
            connection.execute(update(reply_claim_table).values(lease_until=any_ledger.now(connection)))
        run.renew()
        assert taken(claims(any_ledger, "task-2")) == []

    def test_another_block_of_the_same_process_waits(self, ledger: Ledger) -> None:
        put_replies(ledger, ["1"])
        claims(ledger).take(10)
        assert taken(claims(ledger)) == []

    @pytest.mark.parametrize(
        ("identity", "takes_over"), [("task-1", True), ("task-2", False), (None, False)], ids=["own", "other", "none"]
    )
    def test_the_next_try_of_the_same_task_instance_at_once(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, identity: str | None, takes_over: bool
    ) -> None:
        # Of a try on another machine nobody knows whether it lives.
        ids = put_replies(ledger, ["1"])
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(replies, "new_claimant", lambda: "elsewhere boot 1 2 3/1")
            claims(ledger).take(10)
        assert taken(claims(ledger, identity)) == (ids if takes_over else [])

    def test_outside_a_task_nobody_is_the_next_try(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        put_replies(ledger, ["1"])
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(replies, "new_claimant", lambda: "elsewhere boot 1 2 3/1")
            claims(ledger, None).take(10)
        assert taken(claims(ledger, None)) == []

    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc proves that a process is dead")
    def test_anybody_as_soon_as_the_process_is_provably_dead(self, ledger: Ledger, ledger_file: Path) -> None:
        ids = put_replies(ledger, ["1", "2"])
        program = (
            "import sys\n"
            "from datetime import timedelta\n"
            "from airflow_provider_sms.ledger.database import Ledger, read_url\n"
            "from airflow_provider_sms.ledger.replies import Claims, Interest\n"
            f"ledger = Ledger(read_url('sqlite:///{ledger_file}'))\n"
            "print(len(Claims(ledger, Interest('orders'), 'task-9', timedelta(hours=9)).take(10)), flush=True)\n"
            "sys.stdin.read()\n"
        )
        child = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(replies.__file__).parents[2])},
        )
        with child:
            assert child.stdout is not None
            assert child.stdout.readline().strip() == "2"
            assert taken(claims(ledger)) == []
            child.send_signal(signal.SIGKILL)
            child.wait(30)
        assert taken(claims(ledger)) == ids


class TestWhichReplies:
    def test_a_pattern_leaves_the_others_unhandled(self, any_ledger: Ledger) -> None:
        ids = put_replies(any_ledger, ["no", "YES", "\uff39", "y"])
        run = claims(any_ledger, interest=Interest("orders", pattern="^(?i:y)"))
        assert taken(run) == ids[1:]
        run.handle()
        assert taken(claims(any_ledger)) == [ids[0]]

    def test_one_that_fits_is_found_behind_a_thousand_that_do_not(self, ledger: Ledger) -> None:
        ids = put_replies(ledger, ["no"] * 1200 + ["yes"])
        assert taken(claims(ledger, interest=Interest("orders", pattern="yes")), 1) == [ids[-1]]

    def test_a_campaign(self, any_ledger: Ledger) -> None:
        spring, summer = begin(any_ledger, "spring"), begin(any_ledger, "summer")
        ids = put_replies(any_ledger, ["1"], campaign_id=spring)
        put_replies(any_ledger, ["2"], campaign_id=summer)
        put_replies(any_ledger, ["3"])
        assert taken(claims(any_ledger, interest=Interest("orders", campaign="spring"))) == ids

    def test_not_those_to_another_installation_s_campaigns(self, any_ledger: Ledger) -> None:
        prod, test = begin(any_ledger, "spring", "prod"), begin(any_ledger, "spring", "test")
        of_prod = put_replies(any_ledger, ["1"], campaign_id=prod)
        of_test = put_replies(any_ledger, ["2"], campaign_id=test)
        of_nobody = put_replies(any_ledger, ["3"])
        assert taken(claims(any_ledger, interest=Interest("orders", "prod", "spring"))) == of_prod
        assert taken(claims(any_ledger, interest=Interest("orders", "test"))) == [*of_test, *of_nobody]

    def test_one_that_nobody_has_looked_at_waits_for_its_campaign(self, any_ledger: Ledger) -> None:
        put_replies(any_ledger, ["new"], matching=None)
        put_replies(any_ledger, ["early"], matching=Matching.UNOWNED.value)
        stray = put_replies(any_ledger, ["stray"], matching=Matching.UNOWNED.value, ago=timedelta(minutes=2))
        masked = put_replies(any_ledger, ["whose?"], matching=Matching.NO_PHONE.value)
        assert sorted(taken(claims(any_ledger))) == sorted([*stray, *masked])

    def test_old_ones_are_left_out_and_counted(self, any_ledger: Ledger) -> None:
        put_replies(any_ledger, ["yes", "no", "yes"], ago=timedelta(days=8))
        ids = put_replies(any_ledger, ["yes"], ago=timedelta(days=6))
        run = claims(any_ledger)
        assert taken(run) == ids
        assert run.too_old() == 3
        assert claims(any_ledger, interest=Interest("orders", pattern="yes")).too_old() == 2
        longer = claims(any_ledger, interest=Interest("orders", since=timedelta(days=9)))
        assert len(longer.take(10)) == 3
        assert longer.too_old() == 0
        longer.handle()
        assert run.too_old() == 0


@pytest.mark.parametrize(
    ("pattern", "content", "does"),
    [
        (None, None, True),
        (None, "", True),
        ("^Y$", "Y", True),
        ("^Y$", "\uff39", True),
        ("^1$", " 1\n", True),
        ("\uff0c", "好\uff0c谢谢", True),
        ("^Y$", "No", False),
        ("x", None, False),
    ],
)
def test_a_pattern_is_searched_for_in_the_text_and_in_its_usual_form(
    pattern: str | None, content: str | None, does: bool
) -> None:
    assert fits(pattern, content) is does


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Interest(" "), "consumer: "),
        (lambda: Interest("x" * 141), "consumer: "),
        (lambda: Interest("a\nb"), "consumer: "),
        (lambda: Interest("orders", pattern="("), "pattern: not a regular expression: "),
        (lambda: Interest("orders", since=timedelta(0)), "since: "),
    ],
)
def test_what_can_not_be_asked_for(make: Callable[[], Interest], said: str) -> None:
    with pytest.raises(LedgerUsageError, match=re.escape(said)):
        make()


def test_an_owner_fits_its_column(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners.socket, "gethostname", lambda: "h" * 300)
    owners._own_name.cache_clear()
    try:
        assert len(claims(ledger, "i" * 32)._owner) <= 250
    finally:
        owners._own_name.cache_clear()
