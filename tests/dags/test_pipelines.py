"""The example DAGs of whole pipelines, run to their end by Airflow: their main job, and what goes wrong most likely."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook
from sqlalchemy import update

from airflow_provider_sms.gateway.hours import Hours
from airflow_provider_sms.ledger import opt_outs
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.errors import LedgerUnreachableError
from airflow_provider_sms.ledger.replies import Claims
from airflow_provider_sms.ledger.schema import reply_claim_table
from tests.dags.test_waits import accepted, meanwhile
from tests.support.airflow import EXAMPLES, put_dag, rendered_fields, run_dag, states, xcom
from tests.support.fixtures import SetConnection, connection_classes
from tests.support.pushed import listen, put_replies, receipts, receive, reply
from tests.support.simulator import Simulator, wait_until

pytestmark = pytest.mark.usefixtures("sms_simulator")


def run_example(name: str, conf: dict[str, Any] | None = None) -> Any:
    return run_dag(put_dag(EXAMPLES / f"example_sms_{name}.py"), conf)


def texts(simulator: Simulator) -> list[tuple[list[str], str]]:
    return [(batch["phones"], batch["content"]) for batch in simulator.accepted()]


class TestTheFailureAlarm:
    @pytest.fixture(autouse=True)
    def _signed(self, sms_simulator: Callable[..., None]) -> None:
        sms_simulator("sms_simulator", extra={"signature": "云通信"})

    def test_a_task_that_fails_is_texted_to_those_on_duty(self, simulator: Simulator) -> None:
        run = run_example("failure_alarm")
        assert states(run) == {"count_orders": "success", "check": "failed", "report": "upstream_failed"}
        ((phones, text),) = texts(simulator)
        assert phones == ["13800130051", "13800130052"]
        assert text.startswith("【云通信】失败:example_sms_failure_alarm.check 第1次 ")

    def test_a_night_without_failures_is_quiet(self, simulator: Simulator) -> None:
        assert run_example("failure_alarm", {"orders": 3}).state == "success"
        assert texts(simulator) == []

    def test_an_alarm_that_can_not_be_sent_hides_nothing(self, simulator: Simulator) -> None:
        simulator.settings(locked=True)
        assert states(run_example("failure_alarm"))["check"] == "failed"


class TestTheWatchOnTheBalance:
    @pytest.fixture(autouse=True)
    def _often(self, simulator: Simulator, sms_simulator: object) -> Iterator[None]:
        simulator.settings(one_per_minute=False)
        yield
        # What is remembered of one test is forgotten before the next.
        self.watch(simulator, 5_000)

    def watch(self, simulator: Simulator, balance: int, **params: int) -> Any:
        simulator.settings(balance=balance)
        run = run_example("low_balance", params)
        assert run.state == "success", states(run)
        return run

    def test_it_warns_once_until_the_account_is_topped_up(self, simulator: Simulator) -> None:
        for balance in (1_999, 2_500, 1_400):  # some points were given back in between
            self.watch(simulator, balance)
        assert texts(simulator) == [(["13800130081"], "【云通信】短信余额已不足2000点,请尽快充值。")]
        assert states(self.watch(simulator, 5_000)) == {"low_since": "skipped", "warn": "skipped"}
        self.watch(simulator, 1_999)
        assert len(texts(simulator)) == 2

    def test_a_warning_that_could_not_be_sent_is_sent_by_the_next_run(self, simulator: Simulator) -> None:
        simulator.settings(balance=1_000)
        simulator.fault("refuse", message="您的账户已被锁定,请联系您的专属客服", phone="13800130081")
        assert states(run_example("low_balance")) == {"low_since": "success", "warn": "failed"}
        simulator.clear_faults()
        # Marks the wrong way round do not make it warn at every run.
        self.watch(simulator, 1_500, enough_from=1_000)
        assert len(texts(simulator)) == 1


MEMBERS = [f"138001300{number}" for number in range(71, 77)]


class TestTheMarketingCampaign:
    @pytest.fixture(autouse=True)
    def _at_noon(self, simulator: Simulator, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        simulator.settings(one_per_minute=False)
        monkeypatch.setattr(Hours, "contain", lambda self, when: True)
        listen(ledger)

    def run(self, ledger: Ledger, *failed: str, opted_out: str | None = None) -> Any:
        """One of them is a dead number; those that have failed were switched off; one may opt out after the send."""

        def deliver() -> None:
            wait_until(lambda: len(accepted(ledger)) == 1, 120)
            (taskid,) = accepted(ledger)
            if opted_out:
                with ledger.writing() as connection:
                    opt_outs.add(connection, ledger, opted_out, source=opt_outs.Source.PERSON)
            *others, dead = MEMBERS
            receive(
                ledger,
                *receipts(taskid, [phone for phone in others if phone not in failed]),
                *receipts(taskid, failed, "0", "MI:0013"),
                *receipts(taskid, [dead], "0", "MK:0001"),
            )

        with meanwhile(deliver):
            return run_example("marketing")

    def test_those_who_were_not_reached_are_texted_once_more(self, ledger: Ledger, simulator: Simulator) -> None:
        run = self.run(ledger, *MEMBERS[:2], opted_out=MEMBERS[0])
        assert run.state == "success", states(run)
        assert [phones for phones, _ in texts(simulator)] == [MEMBERS, [MEMBERS[1]]]
        (fields,) = rendered_fields(run, "follow_up")
        assert fields["phones"] == f"phones that campaign example_sms_marketing {run.run_id} has not reached (failed)"

    def test_where_the_account_can_not_pay_nobody_is_texted(self, simulator: Simulator) -> None:
        simulator.settings(balance=1_004)
        assert states(run_example("marketing"))["send"] == "failed"
        assert texts(simulator) == []

    def test_a_dry_run_goes_to_its_end_and_texts_nobody(
        self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW__SMS__DRY_RUN", "True")
        run = run_example("marketing")
        assert (run.state, states(run)["follow_up"]) == ("success", "skipped")
        assert texts(simulator) == []

    def test_where_everybody_was_reached_there_is_no_follow_up(self, ledger: Ledger, simulator: Simulator) -> None:
        assert states(self.run(ledger))["follow_up"] == "skipped"
        assert len(texts(simulator)) == 1

    def test_where_those_who_were_not_have_opted_out_there_is_none_either(
        self, ledger: Ledger, simulator: Simulator
    ) -> None:
        assert states(self.run(ledger, MEMBERS[0], opted_out=MEMBERS[0]))["follow_up"] == "skipped"
        assert len(texts(simulator)) == 1

    def test_where_hardly_anybody_was_nothing_more_is_sent(self, ledger: Ledger, simulator: Simulator) -> None:
        found = states(self.run(ledger, *MEMBERS[:3]))
        assert (found["gate"], found["follow_up"]) == ("failed", "upstream_failed")
        assert len(texts(simulator)) == 1


class TestTheTableOfReplies:
    @pytest.fixture
    def rows(
        self, set_connection: SetConnection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> Callable[[], list[Any]]:
        """Reads the table that `example_sms_database` has."""
        path = tmp_path / "replies.db"

        class Hook(DbApiHook):
            conn_name_attr = "conn_id"

            def get_uri(self) -> str:
                return f"sqlite:///{path}"

        set_connection("example_sms_database", conn_type="sqlite")
        for kind in connection_classes():
            monkeypatch.setattr(kind, "get_hook", lambda self: Hook(self.conn_id))
        with closing(sqlite3.connect(path)) as connection, connection:
            text = (EXAMPLES / "example_sms_replies_table.py").read_text()
            connection.execute(text[text.index("CREATE TABLE") : text.index("Unscheduled")])

        def rows() -> list[Any]:
            with closing(sqlite3.connect(path)) as connection:
                return connection.execute("SELECT phone, content FROM sms_replies ORDER BY content").fetchall()

        return rows

    def test_each_reply_is_one_row(self, ledger: Ledger, rows: Callable[[], list[Any]]) -> None:
        listen(ledger)
        assert xcom(run_example("replies_table"), "write_replies") == 0
        put_replies(ledger, ["1", "2"])
        assert xcom(run_example("replies_table"), "write_replies") == 2
        put_replies(ledger, ["3"])
        assert xcom(run_example("replies_table"), "write_replies") == 1
        assert rows() == [("13800130001", each) for each in ("1", "2", "3")]

    def test_so_is_one_whose_task_failed_once_it_was_written(
        self, ledger: Ledger, rows: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listen(ledger)
        put_replies(ledger, ["1", "2"])

        def away(*_: object) -> int:
            raise LedgerUnreachableError("the ledger is away")

        with monkeypatch.context() as broken:
            broken.setattr(Claims, "handle", away)
            assert run_example("replies_table").state == "failed"
        assert len(rows()) == 2
        # The next try of the task has them at once, another run once the lease is over.
        with ledger.writing() as connection:
            over = ledger.now(connection) - timedelta(seconds=1)
            connection.execute(update(reply_claim_table).values(lease_until=over))
        assert xcom(run_example("replies_table"), "write_replies") == 2
        assert len(rows()) == 2

    def test_a_table_that_is_not_there_shows_no_phone(
        self, ledger: Ledger, rows: Callable[[], list[Any]], tmp_path: Path, logged: Callable[[], str]
    ) -> None:
        listen(ledger)
        receive(ledger, reply("T1", "13800130077", "a secret"))
        put_replies(ledger, ["another secret"])
        (tmp_path / "replies.db").unlink()
        assert run_example("replies_table").state == "failed"
        assert "no such table" in logged()
        if "─ locals ─" in logged():
            pytest.skip("this Airflow's tracebacks print every local variable, those of a task's own code too")
        assert "13800130001" not in logged()
        assert "secret" not in logged()
