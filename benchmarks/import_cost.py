"""What importing this provider costs a DAG file beyond `airflow.sdk`, beside other providers.

DAG files are parsed over and over, so this is paid over and over. Runs in a Python that has Airflow 3.3 and
the other providers (`make bench-imports` makes one); imports them in other processes, never here.
Exit status: 0 all of ours are within the limits, 1 one is not, 2 nothing could be measured.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OURS = "airflow_provider_sms"
YARDSTICK = "airflow.providers.slack.operators.slack"

# The promise: at most 20 ms where slack's operator costs 550. Their ratio decides, so that a faster machine
# is no excuse and a slower one no reproach.
PROMISED_MS = 20.0
YARDSTICK_MS = 550.0

WATCHED = (
    "requests",
    "urllib3",
    "sqlalchemy",
    "fastapi",
    "starlette",
    "aiohttp",
    "flask",
    "pendulum",
    "regex",
    "httpx",
)
FORBIDDEN = frozenset({"requests", "urllib3", "sqlalchemy", "fastapi", "starlette", "aiohttp", "flask"})

_TIMEOUT = 300


@dataclass(frozen=True)
class Target:
    """A module to measure.

    :param module: its name.
    :param after: modules to import first, on the house.
    :param limited: whether its time is held against the limit.
    """

    module: str
    after: tuple[str, ...] = ()
    limited: bool = False

    @property
    def label(self) -> str:
        name = self.module.removeprefix(f"{OURS}.").removeprefix("airflow.providers.")
        return f"{name} after {self.after[0].removeprefix('airflow.')}" if self.after else name


DAG_FACING = (
    Target(f"{OURS}.hooks.sms", limited=True),
    Target(f"{OURS}.operators.sms", limited=True),
    Target(f"{OURS}.sensors.sms", limited=True),
)
OTHERS_OF_OURS = (
    # No DAG file imports a trigger: the triggerer does, and has Airflow's own base module by then. That
    # module alone costs more than the promise, so the first row is shown and the second one judged.
    Target(f"{OURS}.triggers.sms"),
    Target(f"{OURS}.triggers.sms", after=("airflow.triggers.base",), limited=True),
    Target(f"{OURS}.get_provider_info", limited=True),
    Target(f"{OURS}.cli", limited=True),
)
PROVIDERS = (
    Target(YARDSTICK),
    Target("airflow.providers.slack.notifications.slack"),
    Target("airflow.providers.smtp.operators.smtp"),
    Target("airflow.providers.smtp.notifications.smtp"),
    Target("airflow.providers.http.operators.http"),
    Target("airflow.providers.http.sensors.http"),
    Target("airflow.providers.amazon.aws.operators.sns"),
    Target("airflow.providers.amazon.aws.hooks.sns"),
)
AIRFLOW_ITSELF = (
    Target("airflow.providers.common.compat.sdk"),
    Target("airflow.sdk.bases.sensor"),
    Target("airflow.triggers.base"),
)
GROUPS = {
    "ours, DAG-facing": DAG_FACING,
    "ours, not imported by DAG files": OTHERS_OF_OURS,
    "other providers": PROVIDERS,
    "parts of Airflow that ours need": AIRFLOW_ITSELF,
}

_IMPORT = """
import importlib, json, os, sys, time

def measured(module, after):
    for each in after:
        importlib.import_module(each)
    known = set(sys.modules)
    start = time.perf_counter()
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and (module + ".").startswith(error.name + "."):
            return {"missing": True}
        return {"failure": str(error)}
    except Exception as error:
        return {"failure": f"{type(error).__name__}: {error}"}
    ms = (time.perf_counter() - start) * 1000
    new = sorted(set(sys.modules) - known)
    specs = [getattr(sys.modules[name], "__spec__", None) for name in new]
    compiled = all(os.path.exists(spec.cached) for spec in specs if spec and spec.cached)
    return {"ms": ms, "new": new, "compiled": compiled}
"""

# Without decorators: they bring the standard provider, and with it parts of Airflow that ours would bring.
_MINIMAL_DAG = """
from airflow.sdk import DAG, BaseOperator

with DAG("minimal"):
    BaseOperator(task_id="nothing")
"""

_FRESH = f"""
import airflow.sdk
{_IMPORT}
target = json.loads(sys.argv[1])
print(json.dumps(measured(target["module"], target["after"])))
"""

# The parent is `airflow dag-processor` up to the point where it forks: the command line with what providers
# add to it, the manager, the providers' settings, and gc.freeze(). Before a fork Airflow also imports what
# the DAG file names of `airflow.*` (`[dag_processor] parsing_pre_import_modules`), `airflow.providers.*`
# included; a package of another name never profits. The second way of measuring does that too, before the
# clock starts. Both ways import a minimal DAG file first: a fork pays for the first touch of shared memory,
# and every DAG file has paid most of that to `airflow.sdk` before it comes to a provider.
_FORKS = f"""
import gc
import airflow.cli.cli_parser
import airflow.cli.commands.dag_processor_command
import airflow.sdk
from airflow.providers_manager import ProvidersManager
from airflow.utils.file import iter_airflow_imports
{_IMPORT}

