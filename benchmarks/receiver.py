"""Pushes stored a second: ours beside an empty FastAPI form endpoint, and one that commits each push, in one run.

    make bench-receiver                                       # with few rows in the ledger: some minutes
    make bench-receiver ARGS="--rows 10000000"                # and with so many: half an hour, 20 GB of disk

One worker each, on uvicorn with the same loop and parser; in turn, round by round, each started anew. The load is one
process with connections that it keeps open. Every push is another receipt of a campaign that the ledger has, 500
phones a batch, several batches at once; so the receiver matches them beside storing, as it does in life.

After each turn there must be one new row for each 200, and in the end a verdict for each phone. Shown are medians:
pushes a second, the same as a share of the empty endpoint in the same round, processor time of the server a push, how
many were matched when the last was answered, and how much longer the rest took.

Nothing else should run meanwhile. Exit status: 0 all targets are met, 1 one is not, 2 nothing could be measured.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.client
import os
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlalchemy import text

from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from benchmarks.filled_ledger import Batch, add_campaign, fill, tidy
from scripts.processes import Child, ChildFailed, Children
from scripts.sandbox import AIRFLOW, airflow_home, last_lines
from tests.support.databases import NotInstalled, PostgreSQL
from tests.support.push_load import HOST, Load, request

LEAST_OF_EMPTY = 1.25
MOST_LOST_TO_ROWS = 0.10
FEW_ROWS = 10_000
TOKEN = "FAKE-PUSH-TOKEN-0123456789abcdef"  # noqa: S105 - of this benchmark alone
ADDRESS = f"/sms/push?token={TOKEN}"
_AT_ONCE = 8
_WARM_UP = 2_000
_CATCH_UP_WITHIN = 120
_MOUNTED_TURNS = 2


class CannotMeasure(Exception):
    """The numbers would be missing or wrong; the text says why."""


@dataclass(frozen=True)
class Turn:
    """What was measured of one way in one round.

    :param rate: pushes a second.
    :param cpu: seconds of processor time that the server took for one.
    :param matched: the share that was matched when the last one was answered; None where nobody matches.
    :param behind: seconds until the rest was.
    """

    rate: float
    cpu: float
    matched: float | None = None
    behind: float | None = None


@dataclass
class Way:
    """One way to take pushes.

    :param key: which server; see `Bench.server`.
    :param ledger: makes a ledger, or gives the one that there is; None: it has none.
    :param share: of the pushes, for those that take long.
    :param turns: at most so many.
    """

    name: str
    key: str
    ledger: Callable[[], contextlib.AbstractContextManager[str]] | None = None
    share: float = 1.0
    turns: int = 1_000
    skipped: str = ""
    results: list[Turn] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(each.rate for each in self.results)

    def ratio(self, other: Way) -> float:
        """Of its rate to another one's, in the same round."""
        pairs = zip(self.results, other.results, strict=False)
        return statistics.median(ours.rate / theirs.rate for ours, theirs in pairs)


