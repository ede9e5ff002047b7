"""What never twice and nothing lost cost a large campaign: ours beside a bare loop of posts, in one run.

    make bench-campaign                                       # 1,000,000 phones, 500 a batch: some minutes
    make bench-campaign ARGS="--phones 100000 --runs 3"       # fewer, and medians of three rounds

The same phones out of the same file go to the simulator, a process of its own that takes its time for each answer,
in four ways; in turn, each in a fresh process and to a fresh simulator:

* a bare loop of `requests` posts, which keeps no record: the measure of the others;
* `SmsGroupSendOperator` with a `PhoneFile`, its ledger in a SQLite file;
* the same with its ledger in PostgreSQL, a server with its own defaults that is started for this;
* one `HttpOperator` mapped over batches, the usual Airflow way, by `dag.test()`, on fewer batches and scaled: from
  the first mapped task's start to the last one's end. There they run one after the other in one process; a scheduler
  runs several at once, and starts a process for each.

Measured is each one's time by the clock, without imports, and its ratio to the loop of the same round; of ours also
the planning (read, normalise, de-duplicate, store), and the peak memory (VmHWM) beyond what the same process took
with its imports and nothing to do. Of several rounds, the medians. After each way, the simulator's own record must
show every phone once.

Without PostgreSQL, or without the http provider in the Python that --http-python names, that way is skipped. Nothing
else should run meanwhile. Exit status: 0 all targets are met, 1 one is not, 2 nothing could be measured, or somebody
was texted twice or not at all.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.simulator import Simulator

ROOT = Path(__file__).resolve().parent.parent

MOST_OF_LOOP = 1.15
LEAST_PLANNED = 100_000
MOST_MEMORY = 300

TEXT = "【云通信】Your report is ready."
_SEND_PATH = "/smsApi/group"
_FORM_TYPE = "application/x-www-form-urlencoded;charset=utf-8"
_FIRST_PHONE = 138_0000_0000
_LOOPBACK = "127.0.0.1,localhost"
_TIMEOUT = 3600


class CannotMeasure(Exception):
    """The numbers would be missing or wrong; the text says why."""


@dataclass(frozen=True)
class Order:
    """What is to be sent, and where.

    :param file: the phones, one a line; all of them are sent to.
    :param address: the platform's.
    """

    file: str
    batch_size: int
    in_flight: int
    address: str
    app_id: str
    app_key: str

    def forms(self) -> Iterator[dict[str, str]]:
        """The form of each post."""
        with Path(self.file).open() as lines:
            while batch := list(islice(lines, self.batch_size)):
                phones = ",".join(map(str.strip, batch))
                yield {"appId": self.app_id, "appKey": self.app_key, "phone": phones, "content": TEXT, "sendTime": ""}


@dataclass(frozen=True)
class Result:
    """What was measured of one way in one round.

    :param seconds: by the clock.
    :param planning: as much of it as went into the plan.
    :param memory: MB at the peak, beyond the idle process.
    """

    seconds: float
    planning: float | None = None
    memory: float | None = None


# The ways, each in a process of its own. It imports what it needs before the clock starts.


def _loop(order: Order) -> Result:
    import requests

    forms = order.forms()
    taking = threading.Lock()
    failures: list[str] = []

    def take() -> dict[str, str] | None:
        with taking:
            return next(forms, None)

    def post() -> None:
        with requests.Session() as session:
            while (form := take()) is not None:
                answer = session.post(
                    order.address + _SEND_PATH, form, headers={"Content-Type": _FORM_TYPE}, timeout=60
                )
                if answer.json()["returnStatus"].strip() != "1":
                    failures.append(answer.text)
                    return

    threads = [threading.Thread(target=post) for _ in range(order.in_flight)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    if failures:
        raise CannotMeasure(f"the platform says {failures[0]}")
    return Result(took)


def _ours(order: Order) -> Result:
    import logging

    import airflow_provider_sms.sending  # noqa: F401
    from airflow_provider_sms import opening, planning, recipients
    from airflow_provider_sms.hooks.sms import SmsHook
    from airflow_provider_sms.operators.sms import SmsGroupSendOperator

    operator = SmsGroupSendOperator(
        task_id="send",
        phones=recipients.PhoneFile(order.file),
        content=TEXT,
        batch_size=order.batch_size,
        max_in_flight=order.in_flight,
    )
    # What an idle task process has, the database's driver and the connection's hook among it.
    opening.open_ledger(logging.getLogger(__name__)).close()
    SmsHook().get_conn().close()
    planned: list[float] = []
    _note_seconds(planning.Planner, "plan", planned)
    idle = _memory("VmRSS")
    started = time.perf_counter()
    operator.execute({"ti": _TaskInstance()})  # type: ignore[typeddict-item]
    took = time.perf_counter() - started
    return Result(took, sum(planned), _memory("VmHWM") - idle)


class _TaskInstance:
    """As much of one as the operator touches."""

    dag_id = "benchmark"
    run_id = "run"
    task_id = "send"
    map_index = -1
    try_number = 1

    def xcom_push(self, key: str, value: Any) -> None:
        json.dumps(value)


def _note_seconds(kind: type, name: str, seconds: list[float]) -> None:
    """Note how long each call of a method takes."""
    method: Callable[..., Any] = getattr(kind, name)

    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return method(*arguments)
        finally:
            seconds.append(time.perf_counter() - began)

    setattr(kind, name, timed)


def _memory(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def _http(order: Order) -> Result:
    import runpy

    finished = runpy.run_path(os.environ["BENCHMARK_DAG_FILE"])["dag"].test()
    posts = [each for each in finished.get_task_instances() if each.task_id == "post"]
    if finished.state != "success":
        raise CannotMeasure(f"the DAG run ended as {finished.state}")
    return Result((max(each.end_date for each in posts) - min(each.start_date for each in posts)).total_seconds())


_HTTP_DAG = f"""
import json, os

