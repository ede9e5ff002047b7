"""`make demo` and `make airflow` leave no process behind, however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.simulator import wait_until

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]

# A child that is as hard to end as they come: it ignores being asked, and has a child, a grandchild whose
# parent is gone, and a child in a process group of its own.
STUBBORN = """
    import os, pathlib, signal, subprocess, sys, time
    folder = pathlib.Path(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sleep = [sys.executable, "-c", "import time; time.sleep(600)", str(folder)]
    subprocess.Popen(sleep)
    subprocess.Popen(sleep, process_group=0)
    subprocess.run([sys.executable, "-c", "import subprocess, sys; subprocess.Popen(sys.argv[1:])", *sleep])
    (folder / "started").touch()
    time.sleep(600)
"""

# The script that is ended; `ending` decides how.
SCRIPT = """
    import os, sys
    from pathlib import Path
    from scripts.processes import Children, Interrupted
    folder = Path(sys.argv[1])
    try:
        with Children(patience=0.2) as children:
            stubborn = [sys.executable, str(folder / "stubborn.py"), str(folder)]
            children.start("stubborn", stubborn, os.environ, folder / "log")
            children.wait_until((folder / "started").exists)
            (folder / "ready").touch()
            if sys.argv[2] == "error":
                raise ZeroDivisionError
            if sys.argv[2] == "wait":
                children.wait_until(lambda: False)
    except Interrupted as interrupted:
        sys.exit(interrupted.status)
"""


def members(folder: Path) -> list[psutil.Process]:
    """Every process whose arguments name `folder`, but for the dead."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            pass
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "stubborn.py").write_text(textwrap.dedent(STUBBORN))
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    yield tmp_path
    for process in members(tmp_path):
        process.kill()


def start_script(folder: Path, ending: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, folder / "script.py", folder, ending],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.parametrize(("ending", "status"), [("return", 0), ("error", 1)])
def test_nothing_is_left_when_the_script_ends_by_itself(folder: Path, ending: str, status: int) -> None:
    assert start_script(folder, ending).wait(60) == status
    assert (folder / "ready").exists()
    assert members(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_nothing_is_left_when_the_script_is_told_to_stop(folder: Path, number: signal.Signals) -> None:
    script = start_script(folder, "wait")
    wait_until((folder / "ready").exists)
    # The script, the stubborn child and its three.
    assert len(members(folder)) == 5
    script.send_signal(number)
    assert script.wait(60) == 128 + number
    assert members(folder) == []


def test_nothing_is_left_when_it_is_told_while_it_still_starts(folder: Path) -> None:
    script = start_script(folder, "wait")
    wait_until(lambda: len(members(folder)) > 1)
    os.killpg(script.pid, signal.SIGINT)
    assert script.wait(60) == 128 + signal.SIGINT
    assert members(folder) == []


def test_impatience_does_not_cut_the_stopping_short(folder: Path) -> None:
    script = start_script(folder, "wait")
    wait_until((folder / "ready").exists)
    for _ in range(20):
        script.send_signal(signal.SIGINT)
    assert script.wait(60) == 128 + signal.SIGINT
    assert members(folder) == []
