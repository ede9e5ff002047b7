"""Dry runs: the plan is shown, nothing is sent, and the ledger is as it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from sqlalchemy import select

from airflow_provider_sms import cli, dry_run
from airflow_provider_sms.cli import Exit
from airflow_provider_sms.gateway.times import BEIJING
from airflow_provider_sms.guards import Guards
from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.ledger import opt_outs
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.schema import campaign_table, metadata
from airflow_provider_sms.operators.sms import SmsApprovalOperator, SmsGroupSendOperator
from airflow_provider_sms.sensors.sms import SmsDeliverySensor, SmsReplySensor
from tests.support.fixtures import TaskInstance
from tests.support.simulator import Simulator

PHONES = ["13800130001", "13800130002", "13800130003", "13800130004"]
TEXT = "【云通信】您好 13800139999"
ANY_TIME: dict[str, Any] = {"category": "marketing", "sending_hours": None}

Logged = Callable[[], str]

pytestmark = pytest.mark.usefixtures("connection")


def rows(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the ledger."""
    with ledger.reading() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table))] for table in metadata.sorted_tables
        }


@pytest.fixture
def unchanged(ledger: Ledger, simulator: Simulator) -> Iterator[Callable[[], None]]:
    """Call it when all is prepared: from then on nothing is sent, and the ledger stays as it is."""
    before: list[Any] = []

    def begin() -> None:
        before.extend([rows(ledger), asked(simulator)])

    yield begin
    assert before, "never begun"
    assert rows(ledger) == before[0]
    assert asked(simulator) == before[1]


def asked(simulator: Simulator) -> dict[str, int]:
    """How many requests have come to the platform, by kind."""
    counters = simulator.requests()["counters"]
    return {name: counters[name] for name in ("send", "balance")}


