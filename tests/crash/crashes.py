"""Runs in which workers are killed and stopped, told to end, and find their disk full, until the campaign ends."""

from __future__ import annotations

import itertools
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.crash.jobs import Job
from tests.crash.run import MOST_TRIES, PHONES, Run, start_together
from tests.crash.tries import FAILED, SUCCEEDED, Cut, FullDisk, Try

STORIES = {"killed": 6, "killed_by_the_clock": 2, "stopped": 3, "two_at_once": 2, "told_to_end": 1}
"""How a run may begin, and how often it does."""
ON_SQLITE = {"disk_full": 1, "first_use": 1}
SETTLES = ("after the answer, before the settle", "within: accept", "before the commit: accept")
MOST_CUTS = 3
_SHORT_LEASE = 0.6
_USUAL_TIME = 0.3
_RESOLVE = "airflow-sms resolve "
_FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "cut_before", "on": "send"},
    {"kind": "cut_after", "on": "send"},
    {"kind": "empty", "on": "send"},
    {"kind": "unknown_reason", "on": "send", "accept": True},
    {"kind": "unknown_reason", "on": "send", "accept": False},
    {"kind": "status", "on": "send", "status": 502, "accept": True},
)

# What a first try does not do.
_LATER = ("overtake", "reopen")

Catalogue = dict[tuple[int, int], Counter[str]]
"""How often a try comes to a step, by kind: for batches in flight at once, and -1 or 0 for mapped or not."""


def read_catalogue(job: Job, url: str) -> Catalogue:
    """Find out which steps there are."""
    found: Catalogue = {}
    for in_flight, map_index in itertools.product((1, 3), (-1, 0)):
        run = Run(job, -1, url, f"steps {in_flight} {map_index}")
        attempt = replace(run.plain_try(map_index), max_in_flight=in_flight, lists_steps=True)
        found[in_flight, map_index] = _steps(run, attempt)
    run = Run(job, -1, url, "steps in bad weather")
    run.refused = {f"1380013{0:04d}"}
    run.order_faults([_FAULTS[0]])
    first = _steps(run, replace(run.plain_try(), lists_steps=True, cut=Cut("after the commit: split")))
    second = _steps(run, replace(run.plain_try(), lists_steps=True, cut=Cut("after the request")))
    others = first | second | _steps(run, replace(run.plain_try(), lists_steps=True))
    if run.ledger_file is not None:
        run.ledger_file.unlink()
        others |= _steps(run, replace(run.plain_try(), lists_steps=True))
    for steps in found.values():
        steps.update({kind: count for kind, count in others.items() if kind not in steps})
    return found


def _steps(run: Run, attempt: Try) -> Counter[str]:
    worker = run.start(attempt)
    run.finish(worker)
    assert worker.ended is not None
    assert worker.ended.steps, f"{worker.ended}\n{worker.log.read_text()}"
    return Counter(worker.ended.steps)


