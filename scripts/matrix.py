"""`make test-matrix`: the tests on every Airflow minor that we support, each in an environment of its own.

What is installed there is the lock and the built wheel, as a user would get it. One table at the end, and one
line of counts.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.environment import ROOT, Environment, EnvironmentFailed

MATRIX = ROOT / ".matrix"
LOCKS = ROOT / "locks"
# The other tests look at the project itself, or at what no Airflow touches; once is enough for them.
_SELECTED = "not once and not hostile and (not live or everywhere)"
_WITHOUT_AIRFLOW = ("tests/gateway", "tests/simulator", "tests/crash")
# These neither, but SQLAlchemy is not the same for each.
_SQL = (
    "tests/ledger",
    "tests/test_fault_table.py",
    "tests/test_guards.py",
    "tests/test_personal.py",
    "tests/test_planning.py",
    "tests/test_sending.py",
    "tests/receiver/test_admission.py",
    "tests/receiver/test_clerk.py",
    "tests/receiver/test_hostile.py",
    "tests/receiver/test_intake.py",
    "tests/receiver/test_kill.py",
    "tests/receiver/test_several.py",
)
_TIME_LIMIT = 20 * 60
# The newest Python that an Airflow runs on, where there is a newer one that we support.
_NEWEST_PYTHON = {"2.11": (3, 12), "3.0": (3, 12)}


@dataclass(frozen=True)
class Counts:
    """Tests of one run."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


@dataclass(frozen=True)
class Result:
    """What came of one minor.

    :param verdict: in a few words what went wrong, or why nothing had to be done.
    """

    minor: str
    airflow: str
    verdict: str
    good: bool = False
    counts: Counts = Counts()
    seconds: float = 0


def all_minors() -> list[str]:
    """Those that have a lock, oldest first."""
    names = [file.stem.removeprefix("airflow-") for file in LOCKS.glob("airflow-*.txt")]
    return sorted(names, key=lambda name: tuple(map(int, name.split("."))))


def run_minor(minor: str, wheel: Path) -> Result:
    """Prepare the environment of one minor, and run everything in it that may end otherwise there."""
    started = time.monotonic()
    lock = LOCKS / f"airflow-{minor}.txt"
    airflow = _pinned("apache-airflow", lock)
    print(f"\n=== Airflow {airflow}", flush=True)
    if reason := _why_left_out(minor):
        return Result(minor, airflow, f"left out: {reason}", good=True)
    environment = _environment(minor)
    try:
        environment.make()
        environment.install_wheel(wheel)
    except EnvironmentFailed as failure:
        print(failure, flush=True)
        return Result(minor, airflow, "not installed", seconds=time.monotonic() - started)
    imported = _imports(environment)
    status, counts = _tests(environment, _ignored(minor))
    complaints = {"imports fail": not imported, "tests fail": status != 0, "no test ran": not counts.passed}
    verdict = ", ".join(text for text, is_so in complaints.items() if is_so)
    return Result(minor, airflow, verdict or "ok", not verdict, counts, time.monotonic() - started)


def make_environments(minors: Sequence[str]) -> int:
    """Make what the tests of these minors run in, and run nothing; an exit status."""
    for minor in minors:
        if _why_left_out(minor):
            continue
        try:
            _environment(minor).make()
        except EnvironmentFailed as failure:
            print(failure, file=sys.stderr, flush=True)
            return 1
    return 0


def _environment(minor: str) -> Environment:
    return Environment(MATRIX / minor, LOCKS / f"airflow-{minor}.txt")


def _why_left_out(minor: str) -> str:
    newest = _NEWEST_PYTHON.get(minor, sys.version_info)
    return f"Python > {newest[0]}.{newest[1]}" if sys.version_info[:2] > newest[:2] else ""