class Bench:
    """Runs turns.

    :param folder: for logs and ledgers.
    """

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self._folder = folder
        self._args = args
        self._chance = random.Random(4)
        self._campaigns = 0

    def measure(self, way: Way) -> Turn:
        """One turn.

        :raises CannotMeasure: the server fails, or does not store what it has answered.
        """
        pushes = int(self._args.pushes * way.share)
        with contextlib.ExitStack() as stack:
            url = stack.enter_context(way.ledger()) if way.ledger is not None else None
            ledger = None if url is None else Ledger(read_url(url))
            if ledger is not None:
                stack.callback(ledger.close)
            warm_up, wanted = (self._requests(self._batches(ledger, count)) for count in (_WARM_UP, pushes))
            if ledger is not None:
                tidy(ledger)
            child, port = stack.enter_context(self._server(way.key, url))
            self._load(port, warm_up, child)
            before = 0 if ledger is None else _one(ledger, "SELECT max(id) FROM sms_receipt")
            family = [psutil.Process(child.process.pid), *psutil.Process(child.process.pid).children(recursive=True)]
            busy = _seconds(family)
            took = self._load(port, wanted, child)
            cpu = (_seconds(family) - busy) / pushes
            if ledger is None:
                return Turn(pushes / took, cpu)
            rows = _one(ledger, "SELECT count(*) FROM sms_receipt WHERE id > :before", before=before)
            if rows != pushes:
                raise CannotMeasure(f"{way.name}: {pushes} pushes were answered 200, and {rows} rows are new")
            if way.key == "commit_each":
                return Turn(pushes / took, cpu)
            matched, behind = self._catch_up(ledger, before, pushes)
            return Turn(pushes / took, cpu, matched, behind)

    def _batches(self, ledger: Ledger | None, phones: int) -> list[Batch]:
        self._campaigns += 1
        name = f"campaign {self._campaigns}"
        if ledger is not None:
            return add_campaign(ledger, name, phones)
        size = 500
        return [
            Batch(f"{self._campaigns + 900:04d}{at:06d}", range(138_0000_0000 + at, 138_0000_0000 + at + size))
            for at in range(0, phones, size)
        ]

    def _requests(self, batches: Sequence[Batch]) -> list[tuple[int, bytes]]:
        """Receipts of some batches at a time, in the order in which phones happen to get theirs."""
        made: list[tuple[int, bytes]] = []
        for first in range(0, len(batches), _AT_ONCE):
            together = [(batch.taskid, phone) for batch in batches[first : first + _AT_ONCE] for phone in batch.phones]
            self._chance.shuffle(together)
            for taskid, phone in together:
                body = b"mobile=%d&taskid=%b&status=1&code=DELIVRD&receivetime=2026-07-23+17%%3A%02d%%3A%02d" % (
                    phone,
                    taskid.encode(),
                    len(made) // 60 % 60,
                    len(made) % 60,
                )
                made.append((len(made), request(ADDRESS, body)))
        return made

    def _load(self, port: int, requests: Sequence[tuple[int, bytes]], child: Child) -> float:
        with Load(port, iter(requests), self._args.connections) as load:
            try:
                load.wait(600)
            except AssertionError as problem:
                raise CannotMeasure(f"{problem}\n{last_lines(child.log)}") from None
        if load.statuses != {200: len(requests)} or load.lost:
            raise CannotMeasure(
                f"not all were answered 200: {load.statuses}, {load.lost} lost\n{last_lines(child.log)}"
            )
        return load.seconds

    def _catch_up(self, ledger: Ledger, before: int, pushes: int) -> tuple[float, float]:
        new = "SELECT count(*) FROM sms_receipt WHERE matching IS NULL AND id > :before"
        started = time.perf_counter()
        waiting = left = _one(ledger, new, before=before)
        while left:
            if time.perf_counter() - started > _CATCH_UP_WITHIN:
                raise CannotMeasure(f"{left} of {pushes} pushes are still not matched after {_CATCH_UP_WITHIN} s")
            time.sleep(0.05)
            left = _one(ledger, new, before=before)
        behind = time.perf_counter() - started
        judged = _one(
            ledger,
            "SELECT sum(phones) FROM sms_delivery_count WHERE outcome = 'delivered' "
            "AND campaign_id = (SELECT max(id) FROM sms_campaign)",
        )
        if judged != pushes:
            raise CannotMeasure(f"of {pushes} phones, {judged} have a verdict")
        return 1 - waiting / pushes, behind

    @contextlib.contextmanager
    def _server(self, key: str, url: str | None) -> Iterator[tuple[Child, int]]:
        port = _free_port()
        log = self._folder / f"{key}.log"
        settings = {"BENCHMARK_LEDGER": url or "", "AIRFLOW__SMS__SQL_ALCHEMY_CONN": url or ""}
        settings["AIRFLOW__SMS__PUSH_TOKENS"] = TOKEN
        with contextlib.ExitStack() as stack:
            children = stack.enter_context(Children())
            env = stack.enter_context(airflow_home(children, **settings))
            if key == "mounted":
                children.run("airflow db migrate", [*AIRFLOW, "db", "migrate"], env, log)
            child = children.start(key, _command(key, port), env, log)

            def answers() -> bool:
                child.check_alive()
                return _answers(port)

            if not children.wait_until(answers, 180):
                raise ChildFailed(f"{key} does not listen", log)
            yield child, port