class Crash(Run):
    """Kills and stops."""

    def __init__(self, job: Job, number: int, url: str, catalogue: Catalogue) -> None:
        super().__init__(job, number, url)
        self._catalogue = catalogue
        # Threads that are sabotaged as well could keep each other busy for ever.
        self._in_flight = 1 if job.sabotage else self.random.choice((1, 1, 1, 3))
        self._mapped = self.random.random() < 0.25
        self._cuts_left = self.random.randint(1, MOST_CUTS)
        self._first_is_cut = False
        self._changes = self.random.random() < 0.15
        self._kinds = sorted(job.kinds or set().union(*catalogue.values()))
        # Of every kind in turn.
        self._first_kind = self._kinds[number % len(self._kinds)]

    def _go(self) -> None:
        if self.job.sabotage is None:
            # A batch that is never stored as claimed can not be halved: broken like that it would try for ever.
            self._make_weather()
        stories = STORIES | (ON_SQLITE if self.job.url.startswith("sqlite") else {})
        story = self.job.story or self.random.choices(list(stories), list(stories.values()))[0]
        if any(step in self._first_kind for step in _LATER) and story != "first_use":
            self._one(replace(self._next(), cut=Cut("after the request")))
        getattr(self, f"_{story}")()
        if self._changes:
            for map_index in self.handed_in:
                self.change_what_is_handed_in(map_index)
                self._one(self._next(map_index))
        for map_index in (0, 1) if self._mapped else (-1,):
            self._until_it_ends(map_index)

    def _make_weather(self) -> None:
        """Sometimes a phone that is refused, so that batches are halved; sometimes answers that leave in doubt."""
        if "split" in self._first_kind or self.random.random() < 0.15:
            self.refused = {f"1380013{self.random.randrange(PHONES):04d}"}
        faults = []
        if "doubt" in self._first_kind or self.random.random() < 0.15:
            faults = [{**self.random.choice(_FAULTS), "skip": self.random.randrange(4)} for _ in range(2)]
        self.told.story += [f"a phone is refused: 138****{each[-4:]}" for each in self.refused]
        self.told.story += [f"fault after {fault['skip']} requests: {fault['kind']}" for fault in faults]
        self.order_faults(faults)

    def _killed(self) -> None:
        self._one(self._with_cut(self._next()))

    def _killed_by_the_clock(self) -> None:
        self._one(replace(self._next(), cut=Cut("", after=self.random.uniform(0, _USUAL_TIME))))

    def _told_to_end(self) -> None:
        """By SIGTERM, as Airflow does it to a task that is cleared."""
        attempt = self._with_cut(self._next())
        assert attempt.cut is not None
        self._one(replace(attempt, cut=replace(attempt.cut, by=signal.SIGTERM)))

    def _disk_full(self) -> None:
        """With space again before the settle is given up, or only for the next try."""
        attempt = self._with_cut(self._next())
        assert attempt.cut is not None
        kind, pauses = attempt.cut.kind, self.random.choice((1, 3, None))
        self._one(replace(attempt, cut=None, full_disk=FullDisk(kind, pauses)))
        (_, ended), *_ = self.ended
        # In fair weather.
        settles = kind in SETTLES and ended.cut_at and len(self.told.story) == 2
        if settles and pauses is None and not (ended.outcome == FAILED and _RESOLVE in ended.message):
            self.told.problems.append(f"what became of a batch is written nowhere: {ended}")
        if settles and pauses is not None and ended.outcome != SUCCEEDED:
            self.told.problems.append(f"there was space again, and yet: {ended}")
        if ended.outcome == FAILED:
            self.told.story.append("    somebody makes space, and clears it")
            self._one(self._next(attempt.map_index))

    def _first_use(self) -> None:
        """There is no ledger yet; two make it at the same time."""
        assert self.ledger_file is not None
        self.ledger_file.unlink()
        # Or else a ledger that is made only now, by a second try, would be one that has lost what the first did.
        self.began = None
        self._two_at_once()

    def _just_made(self) -> None:
        """There is no ledger yet; the first try makes it, and comes no further."""
        assert self.ledger_file is not None
        self.ledger_file.unlink()
        self._one(replace(self._next(), cut=Cut(self._first_kind)))
        assert self.ledger_file.exists()

    def _two_at_once(self) -> None:
        """A second worker starts at the same time; one of them is killed, or both."""
        attempts = [self._with_cut(self._next()), self._variant(self._next())]
        if self.random.random() < 0.3:
            attempts[1] = self._with_cut(attempts[1])
        self._race(attempts)

    def _stopped(self) -> None:
        """Stopped until its lease is over and another has carried on; then let go again, or killed."""
        first = self._with_cut(replace(self._next(), lease=_SHORT_LEASE, draft_lease=0.02, timeout=10.0))
        assert first.cut is not None
        first = replace(first, cut=replace(first.cut, by=signal.SIGSTOP))
        worker = self.start(first)
        worker.wait()
        if not worker.stopped:
            self.finish(worker)
            return
        self.told.cuts.append(f"stopped {first.cut.kind}")
        same = None
        if self._changes:
            self._changes, same = False, first.map_index
            self.change_what_is_handed_in(same)
        # Stopped within a transaction, it keeps others waiting for as long as they have patience.
        other = self.start(replace(self._variant(self._next(same)), patience=0.5))
        came = other.wait(self.random.choice((0.2, 3.0)))
        if came:
            self.finish(other)
        if self.random.random() < 0.25:
            self.told.story.append("    the stopped one is killed")
            worker.kill()
        else:
            self.told.story.append("    the stopped one goes on")
            worker.go_on()
        for each in (worker,) if came else (other, worker):
            self.finish(each)

    def _until_it_ends(self, map_index: int) -> None:
        for _ in range(MOST_TRIES):
            ended = self.last().get(map_index)
            if ended is not None and ended.outcome in (SUCCEEDED, FAILED):
                return
            attempt = self._next(map_index)
            if self.random.random() < 0.5:
                attempt = self._variant(attempt)
            if self._cuts_left > 0 and self.random.random() < 0.5:
                attempt = self._with_cut(attempt)
            if self.random.random() < 0.15:
                self._race([attempt, self._variant(self._next(map_index))])
            else:
                self._one(attempt)
        self.told.problems.append(f"does not end within {MOST_TRIES} tries")

    def _one(self, attempt: Try) -> None:
        worker = self.start(attempt)
        if attempt.cut is not None and not attempt.cut.kind:
            worker.cut(attempt.cut)
        self.finish(worker)

    def _race(self, attempts: Sequence[Try]) -> None:
        for worker in start_together(self, attempts):
            self.finish(worker)

    def _next(self, map_index: int | None = None) -> Try:
        if map_index is None:
            map_index = self.random.choice((0, 1)) if self._mapped else -1
        return replace(self.plain_try(map_index), max_in_flight=self._in_flight)

    def _variant(self, attempt: Try) -> Try:
        """The same for another worker: after a clear, with what somebody has changed since."""
        changes: dict[str, Any] = {}
        if self.random.random() < 0.5:
            changes["phones"] = tuple(self.random.sample(attempt.phones, len(attempt.phones)))
        if self.random.random() < 0.5:
            changes["batch_size"] = self.random.choice((1, 3, 7, 500))
        if self.random.random() < 0.3:
            changes["sms_conn_id"] = self.job.platforms[-1].conn_id
        if self.random.random() < 0.3 and not self.job.sabotage:
            changes["max_in_flight"] = 4 - self._in_flight
        return replace(attempt, **changes)

    def _with_cut(self, attempt: Try) -> Try:
        """Killed at some step, at one of the occasions that there are."""
        self._cuts_left -= 1
        counts = self._catalogue[self._in_flight, min(attempt.map_index, 0)]
        kind = self.random.choice(self._kinds) if self._first_is_cut else self._first_kind
        self._first_is_cut = True
        return replace(attempt, cut=Cut(kind, self.random.randint(1, max(1, counts[kind]))))