def in_fork(target, dag_file):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "client"
            importlib.import_module("minimal_dag")
            for name in iter_airflow_imports(dag_file) if dag_file else ():
                try:
                    importlib.import_module(name)
                except Exception:
                    pass  # as Airflow does; the import that is measured reports it
            answer = measured(target["module"], target["after"])
        except BaseException as error:
            answer = {{"failure": f"{{type(error).__name__}}: {{error}}"}}
        with os.fdopen(writing, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text or '{{"failure": "the forked process died"}}')

order = json.loads(sys.argv[1])
sys.path.append(order["home"])
ProvidersManager().initialize_providers_configuration()
gc.freeze()
for _ in range(order["rounds"]):
    for target in order["targets"]:
        print(json.dumps([in_fork(target, None), in_fork(target, target["dag_file"])]))
"""


class CannotMeasure(Exception):
    """The numbers would be missing or wrong; the text says why."""


@dataclass
class Times:
    """Milliseconds of the same import, measured again and again."""

    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def __str__(self) -> str:
        return f"{self.median:.1f} ({min(self.samples):.1f}-{max(self.samples):.1f})"


@dataclass
class Row:
    """What was measured of one target."""

    target: Target
    fresh: Times = field(default_factory=Times)
    fork: Times = field(default_factory=Times)
    pre_imported: Times = field(default_factory=Times)
    new: frozenset[str] = frozenset()

    @property
    def watched(self) -> list[str]:
        """Top-level packages of the watched ones that came with it, or more of one that was there."""
        packages = {name.partition(".")[0] for name in self.new}
        return [name for name in WATCHED if name in packages]


def measure(targets: Sequence[Target], rounds: int) -> tuple[list[Row], list[Target]]:
    """Measure each target both ways.

    :param targets: what to measure, in turn.
    :param rounds: how often.
    :returns: the rows, and the targets that are not installed.
    :raises CannotMeasure: a module can not be imported, or has no bytecode.
    """
    rows, missing = [], []
    with tempfile.TemporaryDirectory(prefix="import-cost-") as home:
        # The first import of everything writes the bytecode of whatever it pulls in, so it is not counted.
        for target in targets:
            answer = _answer(_FRESH, _plain(target, home), home)
            if answer.get("missing"):
                missing.append(target)
            else:
                _check(target, answer, compiled=False)
                rows.append(Row(target, new=frozenset(answer["new"])))
        for turn in range(rounds):
            _progress(f"fresh processes, round {turn + 1} of {rounds}")
            for row in rows:
                answer = _answer(_FRESH, _plain(row.target, home), home)
                _check(row.target, answer)
                row.fresh.samples.append(answer["ms"])
        _progress("forks")
        Path(home, "minimal_dag.py").write_text(_MINIMAL_DAG)
        order = {"home": home, "rounds": rounds + 1, "targets": [_plain(row.target, home) for row in rows]}
        answers = _answers(_FORKS, order, home)
        for turn in range(rounds + 1):
            for row, (fork, pre_imported) in zip(rows, answers, strict=False):
                _check(row.target, fork)
                _check(row.target, pre_imported)
                if turn:
                    row.fork.samples.append(fork["ms"])
                    row.pre_imported.samples.append(pre_imported["ms"])
            answers = answers[len(rows) :]
        _progress("")
    return rows, missing


def _plain(target: Target, home: str) -> dict[str, object]:
    dag_file = Path(home, f"{target.module}.py")
    dag_file.write_text(f"import {target.module}\n")
    return {**asdict(target), "dag_file": str(dag_file)}


def _answer(program: str, argument: object, home: str) -> dict[str, Any]:
    answer: dict[str, Any] = _answers(program, argument, home)[-1]
    return answer


def _answers(program: str, argument: object, home: str) -> list[Any]:
    command = [sys.executable, "-P", "-c", program, json.dumps(argument)]
    try:
        done = subprocess.run(
            command, env=_environment(home), capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotMeasure(f"a measuring process took longer than {_TIMEOUT} s") from None
    if done.returncode:
        raise CannotMeasure(f"a measuring process failed:\n{done.stderr.strip()[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]


def _environment(home: str) -> dict[str, str]:
    # Python's switches would falsify the times, and somebody's Airflow settings what is imported.
    kept = {"PYTHONHOME", "PYTHONPYCACHEPREFIX"}
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in kept or not name.startswith(("PYTHON", "AIRFLOW", "_AIRFLOW"))
    }
    path = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    return {**environment, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}


def _check(target: Target, answer: dict[str, Any], *, compiled: bool = True) -> None:
    if "ms" not in answer:
        raise CannotMeasure(f"{target.module} can not be imported: {answer.get('failure', 'not found')}")
    if compiled and not answer["compiled"]:
        raise CannotMeasure(f"{target.module}: its bytecode is missing; may this user write into its folder?")


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def print_table(rows: Sequence[Row], missing: Sequence[Target]) -> None:
    """Print what was measured."""
    yardstick = _yardstick(rows)
    by_target = {row.target: row for row in rows}
    head = ("", "fresh process", "fork", "fork, pre-imported", "of slack", "modules")
    layout = "{:<38}{:>22}{:>22}{:>22}{:>10}{:>9}"
    print(layout.format(*head))
    for title, targets in GROUPS.items():
        print(title)
        for target in targets:
            if target in missing:
                print(f"  {target.label:<36}{'not installed':>22}")
                continue
            row = by_target[target]
            share = f"{row.fresh.median / yardstick.fresh.median:.1%}" if yardstick else "?"
            times = (str(each) for each in (row.fresh, row.fork, row.pre_imported))
            print(layout.format(f"  {target.label}", *times, share, len(row.new)))


def _yardstick(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row.target.module == YARDSTICK), None)


@dataclass(frozen=True)
class Limits:
    """Milliseconds that a module of ours may take, by the median.

    :param fresh: in a fresh process.
    :param fork: in a fork.
    """

    fresh: float = PROMISED_MS
    fork: float = PROMISED_MS

    @classmethod
    def by(cls, yardstick: Row) -> Limits:
        share = PROMISED_MS / YARDSTICK_MS
        return cls(yardstick.fresh.median * share, yardstick.fork.median * share)


def complaints(rows: Sequence[Row], limits: Limits) -> Iterator[str]:
    """Say what is over the limits, or imports what it must not.

    :param rows: what was measured.
    :param limits: for those of ours that are held against them.
    """
    for row in rows:
        if not row.target.module.startswith(OURS):
            continue
        if row.target.limited:
            ways = (("a fresh process", row.fresh, limits.fresh), ("a fork", row.fork, limits.fork))
            for way, times, limit in ways:
                if times.median > limit:
                    yield f"{row.target.label}: {times.median:.1f} ms in {way}, the limit is {limit:.1f} ms"
        if forbidden := FORBIDDEN.intersection(row.watched):
            yield f"{row.target.label}: imports {', '.join(sorted(forbidden))}"


def print_verdict(rows: Sequence[Row]) -> bool:
    """Print the limits and what breaks them.

    :returns: whether nothing does.
    """
    yardstick = _yardstick(rows)
    limits = Limits.by(yardstick) if yardstick else Limits()
    if yardstick:
        print(
            f"Limits: {limits.fresh:.1f} ms in a fresh process, {limits.fork:.1f} ms in a fork, "
            f"{PROMISED_MS:.0f}/{YARDSTICK_MS:.0f} of what slack's operator takes here."
        )
    else:
        print(f"Limits: the plain {PROMISED_MS:.0f} ms, for want of slack's operator to compare with.")
    ours = (row for row in rows if row.target.module.startswith(OURS))
    slowest = max(ours, key=lambda row: row.fresh.median)
    print(
        f"The plain {PROMISED_MS:.0f} ms does not decide: the slowest of ours, {slowest.target.label}, "
        f"takes {slowest.fresh.median:.1f} ms in a fresh process."
    )
    over = list(complaints(rows, limits))
    print("Over the limits:" if over else "All of ours are within the limits.")
    for each in over:
        print(f"  {each}")
    return not over


def _versions() -> Iterator[str]:
    yield f"Python {sys.version.split()[0]}"
    for name in ("airflow", *(f"airflow-providers-{each}" for each in ("slack", "smtp", "http", "amazon"))):
        try:
            yield f"{name.removeprefix('airflow-providers-')} {metadata.version(f'apache-{name}')}"
        except metadata.PackageNotFoundError:
            continue


def main() -> int:
    summary = __doc__.splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.import_cost", description=summary)
    parser.add_argument("--rounds", type=int, default=7, help="times to measure each module (default: 7)")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds: at least 1")
    compileall.compile_dir(ROOT / OURS, quiet=2)
    try:
        rows, missing = measure([target for targets in GROUPS.values() for target in targets], args.rounds)
        if absent := [target.module for target in missing if target.module.startswith(OURS)]:
            raise CannotMeasure(f"{', '.join(absent)}: not found")
    except CannotMeasure as error:
        print(error, file=sys.stderr)
        return 2

    print(", ".join(_versions()))
    print(f"Import time beyond airflow.sdk, compiled first; ms, median (lowest-highest) of {args.rounds}\n")
    print_table(rows, missing)

    print(f"\nOf {', '.join(WATCHED)}, ours import beyond airflow.sdk:")
    for row in rows:
        if row.target.module.startswith(OURS) and not row.target.after:
            print(f"  {row.target.label:<36}{', '.join(row.watched) or 'none'}")

    print()
    return 0 if print_verdict(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