def _command(key: str, port: int) -> list[str]:
    if key == "ours":
        return [sys.executable, "-m", "airflow_provider_sms", "receiver", "--host", HOST, "--port", str(port)]
    if key == "mounted":
        return [*AIRFLOW, "api-server", "--host", HOST, "--port", str(port), "--workers", "1"]
    app = f"benchmarks.push_endpoints:{'empty' if key == 'empty' else 'commit_each'}"
    quiet = ["--http", "httptools", "--loop", "auto", "--no-access-log", "--log-level", "warning"]
    return [sys.executable, "-m", "uvicorn", app, "--host", HOST, "--port", str(port), *quiet]


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", "/sms/health")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def _seconds(family: Sequence[psutil.Process]) -> float:
    total = 0.0
    for each in family:
        times = each.cpu_times()
        total += times.user + times.system
    return total


def _one(ledger: Ledger, statement: str, **values: int) -> int:
    with ledger.reading() as connection:
        return int(connection.execute(text(statement), values).scalar() or 0)


def _made(url: str, rows: int) -> str:
    ledger = Ledger(read_url(url))
    try:
        versions.upgrade(ledger)
        fill(ledger, rows)
    finally:
        ledger.close()
    return url


class Ledgers:
    """Makes ledgers: with few rows anew for each turn, with many once.

    :param postgresql: a running server, or None.
    """

    def __init__(self, folder: Path, postgresql: PostgreSQL | None) -> None:
        self._folder = folder
        self._postgresql = postgresql
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Ledgers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def few(self, kind: str) -> Iterator[str]:
        """A new one."""
        with self._new(kind) as url:
            yield _made(url, FEW_ROWS)

    def many(self, kind: str, rows: int) -> Callable[[], contextlib.AbstractContextManager[str]]:
        """One for all turns."""
        _progress(f"{rows:,} rows on {kind}")
        url = _made(self._stack.enter_context(self._new(kind)), rows)
        return lambda: contextlib.nullcontext(url)

    @contextlib.contextmanager
    def _new(self, kind: str) -> Iterator[str]:
        if kind == "postgresql":
            assert self._postgresql is not None
            with self._postgresql.database() as url:
                yield url
            return
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            yield f"sqlite:///{folder}/ledger.db"


def ways(ledgers: Ledgers, postgresql: str, args: argparse.Namespace) -> list[Way]:
    """All ways, the empty endpoint first.

    :param postgresql: why there is none; empty if there is.
    """
    found = [Way("a  FastAPI form, empty", "empty")]
    for kind, name in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL")):
        skipped = postgresql if kind == "postgresql" else ""
        few = functools.partial(ledgers.few, kind)
        found.append(Way(f"b  FastAPI, commit each, {name}", "commit_each", few, share=0.1, skipped=skipped))
        found.append(Way(f"{'c' if kind == 'sqlite' else 'd'}  ours, {name}", "ours", few, skipped=skipped))
        if args.rows:
            many = None if skipped else ledgers.many(kind, args.rows)
            found.append(Way(f"   the same with {args.rows:,} rows", "ours", many, skipped=skipped))
    if not args.no_mounted:
        mounted = functools.partial(ledgers.few, "postgresql" if not postgresql else "sqlite")
        found.append(Way("e  ours, in Airflow's API server", "mounted", mounted, turns=_MOUNTED_TURNS))
    return found


