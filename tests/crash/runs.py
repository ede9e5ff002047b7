"""Does the runs of a job, each on a ledger of its own where that is a file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.crash.crashes import Catalogue, Crash, read_catalogue
from tests.crash.jobs import Job, Result
from tests.crash.races import Race
from tests.crash.run import Run

_catalogues: dict[str, Catalogue] = {}


def run_all(job: Job) -> Iterator[Result]:
    """Do the runs, one after the other."""
    if job.what == "steps":
        yield Result(0, cuts=sorted(set().union(*_catalogue(job).values())))
        return
    for number in job.numbers:
        with _ledger(job) as url:
            result = _run(job, number, url).result()
        yield result
        if result.problems and job.sabotage:
            return


def _run(job: Job, number: int, url: str) -> Run:
    if job.what == "races":
        return Race(job, number, url)
    return Crash(job, number, url, _catalogue(job))


def _catalogue(job: Job) -> Catalogue:
    """Which steps there are with this kind of ledger: looked up once."""
    kind = job.url.partition(":")[0]
    if kind not in _catalogues:
        with _ledger(job) as url:
            _catalogues[kind] = read_catalogue(replace(job, sabotage=None), url)
    return _catalogues[kind]


@contextmanager
def _ledger(job: Job) -> Iterator[str]:
    """The ledger of one run: a copy of a SQLite file, or the one database that all runs of a server share."""
    if not job.url.startswith("sqlite:///"):
        yield job.url
        return
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        yield f"sqlite:///{shutil.copy(job.url.removeprefix('sqlite:///'), folder)}"
