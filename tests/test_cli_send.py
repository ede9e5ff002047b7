"""`airflow-sms send` is a campaign: what a repeat of the command does. Against the simulator and a real ledger."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from airflow_provider_sms import cli
from airflow_provider_sms.cli import Exit
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.schema import BatchState, batch_table, campaign_table
from tests.support.forking import Program
from tests.support.simulator import Simulator, wait_until

PHONES = "13800130001,13800130002"
TEXT = "【云通信】您好"
SEND = ("send", "--phones", PHONES, "--content", TEXT)
ONE_EACH = (*SEND, "--batch-size", "1")

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture(autouse=True)
def minutes_pass(simulator: Simulator) -> None:
    """The platform takes a phone once a minute, and these tests do not wait."""
    simulator.settings(one_per_minute=False)


def main(*arguments: str) -> int:
    return cli.main(arguments)


def names(ledger: Ledger) -> list[str]:
    """The campaigns' names, oldest first."""
    with ledger.reading() as connection:
        return list(connection.execute(select(campaign_table.c.name).order_by(campaign_table.c.id)).scalars())


def age(ledger: Ledger, by: timedelta) -> None:
    """Let everything have happened earlier."""
    with ledger.writing() as connection:
        for row in connection.execute(select(campaign_table)).all():
            earlier = {name: getattr(row, name) - by for name in ("created_at", "planned_at", "valid_until")}
            connection.execute(update(campaign_table).where(campaign_table.c.id == row.id).values(**earlier))


def texted(simulator: Simulator) -> list[str]:
    """Whom the platform has texted, sorted."""
    return sorted(phone for batch in simulator.accepted() for phone in batch["phones"])


