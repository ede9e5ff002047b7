"""One run of one campaign, and what is known of it so far: tries, how they ended, which promises are broken.

The same seed and number make the same run, as far as the clock allows.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.crash import promises
from tests.crash.books import Auditor, Books, wait_for_platforms
from tests.crash.jobs import Job, Result
from tests.crash.tries import FAILED, SUCCEEDED, Ended, HandedIn, Try, own_text
from tests.crash.worker import LONGEST_TRY, Worker

PHONES = 23
BATCH_SIZE = 5
MOST_TRIES = 12
_BAD_PHONE = "手机号码格式不正确"


class Run:
    """One run, and what is known of it so far."""

    def __init__(self, job: Job, number: int, url: str, name: str | None = None) -> None:
        self.job = job
        self.number = number
        self.began: datetime | None = datetime.now(UTC)
        # Every third one; not where the harness tests itself or finds out which steps there are.
        self.has_own_texts = number > 0 and number % 3 == 2 and job.sabotage is None
        self.random = random.Random(f"{job.seed} {job.what} {number} {job.sabotage}")
        self.run_id = f"{job.what} {job.seed} {name or number} {job.sabotage or ''} {os.getpid()}".strip()
        self.ledger_file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite") else None
        self.auditor = Auditor(url)
        self.log = job.folder / "worker.log"
        self.log.unlink(missing_ok=True)
        self.told = Result(number)
        self.handed_in: dict[int, HandedIn] = {}
        self.ended: list[tuple[Try, Ended]] = []
        self.tries: Counter[int] = Counter()
        self.environment = {"AIRFLOW__SMS__SQL_ALCHEMY_CONN": url, "AIRFLOW__SMS__ALLOW_SQLITE": "True"}
        self.refused: set[str] = set()
        for platform in job.platforms:
            platform.reset()

    def plain_try(self, map_index: int = -1) -> Try:
        """The next try, with nothing special about it."""
        if map_index not in self.handed_in:
            self.handed_in[map_index] = HandedIn(self._phones(max(0, map_index)))
        self.tries[map_index] += 1
        timeout = 10.0
        return Try(
            self.run_id,
            self.handed_in[map_index].items,
            number=self.tries[map_index],
            map_index=map_index,
            batch_size=BATCH_SIZE,
            timeout=timeout,
            has_own_texts=self.has_own_texts,
            sabotage=self.job.sabotage,
            environment={**self.environment, **self._connections(timeout)},
        )

    def start(self, attempt: Try, gate: int | None = None) -> Worker:
        self.told.tries += 1
        cut = f", to be {attempt.cut}" if attempt.cut is not None else ""
        self.told.story.append(f"{attempt}{cut}")
        return Worker(attempt, self.began, self.log, gate)

    def finish(self, worker: Worker, seconds: float = LONGEST_TRY) -> None:
        """Wait for its end, and write it down."""
        if not worker.wait(seconds):
            worker.kill()
            self.told.problems.append(f"did not end within {seconds:.0f} s: {worker.attempt}")
        assert worker.ended is not None
        self.ended.append((worker.attempt, worker.ended))
        # Of several at once, whichever was waited for last.
        self.ended.sort(key=lambda each: each[1].at)
        self.told.story.append(f"    try {worker.attempt.number} {worker.ended}")
        if worker.ended.cut_at and worker.attempt.full_disk:
            self.told.cuts.append(f"disk full {worker.ended.cut_at}")
        elif worker.ended.cut_at and not (worker.attempt.cut and worker.attempt.cut.by == signal.SIGSTOP):
            verb = worker.attempt.cut.verb if worker.attempt.cut else "killed"
            self.told.cuts.append(f"{verb} {worker.ended.cut_at}")
        if worker.ended.cut_at == "nobody knows why":
            self.told.problems.append("a worker ended without a word")

    def last(self) -> dict[int, Ended]:
        """How the last try ended, by map index; of several at once, with the longest list of taskIds that was told."""
        found: dict[int, Ended] = {}
        for map_index in self.handed_in:
            tries = [ended for attempt, ended in self.ended if attempt.map_index == map_index]
            if tries:
                began = max(each.began for each in tries)
                pushed = max((each.pushed or [] for each in tries if each.at >= began), key=len)
                found[map_index] = replace(tries[-1], pushed=pushed)
        return found

    def change_what_is_handed_in(self, map_index: int) -> None:
        """From now on, some phones are missing, and others are new."""
        items = list(self.handed_in[map_index].items)
        new = [f"1380013{5000 + number:04d}" for number in range(self.random.randint(0, 3))]
        kept = self.random.sample(items, len(items) - self.random.randint(0, 3))
        self.told.story.append(f"    {len(items) - len(kept)} items are taken out, {len(new)} added")
        self.handed_in[map_index] = HandedIn((*kept, *new), tuple(items))

    def _taken_in(self) -> dict[int, HandedIn]:
        """What was handed in to a try that came to an end by itself; before that nobody can know of it."""
        taken_in = dict(self.handed_in)
        for map_index, handed in self.handed_in.items():
            ends = [ended.outcome for attempt, ended in self.ended if set(attempt.phones) == set(handed.items)]
            if handed.before is not None and not {SUCCEEDED, FAILED}.intersection(ends):
                taken_in[map_index] = HandedIn(handed.before, handed.items)
        return taken_in

    def check(self) -> Books:
        """See whether all promises hold, at rest."""
        wait_for_platforms(self.job.platforms, [ended for _, ended in self.ended])
        books, accepted = self.auditor.read(self.run_id), promises.sent(self.job.platforms)
        self.told.problems += promises.broken(books, accepted, self._taken_in(), self.last())
        self.told.problems += promises.wrong_texts(self.job.platforms, own_text if self.has_own_texts else None)
        self.told.accepted = len(accepted)
        self.told.twice = sum(len(batches) > 1 for batches in accepted.values())
        return books

    def settle_and_clear(self, books: Books) -> None:
        """Settle truthfully what is in doubt, and clear once more: then everybody has been texted once."""
        self.order_faults(())
        for batch in books.batches:
            if batch.state == "in_doubt":
                self.told.in_doubt += len(batch.phones)
                task_id = promises.who_was_texted(batch, self.job.platforms)
                self.told.story.append(f"    batch {batch.number} settled: {'sent' if task_id else 'not sent'}")
                self.auditor.settle(batch, task_id)
        for map_index in self.handed_in:
            self.finish(self.start(self.plain_try(map_index)))
        books = self.check()
        accepted = promises.sent(self.job.platforms)
        self.told.problems += promises.still_to_do(books, accepted, self.last(), self.refused)

    def order_faults(self, faults: Sequence[dict[str, Any]]) -> None:
        """Let the platforms answer badly, and never take the refused phones."""
        bad = [{"kind": "refuse", "message": _BAD_PHONE, "phone": each, "times": None} for each in self.refused]
        for platform in self.job.platforms:
            platform.order(*bad, *faults)

    def result(self) -> Result:
        """Do it."""
        try:
            self._go()
            books = self.check()
            if not self.told.problems:
                self.settle_and_clear(books)
        except Exception as error:
            self.told.problems.append(f"the harness itself: {type(error).__name__}: {error}")
        if self.told.problems and self.log.exists():
            self.told.log = self.log.read_text(errors="replace")[-20_000:]
        return self.told

    def _go(self) -> None:
        raise NotImplementedError

    def _phones(self, instance: int) -> tuple[str, ...]:
        """Phones of one instance; those of two mapped ones overlap."""
        first = instance * (PHONES - 8)
        phones = [f"1380013{number:04d}" for number in range(first, first + PHONES)]
        phones += self.random.sample(phones, self.random.randint(0, 3)) + ["12345"] * self.random.randint(0, 1)
        return tuple(self.random.sample(phones, len(phones)))

    def _connections(self, timeout: float) -> dict[str, str]:
        return {f"AIRFLOW_CONN_{each.conn_id.upper()}": each.connection(timeout) for each in self.job.platforms}


def start_together(run: Run, attempts: Sequence[Try]) -> list[Worker]:
    """Start several workers that wait for each other before they begin."""
    gate, opener = os.pipe()
    # A worker inherits the opener: what they wait for is a byte each, not its closing.
    workers = [run.start(attempt, gate) for attempt in attempts]
    os.write(opener, b"." * len(workers))
    os.close(gate)
    os.close(opener)
    return workers
