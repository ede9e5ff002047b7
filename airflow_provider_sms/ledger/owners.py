"""Which process holds a claim, and whether that process is provably dead. Knows the operating system only."""

from __future__ import annotations

import itertools
import os
import socket
from functools import lru_cache
from pathlib import Path

_PROC = Path("/proc")
_LONGEST_HOST = 100
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


def is_provably_dead(name: str) -> bool:
    """Tell whether the process of that name has ended: True only if this very machine can prove it.

    :param name: what `own_name` gave that process, or `new_claimant` one of its claimants.
    """
    try:
        *place, pid, start = name.split(" ")
        number = int(pid)
        start, _, _ = start.partition("/")
    except ValueError:
        return False
    # Another host, another container or another boot: nothing here says anything about it.
    if tuple(place) != _place() or "-" in (*place, start):
        return False
    return _start(number) != start


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
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        # Without a /proc there is no proof either.
        return None if (_PROC / "self/stat").exists() else "-"
    except OSError:
        return "-"
    # The name in brackets may hold blanks and brackets.
    state, *fields = stat[stat.rindex(b")") + 2 :].split()
    ended = state in (b"Z", b"X")
    return None if ended else fields[18].decode()
