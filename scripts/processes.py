"""Child processes that never outlive the script: started in sessions of their own, ended whatever happens.

Knows nothing of Airflow. A signal (Ctrl-C, SIGTERM, a closed terminal) is only noted by its handler and acted
on at the next look, a moment later: it can not fall between a child's start and its registration.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

import psutil

_LOOK_EVERY = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """Somebody wants the script to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


class ChildFailed(Exception):
    """A child ended when it should not have, or did not get ready in time."""

    def __init__(self, message: str, log: Path) -> None:
        super().__init__(message)
        self.log = log


@dataclass(frozen=True)
class Child:
    """A process in a session of its own; its output goes to a file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check_alive(self) -> None:
        """:raises ChildFailed: it has ended."""
        status = self.process.poll()
        if status is not None:
            raise ChildFailed(f"{self.name} ended with status {status}", self.log)


class Children:
    """All child processes of a script; leaving the context ends them, and what they started in turn."""

    def __init__(self, patience: float = 10) -> None:
        self._patience = patience
        self._children: list[Child] = []
        self._signal: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Children:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number

    def check(self) -> None:
        """:raises Interrupted: a signal has come."""
        if self._signal is not None:
            raise Interrupted(self._signal)

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path) -> Child:
        """Start a program that goes on until it is stopped.

        :param log: where its output is appended.
        """
        self.check()
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def run(self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        """Run a program to its end.

        :raises ChildFailed: its status is not 0.
        """
        child = self.start(name, command, env, log)
        self.wait_until(lambda: child.process.poll() is not None)
        self._children.remove(child)
        _end([child], patience=1)
        if child.process.returncode:
            raise ChildFailed(f"{name} failed with status {child.process.returncode}", log)

    def wait_until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait, looking again and again.

        :param seconds: how long at most; None for as long as it takes.
        :returns: False if the time was over first.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while not condition():
            self.check()
            if deadline is not None and time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_EVERY)
        return True

    def stop_all(self) -> None:
        """End every child and whatever it started; asks first, and kills what does not go."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        _end(list(reversed(self._children)), self._patience)
        self._children.clear()


def _end(children: Sequence[Child], patience: float) -> None:
    families = {child.process.pid: _family(child) for child in children}
    for child in children:
        if child.process.poll() is None:
            child.process.terminate()
    _wait_for([child.process.pid for child in children], patience)
    # Looked at once more: what was started in the meantime, and what its own parent did not take along.
    rest = {member for child in children for member in families[child.process.pid] | _family(child)}
    _signal_all(rest, signal.SIGTERM)
    _, alive = psutil.wait_procs([member for member in rest if member.is_running()], timeout=min(patience, 3))
    _signal_all(set(alive), signal.SIGKILL)
    psutil.wait_procs(alive, timeout=5)
    for child in children:
        child.process.wait()


def _family(child: Child) -> set[psutil.Process]:
    """The child, what it started, and whatever else lives in its session after its own parent died."""
    leader = child.process.pid
    members = {each for each in psutil.process_iter() if _session_of(each.pid) == leader}
    for member in list(members):
        try:
            members.update(member.children(recursive=True))
        except psutil.NoSuchProcess:
            pass
    return members


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _wait_for(pids: Sequence[int], seconds: float) -> None:
    processes = []
    for pid in pids:
        try:
            processes.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(processes, timeout=seconds)


def _signal_all(processes: set[psutil.Process], number: int) -> None:
    for each in processes:
        try:
            each.send_signal(number)
        except psutil.NoSuchProcess:
            pass
