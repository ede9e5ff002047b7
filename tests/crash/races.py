"""Runs in which two workers begin the same campaign at the same moment, and nobody is killed."""

from __future__ import annotations

from dataclasses import replace

from tests.crash.run import MOST_TRIES, Run, start_together
from tests.crash.tries import FAILED, SUCCEEDED


class Race(Run):
    """Two workers begin the same campaign at the same moment, and nobody is killed."""

    def _go(self) -> None:
        in_flight = self.random.choice((1, 1, 3))
        attempts = [replace(self.plain_try(), max_in_flight=in_flight) for _ in range(2)]
        if self.random.random() < 0.5:
            order = tuple(self.random.sample(attempts[1].phones, len(attempts[1].phones)))
            attempts[1] = replace(attempts[1], phones=order, batch_size=self.random.choice((3, 5, 500)))
        for worker in start_together(self, attempts):
            self.finish(worker)
        for _ in range(MOST_TRIES):
            if self.last()[-1].outcome in (SUCCEEDED, FAILED):
                return
            self.finish(self.start(self.plain_try()))
        self.told.problems.append(f"does not end within {MOST_TRIES} tries")