from airflow.providers.http.operators.http import HttpOperator
from airflow.sdk import DAG, task

from benchmarks.campaign import Order

with DAG("benchmark") as dag:
    @task
    def read():
        return list(Order(**json.loads(os.environ["BENCHMARK_ORDER"])).forms())

    HttpOperator.partial(
        task_id="post",
        http_conn_id="platform",
        endpoint="{_SEND_PATH}",
        headers={{"Content-Type": "{_FORM_TYPE}"}},
        response_check=lambda response: response.json()["returnStatus"].strip() == "1",
    ).expand(data=read())
"""

_RUNNERS = {"loop": _loop, "ours": _ours, "http": _http}


# The rounds, in the process that orders, checks and compares.


@dataclass
class Way:
    """One way to send, and what was measured of it.

    :param runner: its name in `_RUNNERS`.
    :param phones: how many it sends to.
    :param scale: what its time is multiplied by, as it sends to fewer.
    :param ledger: makes the address of a fresh ledger, for ours.
    :param skipped: why it is left out.
    """

    name: str
    runner: str
    phones: int
    python: str = sys.executable
    scale: float = 1.0
    ledger: Callable[[Path], contextlib.AbstractContextManager[str]] | None = None
    skipped: str = ""
    results: list[Result] = field(default_factory=list)

    @property
    def is_ours(self) -> bool:
        return self.ledger is not None

    @property
    def seconds(self) -> float:
        return statistics.median(each.seconds for each in self.results) * self.scale

    @property
    def planning(self) -> float:
        return statistics.median(each.planning or 0.0 for each in self.results)

    @property
    def memory(self) -> float:
        return statistics.median(each.memory or 0.0 for each in self.results)

    def ratio(self, loop: Way) -> float:
        pairs = zip(self.results, loop.results, strict=True)
        return statistics.median(ours.seconds * self.scale / bare.seconds for ours, bare in pairs)


def send(way: Way, batch_size: int, in_flight: int, latency: float) -> Result:
    """Send in one way, once, and see that each phone was texted once.

    :param latency: seconds that the platform takes for each answer.
    :raises CannotMeasure: the way failed, or the platform's record is not what it should be.
    """
    from tests.support.simulator import Simulator

    # Without the rule of one text a minute: a second text would be taken, and show.
    flags = ("--balance", str(way.phones * 10), "--latency", str(latency), "--one-per-minute", "off")
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-campaign-")))
        file = home / "phones.txt"
        with file.open("w") as lines:
            lines.writelines(f"{_FIRST_PHONE + number}\n" for number in range(way.phones))
        ledger = stack.enter_context(way.ledger(home)) if way.ledger is not None else None
        simulator = stack.enter_context(Simulator(*flags))
        order = Order(str(file), batch_size, in_flight, simulator.base_url, simulator.app_id, simulator.app_key)
        result = _run(way, order, home, ledger)
        _check(simulator, way.phones)
    return result


def _run(way: Way, order: Order, home: Path, ledger: str | None) -> Result:
    platform = {"conn_type": "sms", "host": order.address, "login": order.app_id, "password": order.app_key}
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))},
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": _LOOPBACK,
        "no_proxy": _LOOPBACK,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_SMS_DEFAULT": json.dumps(platform),
        "AIRFLOW_CONN_PLATFORM": json.dumps({"conn_type": "http", "host": order.address}),
        "BENCHMARK_ORDER": json.dumps(asdict(order)),
        "BENCHMARK_RESULT": str(home / "result.json"),
    }
    if ledger is not None:
        environment["AIRFLOW__SMS__SQL_ALCHEMY_CONN"] = ledger
    if way.runner == "http":
        dag_file = home / "dags" / "benchmark.py"
        dag_file.parent.mkdir()
        dag_file.write_text(_HTTP_DAG)
        environment["BENCHMARK_DAG_FILE"] = str(dag_file)
        _do([way.python, "-m", "airflow", "db", "migrate"], environment, home)
    _do([way.python, "-m", "benchmarks.campaign", "--way", way.runner], environment, home)
    return Result(**json.loads((home / "result.json").read_text()))


def _do(command: list[str], environment: dict[str, str], home: Path) -> None:
    log = home / "log.txt"
    try:
        with log.open("ab") as output:
            done = subprocess.run(command, env=environment, stdout=output, stderr=output, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        raise CannotMeasure(f"{' '.join(command[1:])} took longer than {_TIMEOUT} s") from None
    if done.returncode:
        raise CannotMeasure(f"{' '.join(command[1:])} failed:\n{log.read_text(errors='replace').strip()[-3000:]}")


def _check(simulator: Simulator, phones: int) -> None:
    """See in the platform's own record that it took each phone once."""
    times = bytearray(phones)
    for batch in simulator.accepted():
        for phone in batch["phones"]:
            times[int(phone) - _FIRST_PHONE] += 1
    once, never = times.count(1), times.count(0)
    if once != phones:
        raise CannotMeasure(f"of {phones} phones {never} were not texted, {phones - once - never} more than once")


