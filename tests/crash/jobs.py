"""What the harness is asked to do, and what it tells about each run. Only data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.books import Platform


@dataclass(frozen=True)
class Job:
    """What to do.

    :param what: `crashes`, `races`, or `steps` to be told in `cuts` which kinds of steps there are.
    :param url: the ledger's; a SQLite file is copied for each run.
    :param numbers: which runs.
    :param sabotage: see `sabotage`; ends at the first broken promise then.
    :param story: what happens first, one of `STORIES`; empty for any of them.
    :param kinds: the kinds of steps at which it happens, in turn; empty for all.
    """

    what: str
    url: str
    platforms: tuple[Platform, ...]
    seed: int
    numbers: Sequence[int]
    folder: Path
    sabotage: str | None = None
    story: str = ""
    kinds: Sequence[str] = ()


@dataclass
class Result:
    """What became of one run.

    :param story: what was done, in order.
    :param problems: the promises that were broken.
    :param cuts: the steps at which processes were killed or stopped.
    """

    number: int
    story: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    accepted: int = 0
    twice: int = 0
    in_doubt: int = 0
    tries: int = 0
    log: str = ""
