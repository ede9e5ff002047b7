"""The receiver in a process of its own, for tests: started, killed, started again on the same ledger and port.

Knows its command, its settings and its health page, and nothing of how it works.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType

import psutil

from tests.support.databases import _free_port as free_port
from tests.support.forking import Program
from tests.support.simulator import REPOSITORY, wait_until

TOKEN = "FAKE-PUSH-TOKEN-0123456789abcdef"
HOST = "127.0.0.1"
__all__ = ["HOST", "TOKEN", "Receiver", "free_port", "status_of"]


class Receiver:
    """`with Receiver(folder, ledger_url) as receiver:` runs one.

    :param folder: where its log goes.
    :param ledger_url: the ledger's address.
    :param flags: more flags of the command.
    :param settings: more options of `[sms]`.
    """

    def __init__(self, folder: Path, ledger_url: str, *flags: str, **settings: str) -> None:
        self.port = free_port()
        self.log_file = folder / f"receiver-{self.port}.log"
        self._flags = flags
        # The home that the test run has made: a new one costs its own `airflow.cfg`.
        self._env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
            "AIRFLOW__SMS__SQL_ALCHEMY_CONN": ledger_url,
            "AIRFLOW__SMS__PUSH_TOKENS": TOKEN,
            **{f"AIRFLOW__SMS__{name.upper()}": value for name, value in settings.items()},
        }
        self.process: Program | None = None

    def __enter__(self) -> Receiver:
        try:
            self.start()
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and do not wait."""
        arguments = ["receiver", "--host", HOST, "--port", str(self.port), *self._flags]
        self.process = Program("airflow_provider_sms", arguments, self._env, self.log_file)

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Wait until it says that it is well."""

        def is_ready() -> bool:
            assert self.is_running, f"the receiver ended:\n{self.log()}"
            return self.health() == 200

        wait_until(is_ready, seconds)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def health(self) -> int | None:
        """The status of its health page; None if nobody answers."""
        return status_of(self.port, "/sms/health")

    def processes(self) -> list[psutil.Process]:
        """Its process and its workers."""
        assert self.process is not None
        main = psutil.Process(self.process.pid)
        return [main, *main.children(recursive=True)]

    def memory(self) -> int:
        """Bytes of memory that its processes hold."""
        total = 0
        for each in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
        return total

    def kill(self) -> None:
        """SIGKILL to it and its workers: it leads a process group of its own."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def stop(self, seconds: float = 20) -> None:
        """End it as a supervisor would. May be called twice."""
        if self.process is None or not self.is_running:
            return
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it does not stop within {seconds} s:\n{self.log()}") from None

    def log(self) -> str:
        """All that it and those before it on this port wrote."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""


def status_of(port: int, page: str) -> int | None:
    """The status of a page; None if nobody answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", page)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
