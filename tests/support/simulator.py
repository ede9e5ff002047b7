"""The simulator in a process of its own, for tests: started, asked, told what to do, stopped.

Knows its pages and its flags, and nothing of how it works.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

REPOSITORY = Path(__file__).resolve().parents[2]
_LISTENING = "listening on "


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Return as soon as `condition` holds; fail if that takes longer than `seconds`."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < until, f"this did not happen within {seconds} s"
        pause.wait(0.01)


class Simulator:
    """`with Simulator("--balance", "5") as simulator:` runs one; extra arguments are flags of the command."""

    base_url: str
    process: subprocess.Popen[str]

    def __init__(self, *flags: str, app_id: str = "SIMULATOR-APP-ID", app_key: str = "simulator-app-key") -> None:
        self.app_id = app_id
        self.app_key = app_key
        self.banner: list[str] = []
        self._flags = flags
        self._stderr: IO[bytes] | None = None

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, seconds: float = 30) -> None:
        """Start it and wait until it listens."""
        command = [sys.executable, "-m", "airflow_provider_sms.simulator", "--port", "0"]
        command += ["--app-id", self.app_id, "--app-key", self.app_key, *self._flags]
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read_stdout, args=(lines,), daemon=True).start()
        until = time.monotonic() + seconds
        try:
            while True:
                line = lines.get(timeout=max(0.01, until - time.monotonic()))
                assert line is not None, f"the simulator ended: {self.log()}"
                self.banner.append(line)
                if line.startswith(_LISTENING):
                    self.base_url = line.removeprefix(_LISTENING)
                    return
        except (queue.Empty, AssertionError):
            problem = self.log()
            self.stop()
            raise AssertionError(f"the simulator does not listen: {problem}") from None

    def stop(self, seconds: float = 15) -> int:
        """End it by its own process id; its exit status. May be called twice."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait(seconds)
        if self._stderr is not None:
            self._last_log = self.log()
            self._stderr.close()
            self._stderr = None
        return status

    def as_connection(self, **extra: object) -> str:
        """An Airflow connection to it, as the environment holds one."""
        fields = {"conn_type": "sms", "host": self.base_url, "login": self.app_id, "password": self.app_key}
        return json.dumps({**fields, "extra": json.dumps(extra)})

    # Its pages

    def accepted(self) -> list[dict[str, Any]]:
        """The batches accepted so far, oldest first."""
        return self._ask("GET", "accepted")  # type: ignore[no-any-return]

    def requests(self) -> dict[str, Any]:
        """`counters`, `outcomes` and the last `requests`."""
        return self._ask("GET", "requests")  # type: ignore[no-any-return]

    def pushes(self) -> dict[str, Any]:
        """`pending`, `done`, `answered200`, `withoutAddress` and the last `pushes`."""
        return self._ask("GET", "pushes")  # type: ignore[no-any-return]

    def fault(self, kind: str, **fields: object) -> None:
        """Order a fault for the next request that fits."""
        self._ask("POST", "faults", {"kind": kind, **fields})

    def faults(self) -> list[dict[str, Any]]:
        """Faults that still wait for their request."""
        return self._ask("GET", "faults")  # type: ignore[no-any-return]

    def clear_faults(self) -> None:
        self._ask("DELETE", "faults")

    def settings(self, **changes: object) -> dict[str, Any]:
        """Change switches if any are given; all of them as they then stand."""
        if not changes:
            return self._ask("GET", "settings")  # type: ignore[no-any-return]
        return self._ask("POST", "settings", changes)  # type: ignore[no-any-return]

    def reset(self) -> None:
        """As after its start, except that taskIds go on."""
        self._ask("POST", "reset", {})

    def reply(self, mobile: str, content: str, taskid: str | None = None) -> None:
        """Let a person answer a text."""
        fields = {"mobile": mobile, "content": content, "taskid": taskid}
        self._ask("POST", "replies", {name: value for name, value in fields.items() if value is not None})

    def wait_for_pushes(self, seconds: float = 15) -> dict[str, Any]:
        """Wait until no push is pending any more; the page of pushes."""
        wait_until(lambda: self.pushes()["pending"] == 0, seconds)
        return self.pushes()

    def log(self) -> str:
        """What it wrote to stderr so far."""
        if self._stderr is None:
            return self._last_log
        # pread: the process writes at the position that a seek of ours would move.
        return os.pread(self._stderr.fileno(), 1 << 26, 0).decode("utf-8", "replace")

    def connection(self, timeout: float = 30) -> http.client.HTTPConnection:
        """A connection to it that the caller closes."""
        parts = urllib.parse.urlsplit(self.base_url)
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)

    def ask_page(self, method: str, page: str, body: bytes | None = None) -> tuple[int, Any]:
        """Status and JSON of one of its own pages."""
        with self._closing() as connection:
            connection.request(method, "/_simulator/" + page, body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    @contextlib.contextmanager
    def _closing(self) -> Iterator[http.client.HTTPConnection]:
        connection = self.connection()
        try:
            yield connection
        finally:
            connection.close()

    def _ask(self, method: str, page: str, body: object = None) -> Any:
        status, shown = self.ask_page(method, page, None if body is None else json.dumps(body).encode())
        assert status == 200, shown
        return shown

    def _read_stdout(self, lines: queue.Queue[str | None]) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                lines.put(line.rstrip("\n"))
        lines.put(None)
