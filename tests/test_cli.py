"""`airflow-sms`: what a script can rely on. The real program, in its own process, against the simulator."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import pytest
from airflow import __version__ as airflow_version
from cryptography.fernet import Fernet

from airflow_provider_sms import cli
from airflow_provider_sms.cli import Exit
from airflow_provider_sms.cli_commands import COMMANDS, Command, Group
from tests.support import forking
from tests.support.airflow import ROOT, migrate
from tests.support.simulator import Simulator, wait_until

PHONES = "13800130001,13800130002"
TEXT = "【云通信】您好"

pytestmark = pytest.mark.usefixtures("connection")


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return forking.run("airflow_provider_sms", *arguments, stdin=stdin)


class TestTheProgram:
    """A few runs of the whole program: what is on stdout, on stderr, and the exit status."""

    def test_balance_where_nothing_of_airflow_is_loaded_before(self, simulator: Simulator) -> None:
        """Airflow, too, writes to stdout when it is loaded."""
        simulator.settings(balance=241)
        command = [sys.executable, "-m", "airflow_provider_sms", "balance"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        finished = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
        assert (finished.stdout, finished.returncode) == ("241\n", 0), finished.stderr

    def test_send(self, simulator: Simulator) -> None:
        finished = run("send", "--phones", "-", "--content", TEXT, "--output", "json", stdin=PHONES)
        (batch,) = simulator.accepted()
        assert finished.returncode == 0, finished.stderr
        assert json.loads(finished.stdout)["taskIds"] == [batch["taskId"]]
        assert "13800130001" not in finished.stderr

    def test_a_person_s_mistake_is_one_line_and_no_traceback(self) -> None:
        # Airflow itself prints one where its database has no tables.
        migrate()
        finished = run("balance", "--conn-id", "sms_nowhere")
        assert finished.returncode == Exit.USAGE
        assert finished.stdout == ""
        said = finished.stderr.strip().splitlines()[-1]
        assert said.startswith("error: sms_conn_id: there is no connection 'sms_nowhere'")
        assert "Traceback" not in finished.stderr


def main(*arguments: str) -> int:
    return cli.main(arguments)


def test_balance_as_json(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    simulator.settings(balance=241)
    assert main("balance", "--output", "json") == Exit.DONE
    assert json.loads(capsys.readouterr().out) == {"remainPoint": 241}


class TestDryRun:
    ARGUMENTS = (
        "send",
        "--phones",
        PHONES + ",x,13800130001",
        "--content",
        "好" * 70,
        "--batch-size",
        "1",
        "--dry-run",
    )

    def test_it_shows_everything_and_sends_nothing(
        self, simulator: Simulator, connection: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        connection(extra={"signature": "云通信"})
        assert main(*self.ARGUMENTS) == Exit.DONE
        shown = capsys.readouterr().out
        for line in (
            "Dry run: nothing is sent.",
            "text:     【云通信】" + "好" * 70,
            "length:   75 characters, 2 segment(s) a phone",
            "phones:   2 in 2 request(s), first 138****0001",
            "points:   4",
            "send at:  at once",
            "excluded: 2",
            "  item 3: a text of 1 characters, 0 of them digits (malformed)",
            "  item 4: 138****0001 (duplicate)",
        ):
            assert line in shown
        assert simulator.requests()["requests"] == []

    def test_as_json(
        self, simulator: Simulator, connection: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        connection(extra={"signature": "云通信"})
        assert main(*self.ARGUMENTS, "--output", "json") == Exit.DONE
        shown = json.loads(capsys.readouterr().out)
        assert (shown["phones"], shown["batches"], shown["segments"], shown["points"]) == (2, 2, 2, 4)
        assert [each["reason"] for each in shown["excluded"]] == ["malformed", "duplicate"]
        assert simulator.requests()["requests"] == []


SEND = ("send", "--phones", PHONES, "--content", TEXT)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("send", "--phones", "", "--content", TEXT), "error: phones: there is none"),
        (("send", "--phones", "@/no/such.csv", "--content", TEXT), "error: phones: there is no file /no/such.csv"),
        ((*SEND, "--column", "phone"), "error: --column: is for a file"),
        (("send", "--phones", PHONES, "--content", "您好"), "error: content: no signature"),
        ((*SEND, "--send-time", "2020-01-31 14:00:00"), "error: send_time: 2020-01-31 14:00:00 Beijing time is past"),
        ((*SEND, "--batch-size", "0"), "error: batch_size: 0 is not between"),
        ((*SEND, "--conn-id", "sms_broken"), "error: "),
        ((*SEND, "--conn-id", "sms_extra"), "error: extra: unknown field 'appKey'"),
    ],
)
def test_mistakes_end_in_one_line_and_status_two(
    simulator: Simulator,
    connection: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SMS_BROKEN", '{"password": "FAKE-APP-KEY-0001')
    connection("sms_extra", extra={"appKey": "FAKE-APP-KEY-0001"})
    assert main(*arguments) == Exit.USAGE
    shown = capsys.readouterr().err
    assert shown.strip().splitlines()[-1].startswith(said)
    assert "FAKE-APP-KEY-0001" not in shown
    assert simulator.requests()["requests"] == []


@pytest.mark.parametrize("arguments", [(), ("nonsense",), (*SEND, "--nonsense")])
def test_a_command_line_that_is_none(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(*arguments)
    assert ended.value.code == Exit.USAGE


def test_a_refusal_is_status_one(connection: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    connection(password="FAKE-WRONG-KEY")
    assert main("balance") == Exit.REFUSED
    assert main(*SEND) == Exit.REFUSED
    assert "账号或密码错误" in capsys.readouterr().err


def test_in_doubt_is_status_three(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    simulator.fault("cut_after", on="send")
    assert main(*SEND, "--output", "json") == Exit.IN_DOUBT
    shown = capsys.readouterr()
    assert json.loads(shown.out)["inDoubt"] == 2
    assert "The request left, but no answer came" in shown.err
    assert len(simulator.accepted()) == 1


def test_not_reached_is_status_four(connection: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sms.sending.time.sleep", lambda seconds: None)
    connection(host="http://127.0.0.1:9")
    assert main("balance") == Exit.UNREACHABLE
    assert main(*SEND) == Exit.UNREACHABLE


def test_a_balance_that_can_not_be_read_is_not_reached(simulator: Simulator) -> None:
    simulator.fault("status", status=503, on="balance")
    assert main("balance") == Exit.UNREACHABLE


@pytest.mark.parametrize(
    ("ending", "said"),
    [(signal.SIGINT, "Interrupted: 1 accepted"), (signal.SIGTERM, "Told to stop. Phones: 1 accepted")],
)
def test_an_interruption_lets_the_request_end_and_says_how_far_it_came(
    simulator: Simulator, tmp_path: Path, ending: signal.Signals, said: str
) -> None:
    """Also that the same command carries on from there."""
    simulator.fault("slow", on="send", seconds=2.0)
    files = tmp_path / "stdout", tmp_path / "stderr"
    with forking.Program("airflow_provider_sms", (*SEND, "--batch-size", "1"), os.environ, *files) as process:
        wait_until(lambda: simulator.faults() == [])
        process.send_signal(ending)
        status = process.wait(60)
    output, complaint = (file.read_text() for file in files)
    assert status == Exit.REFUSED, complaint
    assert output.startswith("1 accepted, 0 refused, 0 in doubt, 1 not sent")
    assert said in complaint
    assert "repeat the command" in complaint
    assert main(*SEND, "--batch-size", "1") == Exit.DONE
    assert [batch["phones"] for batch in simulator.accepted()] == [["13800130001"], ["13800130002"]]


@pytest.mark.parametrize(
    "arguments", [("--help",), ("send", "--help"), ("balance", "--help"), ("ledger", "purge", "--help")]
)
def test_the_exit_statuses_are_in_the_help(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(*arguments)
    assert "3  in doubt" in capsys.readouterr().out


def airflow(*arguments: str) -> subprocess.CompletedProcess[str]:
    return forking.run("airflow", *arguments)


def test_a_connection_in_airflow_s_database(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `BaseHook.get_connection` does not look outside a task."""
    migrate()
    # Airflow makes up a key when it makes its `airflow.cfg`, and may have been loaded before there was one.
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    definition = {"conn_type": "sms", "host": simulator.base_url, "login": simulator.app_id}
    definition["password"] = simulator.app_key
    added = airflow("connections", "add", "sms_in_database", "--conn-json", json.dumps(definition))
    assert added.returncode == 0, added.stdout + added.stderr
    finished = run("balance", "--conn-id", "sms_in_database")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout == f"{simulator.settings()['balance']}\n"
    assert airflow("connections", "delete", "sms_in_database").returncode == 0


