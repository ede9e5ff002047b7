"""Replies handed to a task by `SmsHook.claim_replies`: at least once, and handled when the block ends well."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout
from sqlalchemy import select, update

from airflow_provider_sms import reply_reader
from airflow_provider_sms.hooks import sms
from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.ledger import replies
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerDeafError, LedgerUnreachableError, LedgerUsageError
from airflow_provider_sms.ledger.keys import TaskInstanceKey
from airflow_provider_sms.ledger.replies import Claims
from airflow_provider_sms.ledger.schema import reply_claim_table
from tests.support.campaigns import PHONES, Campaigns, Platform
from tests.support.forking import Program
from tests.support.pushed import listen, put_replies, receive, reply
from tests.support.simulator import wait_until

_TASK_INSTANCE = sms._task_instance
OWN = TaskInstanceKey("dag", "run", "act")


@pytest.fixture(autouse=True)
def hearing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver runs, and this is a task."""
    listen(ledger)
    monkeypatch.setattr(sms, "_task_instance", lambda: OWN)


def contents(consumer: str = "orders", **choices: object) -> list[str]:
    with SmsHook().claim_replies(consumer, **choices) as replies:
        return [each.content for each in replies]


def test_a_reply_to_a_campaign(ledger: Ledger, campaigns: Campaigns) -> None:
    campaigns.run(Platform(), PHONES[:2])
    receive(ledger, reply("T1", PHONES[0], "好的"))
    # No receiver runs here that would have matched it.
    with SmsHook().claim_replies("orders", campaign="dag/run/send") as replies:
        (one,) = replies
        assert (one.phone, one.content, one.campaign, one.taskid) == (PHONES[0], "好的", "dag/run/send", "T1")
        assert len(replies) == 1
        assert replies[0] is one
        assert PHONES[0] not in repr(replies) + repr(one)


def test_a_block_that_ends_well_has_handled_them(ledger: Ledger) -> None:
    put_replies(ledger, ["1", "2"])
    assert contents() == ["1", "2"]
    assert contents() == []
    assert contents("audit") == ["1", "2"]


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), AirflowTaskTimeout("late")])
def test_one_that_raises_has_them_handed_on_again(
    ledger: Ledger, error: BaseException, logged: Callable[[], str]
) -> None:
    put_replies(ledger, ["1", "2"])
    with pytest.raises(type(error)), SmsHook().claim_replies("orders"):
        raise error
    assert f"{type(error).__name__}: not handled, and handed on again: 2 replies." in logged()
    assert contents() == ["1", "2"]


def test_but_not_what_it_has_marked(ledger: Ledger) -> None:
    put_replies(ledger, ["1", "2", "3"])

    def act() -> None:
        with SmsHook().claim_replies("orders") as replies:
            for each in replies:
                if each.content == "2":
                    raise RuntimeError
                replies.handled(each)

    with pytest.raises(RuntimeError):
        act()
    assert contents() == ["2", "3"]


def test_leaving_early_has_handled_them_all(ledger: Ledger) -> None:
    put_replies(ledger, ["1", "2"])
    with SmsHook().claim_replies("orders") as replies:
        for _ in replies:
            break
    assert contents() == []


def test_two_that_read_at_once_get_different_ones(ledger: Ledger) -> None:
    put_replies(ledger, ["1", "2", "3"])
    with SmsHook().claim_replies("orders", most=2) as first, SmsHook().claim_replies("orders") as second:
        assert [each.content for each in first] == ["1", "2"]
        assert [each.content for each in second] == ["3"]


def test_a_lease_is_renewed_as_the_loop_goes_on(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    put_replies(ledger, ["1", "2", "3"])
    clock = [0.0]
    monkeypatch.setattr(reply_reader.time, "monotonic", lambda: clock[0])

    def lease() -> Any:
        with ledger.reading() as connection:
            return connection.execute(select(reply_claim_table.c.lease_until).limit(1)).scalar_one()

    with SmsHook().claim_replies("orders", lease=timedelta(minutes=3)) as replies:
        leases = []
        for _ in replies:
            leases.append(lease())
            clock[0] += 40
    assert leases[0] == leases[1] < leases[2]


def test_work_that_took_longer_than_its_lease_is_said_so(ledger: Ledger, logged: Callable[[], str]) -> None:
    put_replies(ledger, ["1", "2"])
    with SmsHook().claim_replies("orders"):
        with ledger.writing() as connection:
            connection.execute(update(reply_claim_table).values(lease_until=ledger.now(connection)))
        with SmsHook().claim_replies("orders") as replies:
            assert len(replies) == 2
    assert "longer than their lease of 0:15:00 and were handed to another run, too: 2." in logged()


def test_a_ledger_that_is_away_at_the_end_fails_the_task_which_gets_them_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_replies(ledger, ["1"])

    def away(self: Claims) -> int:
        raise LedgerUnreachableError("away")

    with monkeypatch.context() as failing:
        failing.setattr(Claims, "handle", away)
        with pytest.raises(LedgerUnreachableError), SmsHook().claim_replies("orders"):
            pass
    monkeypatch.setattr(replies, "new_claimant", lambda: "the next try's process 7 8/1")
    assert contents() == ["1"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc proves that a process is dead")
def test_a_killed_task_s_next_try_has_them_at_once(ledger: Ledger, tmp_path: Path) -> None:
    put_replies(ledger, ["1", "2"])
    program = """if True:
        import time
        from airflow_provider_sms.hooks.sms import SmsHook
        with SmsHook().claim_replies('orders') as replies:
            print('got', len(replies), flush=True)
            time.sleep(600)
    """
    log = tmp_path / "log"
    with Program("-c", [program], os.environ, log) as child:
        wait_until(lambda: "got 2\n" in log.read_text(), 60)
        assert contents() == []
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    assert contents() == ["1", "2"]


def test_older_ones_are_counted_in_a_warning(ledger: Ledger, logged: Callable[[], str]) -> None:
    put_replies(ledger, ["1", "2"], ago=timedelta(days=9))
    put_replies(ledger, ["3"])
    assert contents() == ["3"]
    assert "came before the last 7 days, 0:00:00 are left out, at least 2" in logged()
    assert contents(since=timedelta(days=10)) == ["1", "2"]


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"consumer": ""}, "consumer: "),
        ({"pattern": "("}, "pattern: "),
        ({"most": 0}, "most: "),
        ({"lease": timedelta(0)}, "lease: "),
        ({"since": timedelta(0)}, "since: "),
    ],
)
def test_what_can_not_be_asked_for(choices: dict[str, object], said: str) -> None:
    with pytest.raises(LedgerUsageError, match=said):
        contents(**choices)  # type: ignore[arg-type]


def test_a_ledger_that_nothing_can_come_into(
    ledger_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path}/deaf.db")
    with pytest.raises(LedgerDeafError, match="airflow-sms push-url"):
        contents()


def test_outside_a_task_too(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sms, "_task_instance", _TASK_INSTANCE)
    assert sms._task_instance() is None
    put_replies(ledger, ["1"])
    assert contents() == ["1"]