def operator(**changes: Any) -> SmsGroupSendOperator:
    fields = {"task_id": "send", "phones": PHONES, "content": TEXT, "batch_size": 3, "dry_run": True}
    return SmsGroupSendOperator(**{**fields, **changes})


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent in this environment."""
    monkeypatch.setenv("AIRFLOW__SMS__DRY_RUN", "True")


def _send_half(simulator: Simulator, context: Any, ledger: Ledger, send_time: datetime) -> None:
    """Send until the points are used up, and leave the rest for a time, UTC without saying so."""
    simulator.settings(balance=3)
    with pytest.raises(AirflowFailException):
        operator(dry_run=False, send_time="2099-01-31 14:00:00").execute(context)
    with ledger.writing() as connection:
        connection.execute(campaign_table.update().values(send_time=send_time))


class TestTheOperator:
    def test_it_says_what_it_would_send_and_leaves_no_task_id(
        self,
        unchanged: Callable[[], None],
        context: Any,
        ti: TaskInstance,
        logged: Logged,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        unchanged()
        monkeypatch.setenv("AIRFLOW__SMS__POINT_PRICE", "0.05")
        summary = operator(phones=[*PHONES, PHONES[0], "rubbish"]).execute(context)
        assert summary == {
            "campaign": "dag/run/send",
            "taskIds": [],
            "accepted": 0,
            "refused": 0,
            "inDoubt": 0,
            "excluded": 2,
            "excludedByReason": {"duplicate": 1, "malformed": 1},
            "notSent": 4,
            "expired": 0,
            "segments": 1,
            "points": 4,
            "remainPoint": None,
            "guards": {},
            "scheduledFor": None,
            "dryRun": True,
            "phones": 4,
            "batches": 2,
            "units": 19,
            "texts": None,
            "first": "138****0001",
            "sendTime": None,
            "goesOut": "at once",
            "pointPrice": "0.05",
            "cost": "0.20",
            "balance": None,
            "earlier": None,
        }
        assert ti.pushed == []
        said = logged()
        for line in (
            "Dry run: nothing is sent.",
            "text:     【云通信】您好 138****9999",
            "phones:   4 in 2 request(s), first 138****0001",
            "points:   4, cost 0.20 at 0.05 a point",
            "excluded: 2 (1 duplicate, 1 malformed)",
            "item 5: 138****0001 (duplicate)",
        ):
            assert line in said
        assert not any(phone in said for phone in PHONES)

    def test_the_same_as_the_plan_that_the_send_then_stores(
        self, context: Any, ledger: Ledger, simulator: Simulator
    ) -> None:
        with ledger.writing() as connection:
            opt_outs.add(connection, ledger, PHONES[1], source="reply")
        guarded: dict[str, Any] = {**ANY_TIME, "max_per_phone": 1, "dry_run": False}
        operator(**guarded, phones=PHONES[2:3], campaign_key="earlier").execute(context)
        fields = ("campaign", "excluded", "excludedByReason", "segments", "points", "guards")
        before = rows(ledger)
        dry = operator(**{**guarded, "dry_run": True}).execute(context)
        assert rows(ledger) == before
        real = operator(**guarded).execute(context)
        assert {name: dry[name] for name in fields} == {name: real[name] for name in fields}
        assert dry["excludedByReason"] == {"opted out": 1, "frequency cap": 1}
        assert (dry["phones"], dry["points"]) == (2, 2)

    def test_of_a_campaign_that_has_begun_it_says_what_would_still_go(
        self, unchanged: Callable[[], None], context: Any, simulator: Simulator, logged: Logged
    ) -> None:
        simulator.settings(balance=3)
        with pytest.raises(AirflowFailException):
            operator(dry_run=False).execute(context)
        unchanged()
        summary = operator().execute(context)
        assert (summary["accepted"], summary["phones"], summary["batches"], summary["points"]) == (0, 1, 1, 1)
        assert (summary["earlier"]["accepted"], summary["earlier"]["refused"]) == (3, 1)
        assert "so far:   3 accepted, 1 refused" in logged()
        with pytest.raises(AirflowFailException, match="has begun with another content"):
            operator(content="【云通信】再见").execute(context)

    def test_personal_texts_are_counted_the_first_is_shown(
        self, unchanged: Callable[[], None], context: Any, logged: Logged
    ) -> None:
        unchanged()
        rows = [(PHONES[0], f"【云通信】{'好' * 70}"), ("x", TEXT), *((phone, TEXT) for phone in PHONES[1:])]
        summary = operator(phones=None, content=None, messages=rows, batch_size=2).execute(context)
        assert (summary["texts"], summary["segments"], summary["points"]) == (2, 2, 5)
        assert (summary["phones"], summary["batches"], summary["first"]) == (4, 3, "138****0001")
        said = logged()
        assert f"text 1:   【云通信】{'好' * 70}" in said
        assert "texts:    2 different ones, up to 2 segment(s) a phone" in said
        assert "item 2: a text of 1 characters, 0 of them digits (malformed)" in said

    def test_so_are_those_that_are_left_of_a_campaign_that_has_begun(
        self, unchanged: Callable[[], None], context: Any, simulator: Simulator, logged: Logged
    ) -> None:
        rows = [(phone, f"【云通信】{number}") for number, phone in enumerate(PHONES)]
        fields: dict[str, Any] = {"phones": None, "content": None, "messages": rows}
        simulator.settings(balance=3)
        with pytest.raises(AirflowFailException):
            operator(**fields, dry_run=False).execute(context)
        unchanged()
        summary = operator(**fields).execute(context)
        assert (summary["phones"], summary["texts"], summary["points"]) == (1, 1, 1)
        assert "text 1:   【云通信】3" in logged()

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"max_points": 3}, "max_points: the plan costs 4 points, and it may cost 3"),
            ({"sending_hours": "HOURS", "outside_hours": "fail"}, "sending_hours: it is "),
            ({"min_balance_after": 9}, "min_balance_after: the account has 0 points"),
        ],
    )
    def test_what_would_stop_the_rest_of_it_stops_it(
        self, context: Any, simulator: Simulator, changes: dict[str, Any], said: str
    ) -> None:
        simulator.settings(balance=3)
        with pytest.raises(AirflowFailException):
            operator(dry_run=False).execute(context)
        changes = {**changes, **_closed(changes)}
        for is_dry in (True, False):
            with pytest.raises(AirflowFailException, match=f"^{said}"):
                operator(**changes, dry_run=is_dry).execute(context)

    def test_of_the_rest_it_says_what_holds_it_back_now(
        self, unchanged: Callable[[], None], context: Any, simulator: Simulator
    ) -> None:
        simulator.settings(balance=3)
        with pytest.raises(AirflowFailException):
            operator(dry_run=False).execute(context)
        unchanged()
        assert operator(max_per_phone=3).execute(context)["guards"] == {"maxPerPhone": 3, "perDays": 7}
        closed = _closed({"sending_hours": "HOURS"})
        assert "after waiting" in operator(**closed).execute(context)["goesOut"]

    def test_the_rest_goes_out_at_the_stored_time_or_is_too_late(
        self, unchanged: Callable[[], None], context: Any, ledger: Ledger, simulator: Simulator
    ) -> None:
        _send_half(simulator, context, ledger, datetime(2099, 1, 31, 6))  # noqa: DTZ001
        unchanged()
        summary = operator(on_changed="resume").execute(context)
        assert (summary["phones"], summary["goesOut"]) == (1, "2099-01-31T14:00:00+08:00")

    def test_a_stored_time_that_is_past_is_too_late_unless_it_goes_out_now(
        self, unchanged: Callable[[], None], context: Any, ledger: Ledger, simulator: Simulator
    ) -> None:
        _send_half(simulator, context, ledger, datetime(2020, 1, 31, 6))  # noqa: DTZ001
        unchanged()
        past = {"send_time": "2020-01-31 14:00:00"}
        assert operator(**past).execute(context)["phones"] == 0
        summary = operator(**past, on_expired="send_now").execute(context)
        assert (summary["phones"], summary["goesOut"]) == (1, "at once")

    def test_what_is_in_doubt_goes_out_again_where_that_is_wanted(
        self, unchanged: Callable[[], None], context: Any, simulator: Simulator
    ) -> None:
        simulator.fault("empty", phone=PHONES[3])
        with pytest.raises(AirflowFailException):
            operator(dry_run=False).execute(context)
        unchanged()
        assert operator().execute(context)["phones"] == 0
        summary = operator(on_in_doubt="resend").execute(context)
        assert (summary["phones"], summary["batches"], summary["points"]) == (1, 1, 1)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"phones": "rubbish"}, "phones: none of 1"),
            ({"content": "您好"}, "content: no signature"),
            ({"send_time": "2020-01-31 14:00:00"}, "send_time: "),
            ({"max_points": 3}, "max_points: the plan costs 4 points"),
            ({"sending_hours": "HOURS", "outside_hours": "fail"}, "sending_hours: "),
        ],
    )
    def test_what_would_stop_the_send_stops_it(
        self, unchanged: Callable[[], None], context: Any, changes: dict[str, Any], said: str
    ) -> None:
        unchanged()
        with pytest.raises(AirflowFailException, match=f"^{said}"):
            operator(**{**changes, **_closed(changes)}).execute(context)

    def test_what_the_hours_would_do(self, unchanged: Callable[[], None], context: Any) -> None:
        unchanged()
        closed = _closed({"sending_hours": "HOURS"})
        opens = f"{closed['sending_hours'][0]}:00+08:00"
        waits = operator(**closed).execute(context)["goesOut"]
        assert f"T{opens}, after waiting: now it is outside the hours" in waits
        scheduled = operator(**closed, outside_hours="schedule").execute(context)["goesOut"]
        assert f"T{opens}, scheduled: " in scheduled

    def test_the_balance_is_asked_if_it_matters(self, ledger: Ledger, context: Any, simulator: Simulator) -> None:
        simulator.settings(balance=104)
        assert operator(min_balance_after=100).execute(context)["balance"] == 104
        with pytest.raises(AirflowFailException, match="min_balance_after: the account has 104 points"):
            operator(min_balance_after=101).execute(context)
        assert simulator.accepted() == []

    def test_but_not_being_able_to_ask_is_no_trouble(self, context: Any, connection: Any, logged: Logged) -> None:
        connection(password="FAKE-OTHER-KEY")
        assert operator(min_balance_after=101).execute(context)["balance"] is None
        assert "min_balance_after is not checked" in logged()

    def test_no_ledger_is_made_where_there_is_none(
        self, context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "none" / "ledger.db"
        monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", f"sqlite:///{path}")
        assert operator().execute(context)["phones"] == 4
        assert not path.parent.exists()

    def test_what_it_plans_into_is_gone_afterwards(
        self, context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        operator().execute(context)
        with pytest.raises(AirflowFailException):
            operator(max_points=1).execute(context)
        assert list(tmp_path.glob("airflow-sms-*")) == []

    def test_its_first_text_is_masked_however_the_plan_came_about(self, context: Any) -> None:
        assert "13800139999" not in repr(operator().execute(context))
        assert "13800139999" not in repr(dry_run.LeftOut(1, "138****0001", "duplicate"))


def _closed(changes: dict[str, Any]) -> dict[str, Any]:
    """Hours that are over, whatever the time of the day is: those of the two hours before, Beijing."""
    if changes.get("sending_hours") != "HOURS":
        return {}
    now = datetime.now(BEIJING)
    begin, end = ((now - timedelta(hours=back)).strftime("%H:00") for back in (2, 1))
    return {"sending_hours": (begin, end)}


@pytest.mark.usefixtures("everywhere")
class TestAWholeEnvironment:
    def test_operator_and_hook(self, unchanged: Callable[[], None], context: Any, ti: TaskInstance) -> None:
        unchanged()
        assert operator(dry_run=False).execute(context)["dryRun"] is True
        summary = SmsHook().send_group(PHONES, TEXT, campaign_key="spring", guards=Guards(max_points=4))
        assert (summary["campaign"], summary["accepted"], summary["guards"]) == ("spring", 0, {"maxPoints": 4})
        assert ti.pushed == []

    def test_nobody_is_asked_so_nobody_has_approved(
        self, unchanged: Callable[[], None], context: Any, logged: Logged
    ) -> None:
        unchanged()
        task = SmsApprovalOperator(task_id="send", phones=PHONES, question="【云通信】删除?")
        with pytest.raises(AirflowSkipException, match="Dry run: nobody was asked"):
            task.execute(context)
        assert "phones:   4 in 1 request(s)" in logged()

    def test_the_command(
        self, unchanged: Callable[[], None], capsys: pytest.CaptureFixture[str], ledger: Ledger
    ) -> None:
        unchanged()
        assert cli.main(["send", "--phones", ",".join(PHONES), "--content", TEXT]) == Exit.DONE
        assert capsys.readouterr().out.startswith("Dry run: nothing is sent.\n")

    @pytest.mark.parametrize("target", [{"batch_id": None}, {"batch_id": "None"}, {"campaign": "dag/run/send"}])
    @pytest.mark.parametrize("deferrable", [True, False])
    def test_sensors_wait_for_nothing(
        self, unchanged: Callable[[], None], context: Any, target: dict[str, Any], deferrable: bool
    ) -> None:
        unchanged()
        common: dict[str, Any] = {"task_id": "wait", "deferrable": deferrable, **target}
        summary = SmsDeliverySensor(**common, min_delivered=0.9).execute(context)
        assert summary == {
            "dryRun": True,
            "accepted": 0,
            "delivered": 0,
            "failed": 0,
            "failedByCause": {},
            "unknown": 0,
            "missing": 0,
            "contradicted": 0,
        }
        with pytest.raises(AirflowSkipException, match="nobody can have answered"):
            SmsReplySensor(**common).execute(context)


@pytest.mark.parametrize("wrong", ["False", "{{ params.dry_run }}", 0, None])
def test_a_text_is_not_taken_for_a_dry_run(wrong: object) -> None:
    with pytest.raises(ValueError, match="^dry_run: expected True or False, got "):
        operator(dry_run=wrong)
    with pytest.raises(ValueError, match="^dry_run: expected True or False, got "):
        SmsApprovalOperator(task_id="ask", phones=PHONES, question="【云通信】删除?", dry_run=wrong)  # type: ignore[arg-type]


def test_an_approval_s_own_argument(unchanged: Callable[[], None], context: Any) -> None:
    unchanged()
    task = SmsApprovalOperator(task_id="send", phones=PHONES, question="【云通信】删除?", dry_run=True)
    with pytest.raises(AirflowSkipException):
        task.execute(context)


def test_the_hook_s_own_argument(unchanged: Callable[[], None]) -> None:
    unchanged()
    assert SmsHook().send_group(PHONES, TEXT, dry_run=True)["phones"] == 4


SEND = ("send", "--phones", ",".join([*PHONES, "x"]), "--content", TEXT)


class TestTheCommand:
    def test_it_shows_the_plan_and_what_it_costs(
        self, unchanged: Callable[[], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        unchanged()
        guards = ("--category", "marketing", "--sending-hours", "none", "--max-per-phone", "2", "--max-points", "9")
        assert cli.main([*SEND, *guards, "--dry-run", "--point-price", "0.05"]) == Exit.DONE
        shown = capsys.readouterr().out
        for line in (
            "text:     【云通信】您好 138****9999拒收请回复R",
            "points:   4, cost 0.20 at 0.05 a point",
            "guards:   category marketing, maxPerPhone 2, perDays 7, maxPoints 9, optOutWording added",
            "excluded: 1 (1 malformed)",
        ):
            assert f"{line}\n" in shown

    def test_of_what_was_sent_already_it_says_so(
        self, unchanged: Callable[[], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.main([*SEND]) == Exit.DONE
        unchanged()
        capsys.readouterr()
        assert cli.main([*SEND, "--dry-run"]) == Exit.DONE
        shown = capsys.readouterr().out
        assert "so far:   4 accepted, 0 refused" in shown
        assert "phones:   0 in 0 request(s), first -" in shown
        assert cli.main([*SEND, "--dry-run", "--again", "--output", "json"]) == Exit.DONE
        again = json.loads(capsys.readouterr().out)
        assert (again["phones"], again["earlier"], again["campaign"][-2:]) == (4, None, " 2")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--point-price", "cheap", "--dry-run"), "--point-price: not a price: write it like 0.05."),
            (("--sending-hours", "daytime"), "--sending-hours: expected two different times"),
            (("--max-per-phone", "0"), "--max-per-phone: 0 is not between 1 and"),
            (("--max-per-phone", "1", "--per-days", "0"), "--per-days: must be longer than nothing"),
            (("--per-days", "9999999999"), "--per-days: "),
            (("--min-balance-after", "-1"), "--min-balance-after: -1 is not between"),
        ],
    )
    def test_mistakes_are_named_as_they_were_written(
        self, simulator: Simulator, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
    ) -> None:
        assert cli.main([*SEND, *arguments]) == Exit.USAGE
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"error: {said}")

    def test_a_guard_that_holds_it_back_is_a_line_and_status_two(
        self, simulator: Simulator, capsys: pytest.CaptureFixture[str]
    ) -> None:
        simulator.settings(balance=10)
        assert cli.main([*SEND, "--max-points", "3"]) == Exit.USAGE
        assert "error: max_points: the plan costs 4 points" in capsys.readouterr().err
        assert cli.main([*SEND, "--min-balance-after", "7"]) == Exit.USAGE
        assert "error: min_balance_after: the account has 10 points" in capsys.readouterr().err
        assert simulator.accepted() == []
        assert cli.main([*SEND, "--min-balance-after", "6"]) == Exit.DONE

    def test_status_shows_the_guards_and_what_is_waited_for(
        self, ledger: Ledger, simulator: Simulator, capsys: pytest.CaptureFixture[str]
    ) -> None:
        operator(dry_run=False, max_points=9, campaign_key="spring").execute({"ti": TaskInstance()})
        assert cli.main(["status", "spring"]) == Exit.DONE
        assert "guards:   maxPoints 9\n" in capsys.readouterr().out
        simulator.settings(balance=0, one_per_minute=False)
        with pytest.raises(AirflowFailException):
            operator(dry_run=False, campaign_key="summer", batch_size=2).execute({"ti": TaskInstance()})
        with ledger.writing() as connection:
            until = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)
            connection.execute(campaign_table.update().values(waits_until=until, scheduled_for=until))
        assert cli.main(["status", "summer"]) == Exit.DONE
        shown = capsys.readouterr().out
        for said in ("waits:    until ", "put off:  to ", "Outside the sending hours: 2 phones wait until"):
            assert said in shown
        assert cli.main(["status", "summer", "--output", "json"]) == Exit.DONE
        assert json.loads(capsys.readouterr().out)["waitsUntil"]
