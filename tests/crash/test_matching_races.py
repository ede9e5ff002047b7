"""Several processes match at once and are killed at any moment, or threads do: each phone counts once all the same."""

from __future__ import annotations

import random
import threading
from multiprocessing.process import BaseProcess

import pytest

from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.matching import Matcher, settle
from tests.support import matching_process
from tests.support.campaigns import Campaigns, Platform
from tests.support.forking import forking
from tests.support.heard import counts_agree, deliveries, marks, receipt
from tests.support.simulator import wait_until

pytestmark = pytest.mark.crash

PHONES = [f"138{number:08d}" for number in range(120)]


@pytest.fixture
def campaigns(any_ledger: Ledger) -> Campaigns:
    """A campaign of sixty batches in a ledger of each kind."""
    campaigns = Campaigns(any_ledger)
    campaigns.run(Platform(), PHONES)
    return campaigns


def push_some(campaigns: Campaigns, rounds: int) -> tuple[int, int]:
    """Push several receipts a phone, in any order.

    :returns: for how many phones there is a final one, and for how many there are two that disagree.
    """
    chance = random.Random(rounds)
    finals: dict[str, set[str]] = {phone: set() for phone in PHONES}
    for _ in range(rounds):
        for place in chance.sample(range(len(PHONES)), 60):
            status = chance.choice(["0", "1", "9"])
            receipt(campaigns.ledger, PHONES[place], f"T{place // 2 + 1}", status)
            finals[PHONES[place]] |= {status} - {"9"}
    return sum(map(bool, finals.values())), sum(len(each) == 2 for each in finals.values())


def start(ledger: Ledger) -> BaseProcess:
    """A process that matches and does nothing else."""
    url = ledger.url.render_as_string(hide_password=False)
    here, there = forking().Pipe(duplex=False)
    process = forking().Process(target=matching_process.match_for_ever, args=(url, there), daemon=True)
    process.start()
    there.close()
    with here:
        assert here.poll(60)
        assert here.recv() == "ready"
    return process


def test_processes_that_race_and_are_killed_count_each_phone_once(campaigns: Campaigns) -> None:
    ledger = campaigns.ledger
    campaign_id = campaigns.batches()[0].campaign_id
    chance = random.Random(10658)
    processes = [start(ledger) for _ in range(3)]
    over = threading.Event()
    expected: list[tuple[int, int]] = []

    def push() -> None:
        expected.append(push_some(campaigns, 6))
        over.set()

    pusher = threading.Thread(target=push)
    pusher.start()
    killed = 0
    try:
        while not over.is_set() or killed < 5:
            # Any moment is as good as another.
            over.wait(chance.uniform(0.02, 0.3))
            victim = processes.pop(0)
            assert victim.is_alive(), victim.exitcode
            victim.kill()
            victim.join(30)
            killed += 1
            processes.append(start(ledger))
        pusher.join(60)
        wait_until(lambda: None not in marks(ledger), 60)
    finally:
        for process in processes:
            process.kill()
            process.join(30)
    counts = deliveries(ledger, campaign_id)
    assert (counts.final, counts.contradicted) == expected[0]
    assert counts_agree(ledger)
    assert set(marks(ledger)) <= {"matched", "contradiction"}
    assert killed >= 5


def test_threads_of_their_own_ledgers_race(campaigns: Campaigns) -> None:
    ledger = campaigns.ledger
    campaign_id = campaigns.batches()[0].campaign_id
    expected = push_some(campaigns, 3)
    failures: list[Exception] = []

    def match() -> None:
        own = Ledger(ledger.url)
        try:
            settle(own, None, 60)
        except Exception as error:  # told below
            failures.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=match) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    counts = deliveries(ledger, campaign_id)
    assert (counts.final, counts.contradicted) == expected
    assert counts_agree(ledger)
    assert Matcher(ledger, None).look() == 0
