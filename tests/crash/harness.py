"""Starts the platforms and the process that forks, hands it jobs, and sums up what it tells."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.support.simulator import REPOSITORY, Simulator

DONE = "done"


@dataclass
class Summary:
    """What several runs came to."""

    title: str
    seed: int
    results: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def problems(self) -> list[dict[str, Any]]:
        return [result for result in self.results if result["problems"]]

    @property
    def cuts(self) -> Counter[str]:
        return Counter(cut for result in self.results for cut in result["cuts"])

    def total(self, name: str) -> int:
        return sum(result[name] for result in self.results)

    def __str__(self) -> str:
        lines = [
            f"{self.title}, seed {self.seed}: {len(self.results)} runs, {self.total('tries')} tries, "
            f"{sum(self.cuts.values())} cuts; {self.total('accepted')} phones accepted, {self.total('twice')} twice, "
            f"{self.total('in_doubt')} were in doubt; {self.seconds:.0f} s",
            *(f"    {count:4} {cut}" for cut, count in sorted(self.cuts.items())),
        ]
        return "\n".join(lines)

    def complaint(self) -> str:
        """The first runs that broke a promise, step by step; empty if none did."""
        return "\n\n".join(
            "\n".join(
                [
                    f"{self.title}, run {result['number']} of seed {self.seed}: {'; '.join(result['problems'])}",
                    *(f"  {line}" for line in result["story"]),
                    *(f"  | {line}" for line in result["log"].splitlines()[-60:]),
                ]
            )
            for result in self.problems[:3]
        )


class Harness:
    """`with Harness() as harness:` has two accounts at the platform, and the process that forks."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process: subprocess.Popen[str] | None = None
        self.platforms: list[dict[str, str]] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(
        self,
        what: str,
        title: str,
        url: str,
        seed: int,
        numbers: Iterable[int],
        *,
        within: float = 150.0,
        **more: Any,
    ) -> Summary:
        """Do runs, and sum them up.

        :param what: see `jobs.Job`, as for the other fields.
        :param url: the ledger's.
        :param within: seconds that one run may take.
        :param more: the other fields of a `jobs.Job`.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        job = {
            "what": what,
            "url": url,
            "platforms": self.platforms,
            "seed": seed,
            "numbers": list(numbers),
            "folder": str(self._folder),
            **more,
        }
        began = time.monotonic()
        print(json.dumps(job), file=self._process.stdin, flush=True)
        summary = Summary(title, seed)
        while (line := self._next_line(within)) != DONE:
            summary.results.append(json.loads(line))
        summary.seconds = time.monotonic() - began
        return summary

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="airflow-sms-crashes-"))
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        # Two simulators may come to the same number; the platform does not.
        for conn_id, app_id, style in (
            ("sms_default", "FAKE-APP-ID", "digits"),
            ("sms_other", "FAKE-OTHER-APP-ID", "letters"),
        ):
            simulator = self._stack.enter_context(
                Simulator(
                    *("--balance", "1000000000", "--task-id-style", style),
                    app_id=app_id,
                    app_key="FAKE-APP-KEY-5d41402a",
                )
            )
            self.platforms.append(
                {
                    "conn_id": conn_id,
                    "base_url": simulator.base_url,
                    "app_id": app_id,
                    "app_key": simulator.app_key,
                }
            )
        path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
        self._log = self._folder / "driver.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.crash.driver"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
            )
        self._stack.callback(self._stop)
        threading.Thread(target=self._read, daemon=True).start()

    def _stop(self) -> None:
        assert self._process is not None
        family = psutil.Process(self._process.pid).children(recursive=True) if self._process.poll() is None else []
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        # They die with it; this only waits for that.
        _, alive = psutil.wait_procs(family, timeout=5)
        assert not alive, f"workers that do not end: {alive}"
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _next_line(self, seconds: float) -> str:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"no run came to an end within {seconds:.0f} s\n{self._last_words()}") from None
        assert line is not None, f"the process that forks has ended\n{self._last_words()}"
        return line

    def _last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-40:])


def new_sqlite(folder: Path) -> str:
    """A ledger that nobody has used, to be copied for each run."""
    from airflow_provider_sms.ledger import sqlite_file

    sqlite_file.make(folder / "new.db")
    return f"sqlite:///{folder / 'new.db'}"
