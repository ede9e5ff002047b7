"""`airflow-sms opt-outs …`: people look after the list of those who want no marketing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_sms import cli
from airflow_provider_sms.cli import Exit
from airflow_provider_sms.ledger import opt_outs
from airflow_provider_sms.ledger.database import Ledger
from tests.support.campaigns import PHONES
from tests.support.simulator import Simulator

Said = Callable[..., str]


@pytest.fixture
def said(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> Said:
    """Run a command; what it writes to standard output, or as an error to standard error."""

    def said(*arguments: str, status: Exit = Exit.DONE) -> str:
        capsys.readouterr()
        assert cli.main(["opt-outs", *arguments]) == status
        shown = capsys.readouterr()
        return shown.out if status is Exit.DONE else shown.err

    return said


def on_the_list(ledger: Ledger) -> list[str]:
    return [each.phone for chunk in opt_outs.listed(ledger) for each in chunk]


def test_phones_are_added_and_removed(said: Said, ledger: Ledger) -> None:
    assert said("add", PHONES[0], "+86 138-0013-0002", "--note", "by telephone") == (
        "added: 2, there already: 0, duplicate: 0, malformed: 0.\n"
    )
    assert said("add", PHONES[0], PHONES[2]) == "added: 1, there already: 1, duplicate: 0, malformed: 0.\n"
    assert on_the_list(ledger) == PHONES[:3]
    assert said("remove", PHONES[0], PHONES[5]) == "removed: 1, not there: 1, duplicate: 0, malformed: 0.\n"
    assert on_the_list(ledger) == PHONES[1:3]


def test_what_is_no_phone_is_said_masked(said: Said, ledger: Ledger) -> None:
    shown = said("add", PHONES[0], PHONES[0], "1380013")
    assert shown.startswith("added: 1, there already: 0, duplicate: 1, malformed: 1. Left out: ")
    assert "138****0001, duplicate" in shown
    assert "1380013," not in shown
    assert "phones: none of 1 is a mainland mobile" in said("add", "1380013", status=Exit.USAGE)
    assert "phones: none of 1 is a mainland mobile" in said("remove", "1380013", status=Exit.USAGE)


def test_a_note_that_is_too_long(said: Said, ledger: Ledger) -> None:
    assert "--note: 201 characters" in said("add", PHONES[0], "--note", "n" * 201, status=Exit.USAGE)
    assert on_the_list(ledger) == []


def test_the_list_shows_no_whole_phone(said: Said) -> None:
    said("add", *PHONES[:2], "--note", f"called from {PHONES[7]}")
    shown = said("list")
    assert [line.split()[:2] for line in shown.splitlines()] == [["138****0001", "person"], ["138****0002", "person"]]
    assert shown.splitlines()[0].endswith("called from 138****0008")
    rows = [json.loads(line) for line in said("list", "--output", "json").splitlines()]
    assert [(row["phone"], row["source"]) for row in rows] == [("138****0001", "person"), ("138****0002", "person")]
    assert "138001300" not in shown + json.dumps(rows)


def test_an_empty_list(said: Said, capsys: pytest.CaptureFixture[str]) -> None:
    assert said("list") == ""
    assert said("export") == "phone,source,since,account,replyId,note\n"


def test_a_file_with_one_phone_a_line(said: Said, ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text(f"{PHONES[0]}\n+86{PHONES[1]}\n\n{PHONES[0]}\nrubbish\n", "utf-8")
    said("add", PHONES[0])
    shown = said("import", str(file), "--note", "from the shop")
    assert shown.startswith("added: 1, there already: 1, duplicate: 1, malformed: 1. Left out: ")
    assert on_the_list(ledger) == PHONES[:2]
    assert json.loads(said("import", str(file), "--output", "json")) == {
        "added": 0,
        "thereAlready": 2,
        "duplicate": 1,
        "malformed": 1,
    }


def test_a_column_of_a_csv(said: Said, ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text(f"名字,手机\n张三,{PHONES[3]}\n", "gb18030")
    said("import", str(file), "--column", "手机", "--encoding", "gb18030")
    assert on_the_list(ledger) == [PHONES[3]]


def test_standard_input(said: Said, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{PHONES[0]}\n\n{PHONES[1]}\n"))
    said("import", "-")
    assert on_the_list(ledger) == PHONES[:2]
    assert "--column: is for a file" in said("import", "-", "--column", "phone", status=Exit.USAGE)


def test_a_file_that_is_not_there(said: Said) -> None:
    assert "error: phones: " in said("import", "/nowhere/list.txt", status=Exit.USAGE)


def test_a_long_file_is_added_in_chunks(said: Said, ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    phones = [f"13800{130000 + number:06d}" for number in range(25_000)]
    file.write_text("\n".join(phones), "utf-8")
    assert said("import", str(file)).startswith("added: 25000, there already: 0")
    assert on_the_list(ledger) == phones


def test_the_export_can_be_imported(said: Said, ledger: Ledger, tmp_path: Path) -> None:
    said("add", *PHONES[:3], "--note", "=1+1")
    file = tmp_path / "export.csv"
    assert said("export", "--file", str(file)) == f"{file}: written.\n"
    assert file.stat().st_mode & 0o777 == 0o600
    rows = list(csv.DictReader(io.StringIO(file.read_text("utf-8"))))
    assert [row["phone"] for row in rows] == PHONES[:3]
    assert rows[0]["note"] == "'=1+1"
    assert rows[0]["since"].endswith("+08:00")
    said("remove", *PHONES[:3])
    said("import", str(file), "--column", "phone")
    assert on_the_list(ledger) == PHONES[:3]
    assert "is there already" in said("export", "--file", str(file), status=Exit.USAGE)


@pytest.mark.usefixtures("connection")
class TestSending:
    def send(self, *arguments: str) -> Exit:
        content = ("--content", "【云通信】您好,回T退订", "--category", "marketing", "--sending-hours", "none")
        return Exit(cli.main(["send", "--phones", ",".join(PHONES[:3]), *content, *arguments]))

    def test_marketing_leaves_them_out(self, said: Said, simulator: Simulator) -> None:
        said("add", PHONES[1])
        assert self.send() is Exit.DONE
        assert simulator.accepted()[0]["phones"] == [PHONES[0], PHONES[2]]

    def test_so_does_its_dry_run(self, said: Said, simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
        said("add", PHONES[0])
        assert self.send("--dry-run") is Exit.DONE
        shown = capsys.readouterr().out
        assert "phones:   2 in 1 request(s), first 138****0002" in shown
        assert "item 1: 138****0001 (opted out)" in shown
        said("add", *PHONES[:3])
        assert self.send("--dry-run", "--output", "json") is Exit.DONE
        summary = json.loads(capsys.readouterr().out)
        assert (summary["phones"], summary["first"], len(summary["excluded"])) == (0, None, 3)
        assert simulator.accepted() == []

    def test_another_category_is_a_mistake(
        self, said: Said, simulator: Simulator, capsys: pytest.CaptureFixture[str]
    ) -> None:
        simulator.settings(balance=1)
        self.send("--batch-size", "1")
        capsys.readouterr()
        content = ("--content", "【云通信】您好,回T退订", "--batch-size", "1")
        assert cli.main(["send", "--phones", ",".join(PHONES[:3]), *content]) == Exit.USAGE
        assert "--send-time, --category, --opt-out-wording: " in capsys.readouterr().err