class TestUnderAirflow:
    """`airflow sms …`, where Airflow lets providers add commands."""

    @pytest.fixture(autouse=True)
    def needs_airflow_3_2(self) -> None:
        if tuple(map(int, airflow_version.split(".")[:2])) < (3, 2):
            pytest.skip(f"Airflow {airflow_version} takes no commands from providers")

    def test_the_balance(self, simulator: Simulator) -> None:
        simulator.settings(balance=241)
        finished = airflow("sms", "balance", "--output", "json")
        assert finished.returncode == Exit.DONE, finished.stderr
        assert json.loads(finished.stdout.strip().splitlines()[-1]) == {"remainPoint": 241}

    def test_a_send_and_its_exit_status(self, simulator: Simulator) -> None:
        simulator.fault("cut_after", on="send")
        finished = airflow("sms", *SEND)
        assert finished.returncode == Exit.IN_DOUBT, finished.stderr
        assert len(simulator.accepted()) == 1

    def test_commands_in_a_group(self, ledger_file: Path) -> None:
        finished = airflow("sms", "ledger", "upgrade")
        assert finished.returncode == Exit.DONE, finished.stderr
        assert finished.stdout.strip().splitlines()[-1].startswith("The ledger has version ")

    def test_the_same_commands_with_the_same_options(self) -> None:
        def offered_by_airflow(command: Any) -> Any:
            if hasattr(command, "subcommands"):
                return {each.name: offered_by_airflow(each) for each in command.subcommands}
            return [arg.flags[0] for arg in command.args]

        def offered(command: Command | Group) -> Any:
            if isinstance(command, Group):
                return {each.name: offered(each) for each in command.commands}
            return [option.flags[0] for option in command.options]

        (group,) = cli.airflow_commands()
        assert offered_by_airflow(group) == {each.name: offered(each) for each in COMMANDS}


