"""Waiting for receipts and replies, run to its end by Airflow; people and carriers are played by a thread."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers import base
from sqlalchemy import func, insert, select

from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.schema import BatchState, batch_table, reply_claim_table, reply_table
from tests.support.airflow import EXAMPLES, put_dag, run_dag, states, xcom
from tests.support.pushed import listen, match, note_first_push, put_replies, receipts, receive, reply, reply_row
from tests.support.simulator import Simulator, wait_until

WATCHERS = hasattr(base, "BaseEventTrigger")
needs_watchers = pytest.mark.skipif(not WATCHERS, reason="this Airflow has no asset watchers")
REPLIES = EXAMPLES / "example_sms_replies.py"

# After which a reply without a campaign is taken to be nobody's.
_A_WHILE = timedelta(minutes=2)
_print = print


def _fails_on_replies(*values: object, **options: Any) -> None:
    if str(values[0]).startswith("reply "):
        raise RuntimeError("the printer is broken")
    _print(*values, **options)


def accepted(ledger: Ledger) -> list[str]:
    """TaskIds in the order of the batches."""
    query = select(batch_table.c.taskid).where(batch_table.c.state == BatchState.ACCEPTED.value)
    with ledger.reading() as connection:
        return list(connection.execute(query.order_by(batch_table.c.id)).scalars())


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something while a DAG runs; what goes wrong there is the test's trouble."""
    problems: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
    assert problems == []


@pytest.mark.usefixtures("connection")
def test_every_way_to_wait(ledger: Ledger, simulator: Simulator) -> None:
    note_first_push(ledger)

    def answer() -> None:
        wait_until(lambda: len(accepted(ledger)) == 2, 120)
        first, second = accepted(ledger)
        receive(ledger, *receipts(first, ["13800130001"]), *receipts(second, ["13800130002"], "0", "MX:0012"))
        receive(ledger, reply(first, "13800130001", "好的"))
        match(ledger)

    with meanwhile(answer):
        run = run_dag(put_dag(Path(__file__).with_name("waits.py")))
    found = states(run)
    assert found.pop("too_late") == "failed"
    assert found.pop("too_few") == "skipped"
    assert set(found.values()) == {"success"}, found
    for task_id in ("poked", "rescheduled"):
        summary = xcom(run, task_id)
        assert (summary["delivered"], summary["failedByCause"]) == (1, {"blacklist": 1})
        assert summary["batches"] == xcom(run, "send", "taskId")
    assert xcom(run, "deferred")["delivered"] == 1
    assert xcom(run, "by_name")["campaign"] == xcom(run, "send")["campaign"]
    assert xcom(run, "by_name")["failed"] == 1
    assert xcom(run, "reply")["replies"] == xcom(run, "reply_rescheduled")["replies"] == 1
    assert xcom(run, "waited_enough")["missing"] == 1


@pytest.mark.usefixtures("sms_simulator")
def test_the_example_waits_for_an_answer_and_acts_on_it(ledger: Ledger, simulator: Simulator) -> None:
    listen(ledger)

    def answer() -> None:
        wait_until(lambda: len(accepted(ledger)) == 1, 120)
        (taskid,) = accepted(ledger)
        receive(
            ledger,
            reply(taskid, "13800130031", "?"),
            reply(taskid, "13800130032", "1"),
            reply(taskid, "13800130033", "2"),
        )

    with meanwhile(answer):
        run = run_dag(put_dag(REPLIES))
    assert run.state == "success", states(run)
    assert xcom(run, "count_answers") == {"yes": 1, "no": 1, "unclear": 1}
    assert xcom(run, "answered")["replies"] == 2
    assert [batch["phones"] for batch in simulator.accepted()] == [["13800130031", "13800130032", "13800130033"]]


@pytest.mark.usefixtures("sms_simulator")
def test_the_example_waits_until_enough_were_reached(ledger: Ledger, simulator: Simulator) -> None:
    listen(ledger)
    phones = ["13800130021", "13800130022", "13800130023"]

    def deliver() -> None:
        wait_until(lambda: len(accepted(ledger)) == 1, 120)
        receive(ledger, *receipts(accepted(ledger)[0], phones))

    with meanwhile(deliver):
        run = run_dag(put_dag(EXAMPLES / "example_sms_delivery.py"))
    assert run.state == "success", states(run)
    assert xcom(run, "delivered")["delivered"] == 3
    assert simulator.accepted()[0]["phones"] == phones


@pytest.fixture(params=["sqlite", "postgresql"])
def desk_ledger(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, sms_simulator: object) -> Any:
    """The ledger that the example's second DAG reads."""
    if request.param == "sqlite":
        ledger = request.getfixturevalue("ledger")
        listen(ledger)
        yield ledger
        return
    url = request.getfixturevalue("postgresql_url")
    ledger = Ledger(read_url(url))
    versions.upgrade(ledger)
    listen(ledger)
    monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", url)
    yield ledger
    ledger.close()


def run_desk() -> int:
    """Run the desk once, as a nudge does; how many replies it acted on."""
    run = runpy.run_path(str(put_dag(REPLIES)))["desk"].test()
    assert run.state == "success"
    return int(xcom(run, "act_on_replies"))


def handled(ledger: Ledger) -> int:
    with ledger.reading() as connection:
        table = reply_claim_table
        return int(connection.execute(select(func.count(table.c.handled_at))).scalar_one())


@needs_watchers
class TestTheDesk:
    def test_forty_replies_in_one_second(self, desk_ledger: Ledger) -> None:
        receive(desk_ledger, *[reply("T9", "13800130001", f"reply {number}") for number in range(40)])
        with desk_ledger.writing() as connection:
            # To no campaign of ours, and no longer in question.
            later = desk_ledger.now(connection) - _A_WHILE
            connection.execute(reply_table.update().values(received_at=later))
        assert run_desk() == 40
        # The other nudges of the burst.
        assert [run_desk() for _ in range(2)] == [0, 0]
        assert handled(desk_ledger) == 40
        with desk_ledger.reading() as connection:
            owners = set(connection.execute(select(reply_claim_table.c.owner)).scalars())
        # By task instance: so its next try takes over at once what a killed one had.
        assert not [each for each in owners if each.startswith("- ")]

    def test_rows_that_commit_out_of_order(self, desk_ledger: Ledger) -> None:
        if desk_ledger.kind == "sqlite":
            pytest.skip("SQLite has one writer at a time: rows commit in order")
        with desk_ledger.writing() as slow:
            at = desk_ledger.now(slow)
            slow.execute(insert(reply_table).values(**reply_row("late", at)))
            put_replies(desk_ledger, [f"reply {number}" for number in range(39)])
            assert run_desk() == 39
        assert run_desk() == 1
        assert handled(desk_ledger) == 40

    def test_what_a_failed_run_had_is_handed_on_again(
        self, desk_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put_replies(desk_ledger, ["1", "2"])
        with monkeypatch.context() as broken:
            broken.setattr("builtins.print", _fails_on_replies)
            run = runpy.run_path(str(put_dag(REPLIES)))["desk"].test()
        assert run.state == "failed"
        assert handled(desk_ledger) == 0
        assert run_desk() == 2

    def test_it_is_paused_when_it_is_new_and_not_run_by_time(self) -> None:
        desk = runpy.run_path(str(REPLIES))["desk"]
        assert desk.is_paused_upon_creation
        assert type(desk.timetable).__name__ == "AssetTriggeredTimetable"
