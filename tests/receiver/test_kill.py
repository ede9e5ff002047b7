"""A push that was answered 200 is in the ledger, whatever dies next: the receiver is killed under load.

A sample by itself; all of it with SMS_RECEIVER_KILLS=100. SMS_RECEIVER_SEED repeats a run's choices.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Hashable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_provider_sms.ledger import versions
from airflow_provider_sms.ledger.database import Ledger, read_url
from airflow_provider_sms.ledger.schema import receipt_table, reply_table
from tests.support.push_load import Load, Receipt, Reply, request
from tests.support.receiver_process import TOKEN, Receiver
from tests.support.simulator import wait_until

SAMPLE = 4
KILLS = int(os.environ.get("SMS_RECEIVER_KILLS", SAMPLE))
SEED = int(os.environ.get("SMS_RECEIVER_SEED", 1 if KILLS == SAMPLE else random.SystemRandom().randrange(10**6)))
CONNECTIONS = 24
# A life ends after that many answers at most, so that a kill meets new and warm processes alike.
LONGEST_LIFE = 1500
ADDRESS = f"/sms/push?token={TOKEN}"
Push = Receipt | Reply

pytestmark = [pytest.mark.crash, pytest.mark.once, pytest.mark.timeout(120 + 30 * KILLS)]


class Sender:
    """Makes pushes without end, repeats some of them, and notes which were answered 200."""

    def __init__(self, chance: random.Random) -> None:
        self.sent: set[Push] = set()
        self.answered: Counter[Push] = Counter()
        self.answers = 0
        self.statuses: Counter[int] = Counter()
        self.ends = False
        self._chance = chance
        self._known: list[Push] = []

    def requests(self) -> Iterator[tuple[Hashable, bytes]]:
        """What to send: a push, or one that was answered before, on whichever life of the receiver that was."""
        number = 0
        while not self.ends:
            number += 1
            if self._known and self._chance.random() < 0.1:
                push = self._chance.choice(self._known)
            else:
                push = self._new(number)
                self.sent.add(push)
            yield (push, number), request(ADDRESS, push.body())

    def note(self, key: Hashable, status: int) -> None:
        """Told by the load."""
        push: Push = key[0]  # type: ignore[index]
        self.answers += 1
        self.statuses[status] += 1
        if status == 200:
            self.answered[push] += 1
            self._known.append(push)

    def _new(self, number: int) -> Push:
        # 500 phones a batch, several batches at once; of a phone there may be more receipts than one.
        taskid, mobile = f"{33_000 + number // 2000}{number % 4}", f"1380013{number // 4 % 500:04d}"
        at = f"2026-07-23 17:{number // 60 % 60:02d}:{number % 60:02d}"
        if number % 10 == 0:
            return Reply(taskid, mobile, f"收到 {number}", at)
        return Receipt(taskid, mobile, "1", f"MA:{number:07d}", at)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_was_answered_is_stored_once_whatever_dies(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}" if kind == "sqlite" else request.getfixturevalue("postgresql_url")
    ledger = Ledger(read_url(url))
    versions.upgrade(ledger)
    chance = random.Random(SEED)
    sender = Sender(chance)
    receiver = Receiver(tmp_path, url)
    try:
        receiver.start()
        with Load(receiver.port, sender.requests(), CONNECTIONS, sender.note) as load:
            for _ in range(KILLS):
                until = sender.answers + chance.randint(1, LONGEST_LIFE)
                wait_until(lambda enough=until: sender.answers >= enough or load.is_done, 60)  # type: ignore[misc]
                assert not load.is_done, load.problem
                receiver.kill()
                receiver.start()
            # Whatever got no 200 is sent once more by the load itself, to the last life.
            sender.ends = True
            load.wait(60)
        receiver.stop()
        lost = load.lost
    finally:
        receiver.kill()
    stored = _stored(ledger)
    ledger.close()

    if KILLS != SAMPLE:
        with capsys.disabled():
            print(
                f"\n{kind}: {KILLS} kills, seed {SEED}: {len(sender.sent):,} pushes, answered 200 "
                f"{sender.answered.total():,} times, {lost} cut off, {len(stored):,} rows; {dict(sender.statuses)}"
            )
    told = f"seed {SEED}"
    assert set(sender.answered) == sender.sent, told
    # Something was under way when it died, and something was repeated: else this proves nothing.
    assert lost > 0, told
    assert sender.answered.total() > len(sender.sent), told
    assert sender.sent - set(stored) == set(), told
    assert {push: rows for push, rows in stored.items() if rows > 1} == {}, told
    assert set(stored) - sender.sent == set(), told


def _stored(ledger: Ledger) -> Counter[Push]:
    receipts, replies = receipt_table.c, reply_table.c
    with ledger.reading() as connection:
        found: Counter[Push] = Counter(
            Receipt(*row)
            for row in connection.execute(
                select(receipts.taskid, receipts.mobile, receipts.status, receipts.code, receipts.receivetime)
            )
        )
        found.update(
            Reply(*row)
            for row in connection.execute(select(replies.taskid, replies.mobile, replies.content, replies.receivetime))
        )
    return found
