"""Processes without a slow start: forked from one that has imported Airflow and what else takes its time.

Knows nothing of what they do.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

_IMPORTED = ["airflow", "alembic", "uvicorn", "airflow_provider_sms.ledger.matching"]


@cache
def forking() -> ForkServerContext:
    """How `multiprocessing` starts them. One for all: what is imported beforehand is said once in a process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


class Program:
    """`python -m module arguments…` in a session of its own; as much of a `subprocess.Popen` as tests need.

    Airflow is in it already, with the AIRFLOW_HOME of the test run. As a context it is killed at the end, if it runs.

    :param module: or `-c`, and the first argument is the program's text.
    :param env: its whole environment.
    :param log: the file that its output is appended to.
    :param errors: the file that its standard error is appended to, if not that one, too.
    :param stdin: the file that it reads.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        errors: Path | None = None,
        stdin: Path = Path(os.devnull),
    ) -> None:
        files = (stdin, log, errors or log)
        begun, begins = forking().Pipe(duplex=False)
        with begun, begins:
            self._process = forking().Process(target=_run, args=(module, list(arguments), dict(env), files, begins))
            self._process.start()
            # From then on it can be killed with all that it starts.
            assert begun.poll(60)
        assert self._process.pid is not None
        self.pid = self._process.pid

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *problem: object) -> None:
        self.send_signal(signal.SIGKILL)
        self.wait(30)

    def poll(self) -> int | None:
        """Its exit status, None as long as it runs; a signal's number as a negative one."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """
        :raises subprocess.TimeoutExpired: it still runs.
        """
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout)
        return status

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def run(
    module: str, *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a `Program` to its end.

    :param env: its whole environment, by default the one of this process.
    :param stdin: what it reads.
    """
    with tempfile.TemporaryDirectory() as folder:
        reads, output, errors = (Path(folder, name) for name in ("stdin", "stdout", "stderr"))
        reads.write_text(stdin)
        with Program(module, arguments, os.environ if env is None else env, output, errors, reads) as program:
            status = program.wait(timeout)
        return subprocess.CompletedProcess([module, *arguments], status, output.read_text(), errors.read_text())


def _run(
    module: str, arguments: list[str], env: dict[str, str], files: tuple[Path, Path, Path], begins: Connection
) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    stdin, output, errors = files
    with stdin.open("rb") as reads, errors.open("ab") as says:
        os.dup2(reads.fileno(), 0)
        os.dup2(says.fileno(), 2)
        # Airflow has been loaded, and has taken this for its log. A program of ours has its log go to standard error.
        os.dup2(says.fileno(), 1)
    sys.stdout = output.open("a")
    # `multiprocessing` has put something else in its place.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as long as the process
    sys.argv = [module, *arguments]
    begins.send_bytes(b"begun")
    begins.close()
    if module == "-c":
        exec(arguments[0], {"__name__": "__main__"})
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
