"""`airflow-sms push-url` and `pushes`: the address to paste, and what has come to it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_sms import cli, settings
from airflow_provider_sms.cli import Exit
from airflow_provider_sms.gateway.pushes import Heard, Receipt, Reply, Unreadable
from airflow_provider_sms.ledger import inbox
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.inbox import Inbox
from airflow_provider_sms.receiver.app import route_of
from tests.support.fixtures import SetConnection

FIRST, SECOND = "FAKE-PUSH-TOKEN-0123456789abcdef", "FAKE-OTHER-TOKEN-0123456789abcdef"
BASE = ("--base-url", "https://sms.example.com")
Said = Callable[..., tuple[str, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Run a command; what it writes to standard output and to standard error."""

    def said(*arguments: str, status: Exit = Exit.DONE) -> tuple[str, str]:
        capsys.readouterr()
        assert cli.main(arguments) == status
        shown = capsys.readouterr()
        return shown.out, shown.err

    return said


@pytest.fixture
def set_tokens(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda tokens: monkeypatch.setenv("AIRFLOW__SMS__PUSH_TOKENS", tokens)


class TestPushUrl:
    def test_makes_a_token_where_there_is_none_and_says_how_to_set_it(
        self, said: Said, set_tokens: Callable[[str], None]
    ) -> None:
        out, err = said("push-url", *BASE)
        match = re.fullmatch(r"https://sms\.example\.com/sms/push\?token=([\w-]{43})\n", out)
        assert match is not None
        set_line = re.search(r"export AIRFLOW__SMS__PUSH_TOKENS='(.*)'", err)
        assert set_line is not None
        assert set_line[1] == match[1]
        # What it makes is good, and no two are the same.
        set_tokens(match[1])
        assert settings.push_tokens() == (match[1],)
        set_tokens("")
        assert said("push-url", *BASE)[0] != out

    def test_prints_that_of_the_first_token_that_is_set(self, said: Said, set_tokens: Callable[[str], None]) -> None:
        set_tokens(f"{FIRST},{SECOND}")
        out, err = said("push-url", *BASE)
        assert out == f"https://sms.example.com/sms/push?token={FIRST}\n"
        assert "export" not in err

    def test_a_new_token_stands_beside_the_old_one(self, said: Said, set_tokens: Callable[[str], None]) -> None:
        set_tokens(FIRST)
        out, err = said("push-url", "--new-token", *BASE)
        token = out.strip().partition("token=")[2]
        assert token != FIRST
        assert f"export AIRFLOW__SMS__PUSH_TOKENS='{token},{FIRST}'" in err

    def test_another_connection_has_its_app_id_in_the_address(
        self, said: Said, set_tokens: Callable[[str], None], set_connection: SetConnection
    ) -> None:
        set_tokens(FIRST)
        set_connection("sms_second", login="2RYN7CQHL1M", password="FAKE-KEY-0123456789", host="https://x.example")
        out, _ = said("push-url", "--conn-id", "sms_second", *BASE)
        assert out == f"https://sms.example.com/sms/push/2RYN7CQHL1M?token={FIRST}\n"
        assert route_of("/sms/push/2RYN7CQHL1M", "", "/sms").account == "2RYN7CQHL1M"

    def test_the_default_connection_is_not_looked_up(self, said: Said, set_tokens: Callable[[str], None]) -> None:
        set_tokens(FIRST)
        assert said("push-url", *BASE)[0] == said("push-url", "--conn-id", "sms_default", *BASE)[0]

    def test_a_connection_that_is_not_there_is_named(self, said: Said, set_tokens: Callable[[str], None]) -> None:
        set_tokens(FIRST)
        assert "no_such" in said("push-url", "--conn-id", "no_such", *BASE, status=Exit.USAGE)[1]

    def test_the_token_stands_in_the_path_where_that_is_set(
        self, said: Said, set_tokens: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        set_tokens(FIRST)
        monkeypatch.setenv("AIRFLOW__SMS__PATH_TOKENS", "True")
        assert said("push-url", *BASE)[0] == f"https://sms.example.com/sms/t/{FIRST}/push\n"

    @pytest.mark.parametrize(
        ("given", "base"),
        [
            ("https://a.example/", "https://a.example"),
            ("https://a.example/airflow", "https://a.example/airflow"),
            ("https://a.example:8443/sms", "https://a.example:8443"),
        ],
    )
    def test_the_address_begins_as_asked(
        self, said: Said, set_tokens: Callable[[str], None], given: str, base: str
    ) -> None:
        set_tokens(FIRST)
        assert said("push-url", "--base-url", given)[0] == f"{base}/sms/push?token={FIRST}\n"

    @pytest.mark.parametrize("given", ["a.example", "ftp://a", "https://", "https://u:p@a", "https://a?b", "http://[x"])
    def test_what_is_no_address_is_named(self, said: Said, set_tokens: Callable[[str], None], given: str) -> None:
        set_tokens(FIRST)
        assert "--base-url: not an address" in said("push-url", "--base-url", given, status=Exit.USAGE)[1]

    @pytest.mark.parametrize(
        ("given", "warning"),
        [
            ("http://a.example", "over HTTPS only"),
            ("https://localhost:8080", "can not reach localhost from the Internet"),
            ("https://192.168.1.5", "can not reach 192.168.1.5 from the Internet"),
        ],
    )
    def test_what_can_not_work_is_warned_of(
        self, said: Said, set_tokens: Callable[[str], None], given: str, warning: str
    ) -> None:
        set_tokens(FIRST)
        out, err = said("push-url", "--base-url", given)
        assert warning in err
        assert out.count("\n") == 1

    def test_without_a_host_it_says_what_to_put_there(self, said: Said, set_tokens: Callable[[str], None]) -> None:
        set_tokens(FIRST)
        out, err = said("push-url")
        assert out.startswith("https://airflow.example.com/sms/push?")
        assert "Put your own host in the place of airflow.example.com" in err


class TestPushes:
    @pytest.fixture
    def _heard(self, ledger: Ledger) -> None:
        box = Inbox(ledger, lambda content: False)
        box.note_receiver()
        box.store(
            [
                Heard(None, Receipt("13800130001", "1", "1", "", "")),
                Heard(None, Receipt("13800130002", "1", "1", "", "")),
                Heard(None, Reply("13800130001", "1", "收到", "")),
                Unreadable("APP", "push", "no taskid", b"mobile=13800130003&status=1"),
            ]
        )

    def test_nothing_has_come_yet(self, ledger: Ledger, said: Said) -> None:
        assert said("pushes")[0].splitlines() == [
            "a receiver was last seen: never",
            "first push: none yet",
            "receipts: 0",
            "replies: 0",
            "could not be read: 0",
        ]

    @pytest.mark.usefixtures("_heard")
    def test_counts_and_what_could_not_be_read_masked(self, said: Said) -> None:
        out, _ = said("pushes")
        assert "receipts: 2 (2 not looked at yet)" in out
        assert "replies: 1 (1 not looked at yet)" in out
        assert "could not be read: 1" in out
        assert re.search(r"\n  \d{4}-\S+ \S+ /push: no taskid: mobile=138\*\*\*\*0003&status=1\n", out)
        assert "13800130003" not in out
        assert "receiver was last seen: 20" in out

    @pytest.mark.usefixtures("_heard")
    def test_as_json(self, said: Said) -> None:
        data = json.loads(said("pushes", "--output", "json")[0])
        assert data["receipts"] == {"new": 2}
        assert data["replies"] == {"new": 1}
        assert data["unreadable"] == 1
        (newest,) = data["newestUnreadable"]
        assert (newest["account"], newest["body"]) == ("APP", "mobile=138****0003&status=1")
        assert data["firstPushAt"].endswith("+08:00")

    @pytest.mark.usefixtures("_heard")
    def test_of_very_many_the_newest_are_counted(self, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inbox, "COUNTED", 2)
        assert re.search(
            r"\nreceipts: at least 2, the newest heard at 20\S+\+08:00 \(of the newest 2: 2 not looked at yet\)\n"
            r"replies: 1 \(1 not looked at yet\)\n",
            said("pushes")[0],
        )
        data = json.loads(said("pushes", "--output", "json")[0])
        assert (data["receiptsAreAll"], data["repliesAreAll"]) == (False, True)
        assert data["newestReceiptAt"].endswith("+08:00")

    @pytest.mark.usefixtures("_heard")
    def test_no_more_than_asked(self, said: Said) -> None:
        assert json.loads(said("pushes", "--output", "json", "--limit", "0")[0])["newestUnreadable"] == []
        assert "--limit: -1 is not" in said("pushes", "--limit", "-1", status=Exit.USAGE)[1]

    def test_no_ledger_is_said(self, said: Said, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "folder.db").mkdir()
        monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", f"sqlite:///{tmp_path / 'folder.db'}")
        assert said("pushes", status=Exit.USAGE)[1].startswith("error: The ledger")