@contextlib.contextmanager
def _sqlite(home: Path) -> Iterator[str]:
    yield _upgraded(f"sqlite:///{home / 'ledger.db'}")


def _upgraded(url: str) -> str:
    from airflow_provider_sms.ledger import versions
    from airflow_provider_sms.ledger.database import Ledger, read_url

    ledger = Ledger(read_url(url))
    versions.upgrade(ledger)
    ledger.close()
    return url


@contextlib.contextmanager
def _postgresql() -> Iterator[Callable[[Path], contextlib.AbstractContextManager[str]] | str]:
    """What makes a database, or why there is none."""
    from tests.support.databases import NotInstalled, PostgreSQL

    try:
        server = PostgreSQL()
    except NotInstalled as reason:
        yield str(reason)
        return

    @contextlib.contextmanager
    def database(home: Path) -> Iterator[str]:
        with server.database() as url:
            yield _upgraded(url)

    with server:
        yield database


def _why_not(python: str) -> str:
    """Why the mapped operator can not run in that Python."""
    probe = "import airflow.providers.http.operators.http, airflow.providers.standard.operators.python"
    with tempfile.TemporaryDirectory() as home:
        try:
            environment = {**os.environ, "AIRFLOW_HOME": home}
            done = subprocess.run([python, "-c", probe], env=environment, capture_output=True, text=True, check=False)
        except OSError as error:
            return f"{python}: {error.strerror}"
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


