"""Which process holds a claim, and whether that process is provably dead. Knows the operating system only."""

from __future__ import annotations

import itertools
import os
import socket
from enum import Enum
from functools import lru_cache
from pathlib import Path

_PROC = Path("/proc")
_LONGEST_HOST = 100
_STOPPED = (b"T", b"t")
_claimants = itertools.count(1)


def own_name() -> str:
    """Name this process so that no other process, before or after it, here or elsewhere, has the same name.

    :returns: host, boot, process namespace, process id and its start, with blanks between them.
    """
    return _own_name(os.getpid())


@lru_cache(maxsize=1)
def _own_name(pid: int) -> str:
    return " ".join((*_place(), str(pid), _start(pid) or "-"))


def new_claimant() -> str:
    """Name one of this process's claimants, which are not to be taken for each other.

    Of two threads that claim the same batch, one may not know whether it got it. By one name for both, what it
    gives back to be on the safe side would be the other's.
    """
    return f"{own_name()}/{next(_claimants)}"


class Life(Enum):
    """What this machine can tell of a process."""

    DEAD = "dead"
    RUNNING = "running"
    # By SIGSTOP, or by a debugger.
    STANDING_STILL = "standing still"
    UNKNOWN = "unknown"


def is_provably_dead(name: str) -> bool:
    """Tell whether the process of that name has ended: True only if this very machine can prove it.

    :param name: what `own_name` gave that process, or `new_claimant` one of its claimants.
    """
    return look_at(name) is Life.DEAD


def look_at(name: str) -> Life:
    """Tell what has become of the process of that name."""
    try:
        *place, pid, start = name.split(" ")
        number = int(pid)
        start, _, _ = start.partition("/")
    except ValueError:
        return Life.UNKNOWN
    # Another host, another container or another boot: nothing here says anything about it.
    if tuple(place) != _place() or "-" in (*place, start):
        return Life.UNKNOWN
    state, started = _stat(number)
    if started == "-":
        return Life.UNKNOWN
    if started != start:
        return Life.DEAD
    return Life.STANDING_STILL if state in _STOPPED else Life.RUNNING


def shown(name: str) -> str:
    """Say which process that is, for people."""
    host, _, rest = name.partition(" ")
    pid = rest.split(" ")[2:3]
    return f"process {pid[0]} on {host}" if pid else f"process {name!r}"


def _place() -> tuple[str, str, str]:
    host = socket.gethostname().replace(" ", "_")[:_LONGEST_HOST] or "-"
    return host, _boot_id(), _namespace()


def _boot_id() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip() or "-"
    except OSError:
        return "-"


def _namespace() -> str:
    """Containers of one host can share its name, and number their processes alike."""
    try:
        return str((_PROC / "self/ns/pid").stat().st_ino)
    except OSError:
        return "-"


def _start(pid: int) -> str | None:
    """When a process started, in ticks since the boot; None if it has ended."""
    return _stat(pid)[1]


def _stat(pid: int) -> tuple[bytes, str | None]:
    """A process's state, and when it started, in ticks since the boot: None if it has ended, "-" if nobody can tell."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b"", None if _is_gone(pid) else "-"
    except OSError:
        return b"", "-"
    # The name in brackets may hold blanks and brackets.
    state, *fields = stat[stat.rindex(b")") + 2 :].split()
    ended = state in (b"Z", b"X")
    return state, None if ended else fields[18].decode()


def _is_gone(pid: int) -> bool:
    """Ask the system itself: there may be no /proc, or one that hides the processes of other users (hidepid)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False