def print_table(all_ways: Sequence[Way]) -> None:
    """Print what was measured."""
    layout = "{:<36}{:>10}{:>9}{:>13}{:>10}{:>16}"
    print(layout.format("", "a second", "of a", "us cpu each", "matched", "rest matched, s"))
    for way in all_ways:
        if way.skipped:
            print(f"{way.name:<36}  skipped: {way.skipped}")
            continue
        row = [f"{way.rate:,.0f}", f"{way.ratio(all_ways[0]):.2f}"]
        row.append(f"{statistics.median(each.cpu for each in way.results) * 1e6:.0f}")
        matched = [each.matched for each in way.results if each.matched is not None]
        behind = [each.behind for each in way.results if each.behind is not None]
        row += [f"{statistics.median(matched):.0%}", f"{statistics.median(behind):.1f}"] if matched else ["", ""]
        print(layout.format(way.name, *row))


def print_verdict(all_ways: Sequence[Way]) -> bool:
    """Print the targets, and whether they are met.

    :returns: whether all are.
    """
    print("\nTargets")
    all_met = True
    few: Way | None = None
    for way in all_ways:
        if way.key != "ours" or way.skipped:
            continue
        is_few = not way.name.startswith(" ")
        if is_few:
            few = way
            reached, text = way.ratio(all_ways[0]), f"at least {LEAST_OF_EMPTY} times the empty endpoint's rate"
            met = reached >= LEAST_OF_EMPTY
        else:
            assert few is not None
            reached, text = 1 - way.ratio(few), f"at most {MOST_LOST_TO_ROWS} slower than with {FEW_ROWS:,}"
            met = reached <= MOST_LOST_TO_ROWS
        all_met = all_met and met
        print(f"  {way.name:<36}{f'{text}: {reached:.2f}':<60}{'met' if met else 'NOT MET'}")
    return all_met


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _postgresql() -> Iterator[PostgreSQL | str]:
    """A server, or why there is none."""
    try:
        server = PostgreSQL()
    except NotInstalled as reason:
        yield str(reason)
        return
    with server:
        yield server


def measure(args: argparse.Namespace) -> list[Way]:
    """Take pushes in every way, round by round.

    :raises CannotMeasure: a way failed, or did not store what it answered.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-receiver-", dir=args.folder)))
        server = stack.enter_context(_postgresql())
        missing = server if isinstance(server, str) else ""
        ledgers = stack.enter_context(Ledgers(folder, None if isinstance(server, str) else server))
        all_ways = [way for way in ways(ledgers, missing, args) if not args.only or way.key in args.only]
        bench = Bench(folder, args)
        for turn in range(args.rounds):
            for way in all_ways:
                if not way.skipped and turn < way.turns:
                    _progress(f"round {turn + 1} of {args.rounds}: {way.name}")
                    way.results.append(bench.measure(way))
                    if args.verbose:
                        print(turn + 1, way.name, way.results[-1], file=sys.stderr)
        _progress("")
    return all_ways


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.receiver", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--pushes", type=int, default=40_000, help="in one turn (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="medians are shown (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=64, help="open at once (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=0, help="also with so many rows in the ledger, such as 10000000")
    parser.add_argument("--no-mounted", action="store_true", help="leave Airflow's API server out")
    parser.add_argument("--folder", help="where ledgers of SQLite go (default: the system's for temporary files)")
    parser.add_argument(
        "--only", nargs="+", choices=["empty", "commit_each", "ours", "mounted"], help=argparse.SUPPRESS
    )
    parser.add_argument("--verbose", action="store_true", help="tell of each turn")
    args = parser.parse_args()
    for name in ("pushes", "rounds", "connections"):
        if getattr(args, name) < 1:
            parser.error(f"--{name}: at least 1")
    load = os.getloadavg()[0]
    try:
        all_ways = measure(args)
    except CannotMeasure as error:
        print(error, file=sys.stderr)
        return 2
    except ChildFailed as error:
        print(f"{last_lines(error.log)}\n{error}", file=sys.stderr)
        return 2
    print(
        f"{args.pushes:,} pushes a turn over {args.connections} connections; rounds: {args.rounds}, cores: "
        f"{os.cpu_count()}, load before: {load:.1f}\n"
    )
    print_table(all_ways)
    return 0 if print_verdict(all_ways) else 1


if __name__ == "__main__":
    sys.exit(main())