class TestStandardOutput:
    """What becomes of a result that it does not take as it is."""

    # In a process of its own, in which Python itself writes once more what is left when it ends.
    PROGRAM = """
import sys
from airflow_provider_sms import cli
from airflow_provider_sms.cli_commands import Command
cli.MANY = lambda args: cli.Result(cli.Exit.DONE, stream=("a line\\n" for _ in range(100_000)))
sys.exit(cli._run(Command("many", "many lines", "cli:MANY", ()), None))
"""

    def program(self, stdout: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM], stdout=stdout, stderr=subprocess.PIPE, env=environment
        )

    def test_a_reader_that_has_read_enough_hears_no_complaint(self) -> None:
        with self.program(subprocess.PIPE) as writing:
            assert writing.stdout is not None
            assert writing.stdout.readline() == b"a line\n"
            writing.stdout.close()
            assert writing.stderr is not None
            assert (writing.stderr.read(), writing.wait(60)) == (b"", Exit.DONE)

    def test_a_full_disk_is_one_line_and_no_success(self) -> None:
        with Path("/dev/full").open("wb") as full, self.program(full.fileno()) as writing:
            assert writing.stderr is not None
            said = writing.stderr.read().decode()
            assert said.startswith("error: the result can not be written to standard output: No space left on device.")
            assert (said.count("\n"), writing.wait(60)) == (1, Exit.REFUSED)

    @staticmethod
    def shown_in_ascii(*arguments: str) -> str:
        """What a terminal shows that knows ASCII alone."""
        terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        with redirect_stdout(terminal), suppress(SystemExit):
            assert main(*arguments) == Exit.DONE
        terminal.seek(0)
        return terminal.read()

    def test_what_a_terminal_can_not_show_is_escaped(self, simulator: Simulator) -> None:
        shown = self.shown_in_ascii(*SEND, "--dry-run")
        assert r"text:     \u3010\u4e91\u901a\u4fe1\u3011\u60a8\u597d" in shown
        assert r"Send SMS through the \u4e2d\u6631\u7ef4\u4fe1" in self.shown_in_ascii("--help")

    def test_json_says_the_same_in_any_terminal(self, ledger_file: Path) -> None:
        self.shown_in_ascii("opt-outs", "add", "13800130001", "--note", "来自😀")
        shown = self.shown_in_ascii("opt-outs", "list", "--output", "json")
        assert json.loads(shown)["note"] == "来自😀"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("campaigns", "--limit", "99999999999999999999"), "--limit: 99999999999999999999 is not between 1 and"),
        (("resolve", "1", "--batch", "99999999999999999999", "--undo"), "--batch: 99999999999999999999 is no batch"),
        (
            ("resolve", "1", "--batch", "0", "--undo"),
            "--batch: 0 is no batch's number; `airflow-sms status` lists them.",
        ),
        (("ledger", "purge", "--before", "0001-01-01"), "--before: '0001-01-01' is no day"),
        ((*SEND, "--per-days", "9999999999"), "--per-days: must be longer than nothing and no longer than 366 days."),
        ((*SEND, "--per-days=-9999999999"), "--per-days: must be longer than nothing"),
        (
            (*SEND, "--sending-hours", "8"),
            "--sending-hours: expected two different times of the day, Beijing time, such as 08:00-21:00, got '8'.",
        ),
        (
            ("status", "\udc80"),
            r"CAMPAIGN: the ledger knows no campaign '\\udc80'; `airflow-sms campaigns` lists them.",
        ),
        (("opt-outs", "export", "--file", ""), "--file: it is empty; give a path, or leave the option out"),
        (
            ("opt-outs", "export", "--file", "/no/such/x"),
            "--file: /no/such/x can not be made: No such file or directory; "
            "give a path in a folder that is there and yours.",
        ),
        (
            ("opt-outs", "export", "--file", "/"),
            "--file: / is there already, and is not overwritten; give another path.",
        ),
        ((*SEND, "--send-time", " "), "--send-time: it is empty; write a time, or leave the option out"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else None,
)
def test_values_out_of_all_bounds_are_a_line_that_names_them(
    simulator: Simulator, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    assert main(*arguments) == Exit.USAGE
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"error: {said}")
    assert simulator.accepted() == []


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(("send", "--phones", "-", "--content", TEXT), "--phones"), (("opt-outs", "import", "-"), "FILE")],
)
def test_standard_input_in_another_encoding(
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    name: str,
) -> None:
    monkeypatch.setattr(
        sys, "stdin", io.TextIOWrapper(io.BytesIO("13800130001\n电话\n".encode("gbk")), encoding="utf-8")
    )
    assert main(*arguments) == Exit.USAGE
    assert capsys.readouterr().err.endswith(
        f"error: {name}: standard input is no text in utf-8; write it into a file, and give the file with its "
        "--encoding.\n"
    )
    assert simulator.accepted() == []


@pytest.mark.parametrize(
    "definition", ['{"password": "FAKE-APP-KEY-0001', '{"password": "FAKE-APP-KEY-0001", "port": "none"}']
)
def test_a_connection_that_airflow_can_not_read_is_not_called_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], definition: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SMS_BROKEN", definition)
    assert main("balance", "--conn-id", "sms_broken") == Exit.USAGE
    shown = capsys.readouterr().err
    assert "error: --conn-id: Airflow can not read the definition of 'sms_broken'" in shown
    assert "FAKE-APP-KEY-0001" not in shown


def test_every_command_leads_somewhere() -> None:
    for command in COMMANDS:
        for each in command.commands if isinstance(command, Group) else (command,):
            assert callable(cli._find(each.run)), each.name