def _imports(environment: Environment) -> bool:
    """Import every module of the wheel, away from the checkout."""
    with tempfile.TemporaryDirectory(prefix="airflow-sms-") as home:
        command = [str(environment.python), "-I", str(ROOT / "scripts" / "import_everything.py")]
        env = {**_without_airflow(), "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        return subprocess.run(command, cwd=home, env=env, timeout=_TIME_LIMIT, check=False).returncode == 0


def _ignored(minor: str) -> list[str]:
    """Tests that end here as they do elsewhere: on an older minor, or on the newest, which `make test` runs them on."""
    minors = all_minors()
    same = [each for each in minors if _sqlalchemy(each) == _sqlalchemy(minor)]
    is_tried_elsewhere = minors[-1] in same or same[0] != minor
    return [*_WITHOUT_AIRFLOW, *(_SQL if is_tried_elsewhere else ())]


def _sqlalchemy(minor: str) -> str:
    return _pinned("sqlalchemy", LOCKS / f"airflow-{minor}.txt")


def _tests(environment: Environment, ignored: Sequence[str]) -> tuple[int, Counts]:
    report = environment.folder / "tests.xml"
    report.unlink(missing_ok=True)
    command = [str(environment.python), "-m", "pytest", "tests", "-q", "-m", _SELECTED]
    command += [f"--ignore={folder}" for folder in ignored]
    command += ["-n", "4", "--dist", "worksteal", "-p", "no:cacheprovider", f"--junitxml={report}"]
    try:
        env = {**_without_airflow(), "SMS_LIVE": "1"}
        status = subprocess.run(command, cwd=ROOT, env=env, timeout=_TIME_LIMIT, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"The tests did not end within {_TIME_LIMIT} s.", flush=True)
        status = 1
    return status, read_counts(report) if report.exists() else Counts()


def read_counts(report: Path) -> Counts:
    """Count the tests of a report in JUnit's format."""
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))  # noqa: S314 - pytest's own report

    def total(kind: str) -> int:
        return sum(int(suite.get(kind, "0")) for suite in suites)

    failed, skipped = total("failures") + total("errors"), total("skipped")
    return Counts(total("tests") - failed - skipped, failed, skipped)


def _without_airflow() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PYTEST_"))}


def _pinned(package: str, lock: Path) -> str:
    found = re.search(rf"^{package}==(\S+)$", lock.read_text(), re.MULTILINE)
    return found[1] if found else "?"


def build_wheel(folder: Path) -> Path:
    """Build this checkout's wheel with the tools of this environment.

    :raises EnvironmentFailed: it does not build.
    """
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise EnvironmentFailed(f"{built.stdout}\n{built.stderr}\nThe wheel does not build.")
    return next(folder.glob("*.whl"))


def table(results: Sequence[Result]) -> str:
    """The summary, a line for each minor."""
    lines = [f"{'Airflow':<10}{'result':<28}{'passed':>7}{'failed':>7}{'skipped':>8}{'time':>8}"]
    lines += [
        f"{each.airflow:<10}{each.verdict:<28}{each.counts.passed:>7}{each.counts.failed:>7}"
        f"{each.counts.skipped:>8}{each.seconds:>6.0f} s"
        for each in results
    ]
    return "\n".join(lines)


def main() -> int:
    minors = all_minors()
    parser = argparse.ArgumentParser(prog="make test-matrix", description=__doc__.splitlines()[0])
    parser.add_argument("minors", nargs="*", metavar="MINOR", help=f"of {', '.join(minors)} (default: all)")
    parser.add_argument("--environments", action="store_true", help="only make the environments")
    arguments = parser.parse_args()
    chosen = arguments.minors or minors
    if unknown := [each for each in chosen if each not in minors]:
        print(
            f"There is no lock for Airflow {', '.join(unknown)}; there are {', '.join(minors)}.",
            file=sys.stderr,
        )
        return 2
    try:
        if arguments.environments:
            return make_environments(chosen)
        with tempfile.TemporaryDirectory(prefix="airflow-sms-") as folder:
            wheel = build_wheel(Path(folder))
            results = [run_minor(each, wheel) for each in chosen]
    except EnvironmentFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    total = sum((each.counts for each in results), Counts())
    print(f"\n{table(results)}\n\n{total}", flush=True)
    return 0 if all(each.good for each in results) else 1


if __name__ == "__main__":
    sys.exit(main())