class TestARepeatWithinADay:
    def test_it_is_refused_and_says_when_it_was_sent_and_as_what(
        self, simulator: Simulator, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(*SEND) == Exit.DONE
        capsys.readouterr()
        assert main(*SEND) == Exit.USAGE
        shown = capsys.readouterr()
        (batch,) = simulator.accepted()
        assert shown.out == ""
        assert re.search(
            r"error: Campaign 'airflow-sms send [0-9a-f]{16}' of \d{4}-\d\d-\d\d [0-9:]{8} Beijing", shown.err
        )
        assert f"2 accepted, 0 refused, 0 in doubt, 0 not sent, 0 excluded; taskId: {batch['taskId']}" in shown.err
        assert "Nothing was sent now." in shown.err
        assert "--again" in shown.err

    @pytest.mark.parametrize(
        "phones", ["13800130002,13800130001", "+8613800130001 , 13800130002,13800130001,x"], ids=["order", "writing"]
    )
    def test_the_same_phones_in_another_way_are_the_same(self, simulator: Simulator, phones: str) -> None:
        assert main(*SEND) == Exit.DONE
        assert main("send", "--phones", phones, "--content", TEXT) == Exit.USAGE
        assert len(simulator.accepted()) == 1

    @pytest.mark.parametrize(
        "changed",
        [("--phones", PHONES + ",13800130003"), ("--content", TEXT + "!"), ("--conn-id", "sms_other")],
        ids=["phones", "text", "account"],
    )
    def test_other_phones_another_text_or_account_are_another_campaign(
        self, simulator: Simulator, connection: Callable[..., None], changed: tuple[str, str]
    ) -> None:
        connection("sms_other", login="FAKE-OTHER-ID")
        assert main(*SEND) == Exit.DONE
        status = main(*SEND, *changed)
        # The simulator knows one account only.
        assert status == (Exit.REFUSED if "sms_other" in changed else Exit.DONE)

    def test_again_sends_once_more_and_is_a_campaign_itself(self, simulator: Simulator, ledger: Ledger) -> None:
        statuses = [main(*SEND, *more) for more in ((), ("--again",), (), ("--again",), ())]
        assert statuses == [Exit.DONE, Exit.DONE, Exit.USAGE, Exit.DONE, Exit.USAGE]
        assert len(simulator.accepted()) == 3
        first, second, third = names(ledger)
        assert (second, third) == (f"{first} 2", f"{first} 3")

    def test_what_a_refusal_left_goes_out_once_that_is_lifted(
        self, simulator: Simulator, capsys: pytest.CaptureFixture[str]
    ) -> None:
        simulator.settings(balance=1)
        assert main(*ONE_EACH) == Exit.REFUSED
        shown = capsys.readouterr()
        assert shown.out.startswith("1 accepted, 1 refused")
        simulator.settings(balance=100)
        assert main(*ONE_EACH) == Exit.DONE
        shown = capsys.readouterr()
        assert "Carrying on with what is left of Campaign 'airflow-sms send" in shown.err
        assert shown.out.startswith("2 accepted, 0 refused")
        assert texted(simulator) == PHONES.split(",")

    def test_what_a_killed_one_left_goes_out_and_what_is_in_doubt_does_not(
        self, simulator: Simulator, capsys: pytest.CaptureFixture[str]
    ) -> None:
        simulator.fault("slow", on="send", seconds=30, accept=True)
        with Program("airflow_provider_sms", ONE_EACH, os.environ, Path(os.devnull)) as process:
            wait_until(lambda: simulator.faults() == [])
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        assert main(*ONE_EACH, "--again") == Exit.USAGE
        assert "is not through" in capsys.readouterr().err
        assert main(*ONE_EACH, "--output", "json") == Exit.IN_DOUBT
        shown = capsys.readouterr()
        assert [json.loads(shown.out)[name] for name in ("accepted", "inDoubt", "notSent")] == [1, 1, 0]
        name = json.loads(shown.out)["campaign"]
        line = f"  airflow-sms resolve '{name}' --batch 1 --not-sent"
        assert main(*ONE_EACH) == Exit.IN_DOUBT
        assert line in capsys.readouterr().err
        # Slow answers that earlier tests did not wait for still come to the simulator's counters.
        assert max(Counter(texted(simulator)).values()) == 1

    def test_what_is_in_doubt_is_named_when_it_is_sent_once_more(
        self, simulator: Simulator, capsys: pytest.CaptureFixture[str]
    ) -> None:
        simulator.fault("cut_after", on="send")
        assert main(*SEND) == Exit.IN_DOUBT
        capsys.readouterr()
        assert main(*SEND, "--again") == Exit.DONE
        shown = capsys.readouterr().err
        assert "is in doubt:\n  airflow-sms status 'airflow-sms send " in shown
        assert " --batch 1 --sent TASKID\n" in shown

    def test_a_send_time_that_has_changed_is_a_mistake_once_it_has_begun(
        self, simulator: Simulator, capsys: pytest.CaptureFixture[str]
    ) -> None:
        simulator.settings(balance=1)
        assert main(*ONE_EACH) == Exit.REFUSED
        for rehearsed in ((), ("--dry-run",)):
            assert main(*ONE_EACH, "--send-time", "2099-01-31 14:00:00", *rehearsed) == Exit.USAGE
            said = capsys.readouterr().err
            assert "error: --send-time, --category, --opt-out-wording: campaign 'airflow-sms send" in said

    def test_too_late_for_some_of_it(
        self, simulator: Simulator, ledger: Ledger, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(*ONE_EACH) == Exit.DONE
        with ledger.writing() as connection:
            late = {"state": BatchState.EXPIRED, "taskid": None, "accepted": 0}
            connection.execute(update(batch_table).where(batch_table.c.number == 2).values(**late))
        assert main(*ONE_EACH) == Exit.USAGE
        assert "What was too late goes out with --on-expired send_now." in capsys.readouterr().err
        assert main(*ONE_EACH, "--on-expired", "send_now") == Exit.DONE
        assert texted(simulator) == ["13800130001", "13800130002", "13800130002"]


class TestTheDayAfter:
    def test_the_same_command_is_a_new_campaign(self, simulator: Simulator, ledger: Ledger) -> None:
        assert main(*SEND) == Exit.DONE
        age(ledger, timedelta(hours=23, minutes=59))
        assert main(*SEND) == Exit.USAGE
        age(ledger, timedelta(minutes=2))
        assert main(*SEND) == Exit.DONE
        assert main(*SEND) == Exit.USAGE
        assert len(simulator.accepted()) == 2
        first, second = names(ledger)
        assert second == f"{first} 2"

    def test_the_day_begins_with_the_time_that_it_is_sent_at(self, simulator: Simulator, ledger: Ledger) -> None:
        timed = (*SEND, "--send-time", "2099-01-31 14:00:00")
        assert main(*timed) == Exit.DONE
        with ledger.writing() as connection:
            (row,) = connection.execute(select(campaign_table)).all()
            long_ago = row.created_at - timedelta(days=30)
            connection.execute(update(campaign_table).values(created_at=long_ago, planned_at=long_ago))
        assert main(*timed) == Exit.USAGE
        assert len(simulator.accepted()) == 1

    def test_one_that_is_still_being_sent_is_carried_on(
        self, simulator: Simulator, ledger: Ledger, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(*ONE_EACH) == Exit.DONE
        age(ledger, timedelta(days=2))
        with ledger.writing() as connection:
            lease = ledger.now(connection) + timedelta(hours=1)
            values = {"state": BatchState.SENDING, "owner": "elsewhere boot ns 1 1", "lease_until": lease}
            connection.execute(update(batch_table).values(**values))
        assert main(*ONE_EACH, "--again") == Exit.USAGE
        assert "is not through" in capsys.readouterr().err
        assert len(simulator.accepted()) == 2

    def test_what_is_in_doubt_of_the_old_one_is_named(
        self, simulator: Simulator, ledger: Ledger, capsys: pytest.CaptureFixture[str]
    ) -> None:
        simulator.fault("cut_after", on="send")
        assert main(*SEND) == Exit.IN_DOUBT
        age(ledger, timedelta(days=2))
        capsys.readouterr()
        assert main(*SEND) == Exit.DONE
        assert "--batch 1 --not-sent" in capsys.readouterr().err


class TestAnotherInstallation:
    def test_it_knows_nothing_of_ours(
        self, simulator: Simulator, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert main(*SEND) == Exit.DONE
        monkeypatch.setenv("AIRFLOW__SMS__NAMESPACE", "staging")
        assert main(*SEND) == Exit.DONE
        assert len(set(names(ledger))) == 1


class TestPhonesFromAFile:
    def test_one_a_line(self, simulator: Simulator, tmp_path: Path) -> None:
        (tmp_path / "phones.txt").write_text("13800130001\n13800130002\n")
        assert main("send", "--phones", f"@{tmp_path / 'phones.txt'}", "--content", TEXT) == Exit.DONE
        assert texted(simulator) == PHONES.split(",")
        assert main(*SEND) == Exit.USAGE

    def test_a_column_of_a_csv_in_its_own_encoding(self, simulator: Simulator, tmp_path: Path) -> None:
        (tmp_path / "phones.csv").write_bytes("姓名,手机\n张三,13800130001\n".encode("gb18030"))
        file = f"@{tmp_path / 'phones.csv'}"
        arguments = ("send", "--phones", file, "--content", TEXT, "--column", "手机")
        assert main(*arguments) == Exit.USAGE
        assert main(*arguments, "--encoding", "gb18030", "--dry-run") == Exit.DONE
        assert texted(simulator) == []
        assert main(*arguments, "--encoding", "gb18030") == Exit.DONE
        assert texted(simulator) == ["13800130001"]

    def test_a_file_that_changes_while_it_is_read_is_not_sent_to(
        self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("airflow_provider_sms.cli_send._fingerprint", lambda source, order: "0" * 64)
        assert main(*SEND) == Exit.USAGE
        assert "error: --phones: they changed while they were read" in capsys.readouterr().err
        assert simulator.accepted() == []


class TestTheLedger:
    def test_without_it_nothing_is_sent(
        self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", "postgresql+psycopg2://sms:FAKE-SECRET@127.0.0.1:9/sms")
        assert main(*SEND) == Exit.USAGE
        shown = capsys.readouterr().err.strip().splitlines()[-1]
        assert shown.startswith("error: The ledger (postgresql on 127.0.0.1) says: ")
        assert "FAKE-SECRET" not in shown
        assert simulator.requests()["requests"] == []

    def test_nor_is_it_said_what_would_be_sent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It says who has opted out, and what was sent before."""
        monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", "nonsense")
        assert main(*SEND, "--dry-run") == Exit.USAGE
        assert main(*SEND) == Exit.USAGE

    def test_an_option_that_is_not_usable_ends_in_one_line(
        self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("AIRFLOW__SMS__NAMESPACE", "n" * 101)
        assert main(*SEND) == Exit.USAGE
        assert capsys.readouterr().err.strip().splitlines()[-1].startswith("error: [sms] namespace: ")
        assert simulator.requests()["requests"] == []

    def test_if_it_goes_away_in_between_texts_may_have_been_sent(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from airflow_provider_sms.ledger import reports
        from airflow_provider_sms.ledger.errors import LedgerUnreachableError

        def away(*arguments: object) -> None:
            raise LedgerUnreachableError("The ledger is away.")

        monkeypatch.setattr(reports, "report", away)
        monkeypatch.setattr(reports, "report_of_what_stands", away)
        assert main(*SEND) == Exit.IN_DOUBT
        assert capsys.readouterr().err.strip().splitlines()[-1] == (
            "error: The ledger is away. Some texts may have been sent."
        )


def test_added_wording_makes_no_other_campaign(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """What a version that added none has half sent is not sent to everybody once more."""
    marketing = (*ONE_EACH, "--category", "marketing", "--sending-hours", "none")
    simulator.fault("refuse", message="余额不足", phone="13800130002")
    assert main(*marketing, "--opt-out-wording", "none") != Exit.DONE
    assert main(*marketing) == Exit.USAGE
    assert "--opt-out-wording" in capsys.readouterr().err
    assert texted(simulator) == ["13800130001"]
    assert main(*marketing, "--opt-out-wording", "none") == Exit.DONE
    assert texted(simulator) == PHONES.split(",")
    assert main(*marketing) == Exit.USAGE


def test_no_phone_and_no_text_is_said(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    simulator.settings(balance=1)
    for more in ((), ("--again",), ("--output", "json")):
        main(*ONE_EACH, *more)
    shown = "".join(capsys.readouterr())
    assert "1380013" not in shown
    assert "您好" not in shown


class TestPersonalTexts:
    @pytest.fixture
    def bills(self, tmp_path: Path) -> tuple[str, ...]:
        file = tmp_path / "bills.csv"
        file.write_text("phone,name,amount\n13800130001,王芳,120\n13800130002,李伟,96\n13800130003,王芳,120\nx,,\n")
        return ("send", "--messages", str(file), "--template", "【云通信】{name}:{amount}元")

    def test_each_phone_gets_its_own_once_a_day(
        self, simulator: Simulator, bills: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(*bills) == Exit.DONE
        assert [(batch["phones"], batch["content"]) for batch in simulator.accepted()] == [
            (["13800130001", "13800130003"], "【云通信】王芳:120元"),
            (["13800130002"], "【云通信】李伟:96元"),
        ]
        assert capsys.readouterr().out.startswith("3 accepted, 0 refused, 0 in doubt, 0 not sent, 1 excluded; taskId: ")
        assert main(*bills) == Exit.USAGE
        assert "Nothing was sent now." in capsys.readouterr().err
        file = Path(bills[2])
        file.write_text(file.read_text().replace("96", "97"))
        assert main(*bills) == Exit.DONE  # another text is another campaign

    def test_a_dry_run_shows_what_would_be_sent(
        self, simulator: Simulator, bills: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(*bills, "--dry-run", "--batch-size", "1") == Exit.DONE
        first, campaign, *others = capsys.readouterr().out.splitlines()
        assert (first, campaign[:27]) == ("Dry run: nothing is sent.", "campaign: airflow-sms send ")
        assert others == [
            "text 1:   【云通信】王芳:120元",
            "texts:    2 different ones, up to 1 segment(s) a phone",
            "phones:   3 in 3 request(s), first 138****0001",
            "points:   3",
            "send at:  at once",
            "excluded: 1 (1 malformed)",
            "  item 4: a text of 1 characters, 0 of them digits (malformed)",
        ]
        assert simulator.requests()["requests"] == []

    def test_columns_are_named_and_status_says_up_to_how_many_segments(
        self, simulator: Simulator, tmp_path: Path, ledger: Ledger, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "texts.csv"
        file.write_bytes(
            f"手机,content\n13800130001,【云通信】甲\n13800130002,【云通信】{'长' * 70}\n".encode("gb18030")
        )
        arguments = ("send", "--messages", str(file), "--column", "手机", "--encoding", "gb18030")
        assert main(*arguments) == Exit.DONE
        (name,) = names(ledger)
        capsys.readouterr()
        main("status", name)
        assert "points:   3 (up to 2 segment(s) a text); left on the account:" in capsys.readouterr().out
        assert main("send", "--messages", str(file)) == Exit.USAGE
        assert "texts.csv: line 1: byte 0x" in capsys.readouterr().err.replace(", line", ": line")

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((), "give one of --phones and --messages"),
            (("--phones", PHONES, "--messages", "x.csv"), "give one of --phones and --messages"),
            (("--phones", PHONES), "--content: --phones need a text."),
            (("--phones", PHONES, "--content", "x", "--template", "x"), "--template: goes with --messages"),
            (("--messages", "x.csv", "--content", "x"), "--content: goes with --phones"),
            (("--messages", "x.csv"), "messages: there is no file x.csv"),
            (("--messages", "x.csv", "--template", "【云通信】{a b}"), "content: the brace at character 6"),
        ],
    )
    def test_mistakes(self, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main("send", *arguments) == Exit.USAGE
        assert said in capsys.readouterr().err
