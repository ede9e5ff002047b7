"""What operators do when a message was sent and the answer went wrong: how many messages the server took.

    make bench-others                          # makes .bench the first time; about a minute
    make bench-others ARGS="--update-docs"     # and puts the tables into the docs

The operators of smtp, telegram, http and SNS (amazon), and ours, each send one message to a server on this machine
that counts the messages it takes. The same things go wrong for each. A task is tried once, in a process of its own,
and once more if it failed in a way that Airflow retries. Everything is as the operators come, but for three things:
they wait one second for an answer, by their own setting; the waits between their repeats are left out; and Telegram's
API is on this machine.

Nothing is sent anywhere else. Exit status: 0 ours had each message taken once at most, 1 it had not, 2 nothing could
be measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.fake_servers import Http, Server, Smtp, Trouble

ROOT = Path(__file__).resolve().parent.parent
PAGES = {language: ROOT / "docs" / language / "explanation" / "reliability.md" for language in ("en", "zh")}
BEGIN = '<!-- other providers: written by make bench-others ARGS="--update-docs" -->'
END = "<!-- end of other providers -->"

TIMEOUT = 1
"""Seconds that everybody waits for an answer."""
SUCCEEDS, FAILS, FAILS_FOR_GOOD, KILLED = "succeeds", "fails", "fails for good", "killed"

OURS = "SmsGroupSendOperator"
OPERATORS: Mapping[str, str] = {
    "EmailOperator": "apache-airflow-providers-smtp",
    "TelegramOperator": "apache-airflow-providers-telegram",
    "HttpOperator": "apache-airflow-providers-http",
    "SnsPublishOperator": "apache-airflow-providers-amazon",
    OURS: "airflow-provider-sms",
}
CHINESE = {
    r"Measured on (\S+) by (`.*?`), with Airflow (\S+) and Python (\S+): (.*)\.\n": (
        r"\1 由 \2 测得,Airflow \3,Python \4:\5。\n"
    ),
    "It goes wrong once": "只出错一次",
    "It goes wrong every time": "每次都出错",
    "the connection is cut after the message was taken": "消息被受理之后连接中断",
    "no answer in time; the message was taken": "未按时应答;消息已被受理",
    "HTTP 500, SMTP 451; the message was taken": "HTTP 500、SMTP 451;消息已被受理",
    "an empty answer; the message was taken": "空应答;消息已被受理",
    "the process is killed after the message was taken": "消息被受理之后进程被强杀",
    "the connection is cut before the message is taken": "消息被受理之前连接中断",
}
TROUBLES = tuple(each for each in Trouble if each is not Trouble.NONE)

_PRELOADED = "benchmarks.other_operators"
_LONGEST_TRY = 60.0


class CannotMeasure(Exception):
    """The numbers would be missing or wrong; the text says why."""


@dataclass(frozen=True)
class Cell:
    """What one operator did about one trouble.

    :param taken: messages that the server had taken after the first try, and after the retry if there was one.
    :param ending: how the last try ended.
    """

    taken: tuple[int, ...]
    ending: str

    def __str__(self) -> str:
        return " → ".join(map(str, self.taken)) + (" †" if self.ending == FAILS_FOR_GOOD else "")


class Bench:
    """The servers, and tasks that are tried against them."""

    def __init__(self, smtp: Server, http: Server, verbose: bool) -> None:
        self._smtp = smtp
        self._http = http
        self._verbose = verbose
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([_PRELOADED])
        self._telegram = f"http://127.0.0.1:{http.port}/bot"
        self._runs = 0

    def measure(self, operator: str, trouble: Trouble, hits: int | None) -> Cell:
        """Try a task, and once more if Airflow would."""
        server = self._smtp if operator == "EmailOperator" else self._http
        server.begin(trouble, hits)
        self._runs += 1
        taken = []
        for number in (1, 2):
            ending = self._try(server, operator, number)
            taken.append(server.taken)
            if ending not in (FAILS, KILLED):
                break
        return Cell(tuple(taken), ending)

    def _try(self, server: Server, operator: str, number: int) -> str:
        receiving, sending = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_try, args=(sending, operator, f"run_{self._runs}", number, self._telegram)
        )
        server.kill = lambda: process.kill()
        process.start()
        sending.close()
        try:
            if not receiving.poll(_LONGEST_TRY):
                raise CannotMeasure(f"{operator}: a try took more than {_LONGEST_TRY:.0f} s.")
            ending, why = receiving.recv()
        except EOFError:
            ending, why = KILLED, ""
        finally:
            server.end_silence()
            process.kill()
            process.join()
        if self._verbose:
            print(f"  {operator}, try {number}: {ending} {why.splitlines()[0] if why else ''}", file=sys.stderr)
        return str(ending)


def _try(result: Connection, operator: str, run_id: str, number: int, telegram: str) -> None:
    """In the process of the try: tell how it ended."""
    try:
        importlib.import_module(_PRELOADED).execute(operator, run_id, number, TIMEOUT, telegram)
    except Exception as error:  # noqa: BLE001 - whatever it is, Airflow fails the task
        for_good = any(each.__name__ == "AirflowFailException" for each in type(error).__mro__)
        result.send((FAILS_FOR_GOOD if for_good else FAILS, f"{type(error).__name__}: {error}"))
    else:
        result.send((SUCCEEDS, ""))


def _environment(home: str, smtp: Server, http: Server) -> dict[str, str]:
    """An Airflow of its own, and connections that lead to the servers."""
    local = f"http://127.0.0.1:{http.port}"
    connections: dict[str, dict[str, Any]] = {
        "sms": {"conn_type": "sms", "host": local, "login": "id", "password": "key", "extra": {"timeout": TIMEOUT}},
        "smtp": {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": smtp.port,
            "extra": {"timeout": TIMEOUT, "disable_tls": True, "disable_ssl": True},
        },
        "telegram": {"conn_type": "telegram", "host": "1", "password": "1:token"},
        "http": {"conn_type": "http", "host": local},
        "aws": {
            "conn_type": "aws",
            "login": "key",
            "password": "secret",
            "extra": {"endpoint_url": local, "region_name": "eu-west-1"},
        },
    }
    return {
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        **{f"AIRFLOW_CONN_{name.upper()}_DEFAULT": json.dumps(fields) for name, fields in connections.items()},
    }


def measure(verbose: bool) -> dict[tuple[str, Trouble, int | None], Cell]:
    """Measure every operator with every trouble, once and every time."""
    cells: dict[tuple[str, Trouble, int | None], Cell] = {}
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="airflow-sms-"))
        smtp, http = stack.enter_context(Server(Smtp)), stack.enter_context(Server(Http))
        for name in [name for name in os.environ if name.startswith(("AIRFLOW_", "AWS_"))]:
            del os.environ[name]
        os.environ.update(_environment(home, smtp, http))
        bench = Bench(smtp, http, verbose)
        for operator in OPERATORS:
            well = bench.measure(operator, Trouble.NONE, None)
            if (well.taken, well.ending) != ((1,), SUCCEEDS):
                raise CannotMeasure(f"{operator} does not work here even if nothing goes wrong: {well}")
            for trouble in TROUBLES:
                for hits in (1, None):
                    _progress(f"{operator}: {trouble}")
                    cells[operator, trouble, hits] = bench.measure(operator, trouble, hits)
    _progress("")
    return cells


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def tables(cells: Mapping[tuple[str, Trouble, int | None], Cell]) -> str:
    """Everything that was measured, in Markdown."""
    versions = [f"{operator} ({package} {metadata.version(package)})" for operator, package in OPERATORS.items()]
    python = ".".join(map(str, sys.version_info[:3]))
    lines = [
        f"Measured on {datetime.now(UTC):%Y-%m-%d} by `make bench-others`, with Airflow "
        f"{metadata.version('apache-airflow')} and Python {python}: {', '.join(versions)}.",
    ]
    for hits, title in ((1, "It goes wrong once"), (None, "It goes wrong every time")):
        lines += ["", _row(title, *OPERATORS), _row(*("---" for _ in range(len(OPERATORS) + 1)))]
        lines += [_row(trouble, *(str(cells[each, trouble, hits]) for each in OPERATORS)) for trouble in TROUBLES]
    return "\n".join(lines)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def update_docs(text: str) -> None:
    """Put the tables into the pages, in place of those that are there."""
    for page, made in ((PAGES["en"], text), (PAGES["zh"], in_chinese(text))):
        before, begin, rest = page.read_text(encoding="utf-8").partition(f"{BEGIN}\n")
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise CannotMeasure(f"{page} has no place for the tables: it needs the lines {BEGIN} and {END}")
        page.write_text(f"{before}{begin}{made}\n{end}{after}", encoding="utf-8")


def in_chinese(text: str) -> str:
    """The tables for the Chinese page: other words, the same numbers."""
    for english, chinese in CHINESE.items():
        text = re.sub(english, chinese, text)
    return text


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.other_providers", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--update-docs", action="store_true", help="put the tables into the docs, in both languages")
    parser.add_argument("--verbose", action="store_true", help="say how each try ended")
    args = parser.parse_args(argv)
    missing = [package for package in OPERATORS.values() if not _has(package)]
    if missing:
        print(f"Not installed here: {', '.join(missing)}. `make bench-others` makes an environment.", file=sys.stderr)
        return 2
    os.chdir(ROOT)
    try:
        cells = measure(args.verbose)
        text = tables(cells)
        print(text)
        if args.update_docs:
            update_docs(text)
    except CannotMeasure as problem:
        print(problem, file=sys.stderr)
        return 2
    return int(any(max(cell.taken) > 1 for (operator, _, _), cell in cells.items() if operator == OURS))


def _has(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
