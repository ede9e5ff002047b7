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

    :param env: its whole environment.
    :param log: the file that its output is appended to.
    """

    def __init__(self, module: str, arguments: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        begun, begins = forking().Pipe(duplex=False)
        with begun, begins:
            self._process = forking().Process(target=_run, args=(module, list(arguments), dict(env), log, begins))
            self._process.start()
            # From then on it can be killed with all that it starts.
            assert begun.poll(60)
        assert self._process.pid is not None
        self.pid = self._process.pid

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


def _run(module: str, arguments: list[str], env: dict[str, str], log: Path, begins: Connection) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(env)
    with log.open("ab") as output, Path(os.devnull).open("rb") as nothing:
        for ours, standard in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(ours.fileno(), standard)
    # `multiprocessing` has put something else in its place.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as long as the process
    sys.argv = [module, *arguments]
    begins.send_bytes(b"begun")
    begins.close()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
