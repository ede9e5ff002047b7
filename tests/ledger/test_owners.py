"""Which process holds a claim, and what proves that it is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_sms.ledger import owners
from airflow_provider_sms.ledger.owners import Life, is_provably_dead, look_at, own_name

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems give no proof")


def named_child() -> tuple[subprocess.Popen[str], str]:
    """A process that tells its name and then waits."""
    program = (
        "import sys; from airflow_provider_sms.ledger.owners import own_name; print(own_name(), flush=True); input()"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    return child, child.stdout.readline().strip()


def test_this_process_is_alive() -> None:
    assert not is_provably_dead(own_name())


def test_another_process_is_alive_until_it_is_killed_even_before_anybody_has_reaped_it() -> None:
    child, name = named_child()
    assert not is_provably_dead(name)
    assert look_at(name) is Life.RUNNING
    os.kill(child.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert not is_provably_dead(name)
    assert look_at(f"{name}/7") is Life.STANDING_STILL
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert is_provably_dead(name)
    child.communicate()
    assert is_provably_dead(name)


def test_a_process_of_the_same_number_that_began_later_is_another_one() -> None:
    *place, pid, start = own_name().split(" ")
    assert is_provably_dead(" ".join([*place, pid, str(int(start) - 1)]))


def test_one_that_the_system_hides_is_not_dead_for_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = own_name()
    for part in ("self/ns/pid", "sys/kernel/random/boot_id"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).symlink_to(Path("/proc") / part)
    monkeypatch.setattr(owners, "_PROC", tmp_path)
    # As with hidepid, where another user's process is in no list and can yet be asked for.
    assert look_at(name) is Life.UNKNOWN
    *place, _, start = name.split(" ")
    assert is_provably_dead(" ".join([*place, "99999999", start]))
    # A folder in the place of the file can not be read at all.
    (tmp_path / str(os.getpid()) / "stat").mkdir(parents=True)
    assert look_at(name) is Life.UNKNOWN


@pytest.mark.parametrize("part", range(3), ids=["host", "boot", "process namespace"])
def test_of_another_place_nothing_is_proven(part: int) -> None:
    name = own_name().split(" ")
    name[part] = "another"
    name[3:] = ["99999999", "1"]
    assert not is_provably_dead(" ".join(name))
    assert look_at(" ".join(name)) is Life.UNKNOWN


@pytest.mark.parametrize("name", ["", "x", "a b c d e", "a b c 1 2 3 4"])
def test_of_a_name_that_is_none_nothing_is_proven(name: str) -> None:
    assert not is_provably_dead(name)
    assert look_at(name) is Life.UNKNOWN


def test_a_forked_child_has_a_name_of_its_own() -> None:
    own_name()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, own_name().encode())
        os._exit(0)
    os.close(writing)
    name = os.read(reading, 1000).decode()
    os.close(reading)
    os.waitpid(child, 0)
    assert name != own_name()
    assert is_provably_dead(name)