def measure(args: argparse.Namespace) -> list[Way]:
    """Send in every way, round by round; the first is the loop.

    :raises CannotMeasure: a way failed, or texted somebody twice or not at all.
    """
    fewer = min(args.phones, args.http_batches * args.batch_size)
    with _postgresql() as database:
        ways = [
            Way("bare loop of posts", "loop", args.phones),
            Way("ours, SQLite", "ours", args.phones, ledger=_sqlite),
            Way("ours, PostgreSQL", "ours", args.phones, ledger=None if isinstance(database, str) else database),
            Way("HttpOperator, mapped", "http", fewer, args.http_python, args.phones / fewer),
        ]
        ways[2].skipped = database if isinstance(database, str) else ""
        ways[3].skipped = _why_not(args.http_python)
        for turn in range(args.runs):
            for way in ways:
                if not way.skipped:
                    _progress(f"round {turn + 1} of {args.runs}: {way.name}")
                    way.results.append(send(way, args.batch_size, args.in_flight, args.latency))
    _progress("")
    return ways


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def print_table(ways: Sequence[Way], batch_size: int) -> None:
    """Print what was measured."""
    loop = ways[0]
    layout = "{:<22}{:>11}{:>10}{:>13}{:>13}{:>16}{:>16}"
    print(layout.format("", "seconds", "of loop", "ms a batch", "planning, s", "planned a s", "MB above idle"))
    for way in ways:
        if way.skipped:
            print(f"{way.name:<22}  skipped: {way.skipped}")
            continue
        batches = way.scale * way.phones / batch_size
        row = [f"{way.seconds:.1f}", f"{way.ratio(loop):.2f}", f"{(way.seconds - way.planning) / batches * 1000:.1f}"]
        if way.is_ours:
            row += [f"{way.planning:.2f}", f"{way.phones / way.planning:,.0f}", f"{way.memory:.0f}"]
        else:
            row += [""] * 3
        print(layout.format(way.name, *row))
    for way in ways:
        if way.scale > 1 and not way.skipped:
            print(f"{way.name}: {way.phones:,} phones in {way.seconds / way.scale:.1f} s, times {way.scale:g}.")


def print_verdict(ways: Sequence[Way]) -> bool:
    """Print the targets, and whether they are met.

    :returns: whether all are.
    """
    loop, all_met = ways[0], True
    print("\nTargets")
    for way in ways:
        if not way.is_ours or way.skipped:
            continue
        ratio, planned, memory = way.ratio(loop), way.phones / way.planning, way.memory
        for met, text in (
            (ratio <= MOST_OF_LOOP, f"at most {MOST_OF_LOOP} times the loop: {ratio:.3f}"),
            (planned >= LEAST_PLANNED, f"at least {LEAST_PLANNED:,} phones planned a second: {planned:,.0f}"),
            (memory <= MOST_MEMORY, f"at most {MOST_MEMORY} MB above idle: {memory:.0f}"),
        ):
            all_met = all_met and met
            print(f"  {way.name:<20}{text:<58}{'met' if met else 'NOT MET'}")
    return all_met


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.campaign", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--phones", type=int, default=1_000_000, help="how many (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=500, help="phones in one post (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=0.05, help="the platform's, in seconds (default: %(default)s)")
    parser.add_argument("--in-flight", type=int, default=1, help="posts at once, of loop and ours (default: 1)")
    parser.add_argument("--runs", type=int, default=1, help="rounds; medians are shown (default: 1)")
    parser.add_argument("--http-batches", type=int, default=20, help="batches of the mapped operator (default: 20)")
    parser.add_argument("--http-python", default=sys.executable, help="a Python that has the http provider")
    parser.add_argument("--way", choices=list(_RUNNERS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way is not None:
        return _be(args.way)
    for name in ("phones", "batch_size", "in_flight", "runs", "http_batches"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')}: at least 1")

    load = os.getloadavg()[0]
    try:
        ways = measure(args)
    except CannotMeasure as error:
        print(error, file=sys.stderr)
        return 2
    print(
        f"{args.phones:,} phones, {args.batch_size} a batch, in flight: {args.in_flight}, platform latency: "
        f"{args.latency * 1000:g} ms; rounds: {args.runs}, cores: {os.cpu_count()}, load before: {load:.1f}\n"
    )
    print_table(ways, args.batch_size)
    return 0 if print_verdict(ways) else 1


def _be(way: str) -> int:
    """Be the process that sends in one way."""
    result = _RUNNERS[way](Order(**json.loads(os.environ["BENCHMARK_ORDER"])))
    Path(os.environ["BENCHMARK_RESULT"]).write_text(json.dumps(asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
