"""Alarms in the ledger: each once, so many a phone and window, the rest counted; on each database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from airflow_provider_sms.gateway import times
from airflow_provider_sms.ledger import alarms as alarms_module
from airflow_provider_sms.ledger import upkeep
from airflow_provider_sms.ledger.alarm_ends import AlarmEnds
from airflow_provider_sms.ledger.alarms import Alarm, Alarms, Share, Taken
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.ledger.keys import CampaignKey
from airflow_provider_sms.ledger.schema import alarm_gate_table, alarm_phone_table, alarm_table

WINDOW = timedelta(minutes=10)
A, B = "13800130001", "13800130002"


@pytest.fixture
def ledger(any_ledger: Ledger) -> Ledger:
    return any_ledger


@pytest.fixture
def alarms(ledger: Ledger) -> Alarms:
    return Alarms(ledger)


@pytest.fixture
def ends(ledger: Ledger) -> AlarmEnds:
    return AlarmEnds(ledger)


def take(alarms: Alarms, key: str, *phones: str, limit: int = 2, namespace: str = "") -> Taken:
    return alarms.take(Alarm(key, namespace, f"alarm {key}", f"【云通信】{key}"), phones or (A,), limit, WINDOW)


def told(shares: tuple[Share, ...]) -> list[tuple[int, tuple[str, ...]]]:
    return [(share.others, share.phones) for share in shares]


NOWHERE = CampaignKey("", campaign_key="nowhere")


def send(ends: AlarmEnds, *shares: Share) -> None:
    for share in shares:
        ends.note_posted(share, NOWHERE, ())


def age(ledger: Ledger, by: timedelta) -> None:
    """Let what is in the ledger have happened earlier."""
    with ledger.writing() as connection:
        earlier = ledger.now(connection) - by
        table = alarm_phone_table
        connection.execute(update(table).where(table.c.slot_at.is_not(None)).values(slot_at=earlier))
        connection.execute(update(alarm_table).values(created_at=earlier))


def test_so_many_a_phone_and_window(alarms: Alarms, ledger: Ledger) -> None:
    first = take(alarms, "1", A, B)
    assert (first.is_new, told(first.shares), first.held) == (True, [(0, (A, B))], 0)
    assert told(take(alarms, "2", A).shares) == [(0, (A,))]
    third = take(alarms, "3", A, B)
    assert (told(third.shares), third.held) == ([(0, (B,))], 1)
    assert (take(alarms, "4", A, B).shares, take(alarms, "5", A, limit=3).held) == ((), 0)
    age(ledger, WINDOW)
    # What was held back is counted into each phone's next text.
    assert told(take(alarms, "6", A, B).shares) == [(0, (A,)), (1, (B,))]


def test_an_alarm_that_comes_again_carries_on_with_what_is_not_settled(alarms: Alarms, ends: AlarmEnds) -> None:
    (share,) = take(alarms, "1", A, B).shares
    again = take(alarms, "1", A, B)
    assert (again.is_new, again.shares) == (False, (share,))
    send(ends, share)
    assert take(alarms, "1", A, B) == Taken(False, ())
    assert take(alarms, "1", A, namespace="other").is_new


def test_what_did_not_go_out_is_held_back_with_what_it_would_have_told(
    alarms: Alarms, ends: AlarmEnds, ledger: Ledger
) -> None:
    send(ends, *take(alarms, "1", limit=1).shares)
    assert take(alarms, "2", limit=1).held == 1
    age(ledger, WINDOW)
    (share,) = take(alarms, "3", limit=1).shares
    assert share.others == 1
    # No campaign of it was ever planned.
    assert ends.settle(share, NOWHERE) == 1
    # And its place is free again.
    assert told(take(alarms, "4", limit=1).shares) == [(2, (A,))]


def test_a_flush_tells_of_the_rest_once(alarms: Alarms, ends: AlarmEnds) -> None:
    for key in ("1", "2", "3"):
        send(ends, *take(alarms, key, A, B, limit=1).shares)
    take(alarms, "4", B, limit=1)
    take(alarms, "5", A, limit=1, namespace="other")
    shares = alarms.flush("", "held back")
    assert sorted(told(shares)) == [(2, (A,)), (3, (B,))]
    assert {share.content for share in shares} == {"【云通信】3", "【云通信】4"}
    assert alarms.flush("", "held back") == ()
    # One that was not sent is held back again, and does not count itself.
    ends.give_back(shares[0])
    (again,) = alarms.flush("", "held back")
    assert (again.others, again.phones) == (shares[0].others, shares[0].phones)
    assert again.alarm_id != shares[0].alarm_id


def test_what_a_process_has_left_behind_is_found(alarms: Alarms, ledger: Ledger) -> None:
    (share,) = take(alarms, "1").shares
    assert alarms.unfinished("", WINDOW) == ()
    age(ledger, WINDOW)
    assert alarms.unfinished("", WINDOW / 2) == (share,)
    assert alarms.unfinished("other", WINDOW / 2) == ()


def at_once(count: int, step: Callable[[int], Any]) -> list[Any]:
    results: list[Any] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait(30)
        results.append(step(number))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == count
    return results


def test_of_many_at_once_as_many_get_a_place_as_there_are(alarms: Alarms) -> None:
    phones = [(A, B), (B, A), (B,)]
    taken = at_once(12, lambda number: take(alarms, str(number), *phones[number % 3]))
    texted = [phone for each in taken for share in each.shares for phone in share.phones]
    assert sorted(texted) == [A, A, B, B]
    assert sum(each.held for each in taken) == 6 + 10
    flushed = at_once(3, lambda number: alarms.flush("", "held back"))
    assert sorted(pair for shares in flushed for pair in told(shares)) == [(6, (A,)), (10, (B,))]


@pytest.mark.parametrize("how", ["settle", "give_back", "note_posted"])
def test_what_is_held_back_while_a_text_counts_is_in_this_text_or_in_the_next(
    alarms: Alarms, ends: AlarmEnds, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (share,) = take(alarms, "1", limit=1).shares
    take(alarms, "2", limit=1)
    back = {
        "settle": lambda: ends.settle(share, NOWHERE),
        "give_back": lambda: ends.give_back(share),
        "note_posted": lambda: ends.note_posted(share, NOWHERE, share.phones),
    }[how]
    thread = threading.Thread(target=back)

    def update_later(table: Any) -> Any:
        # The others are counted, and not marked as told yet.
        if thread.ident is None:
            thread.start()
            thread.join(0.5)
        return update(table)

    monkeypatch.setattr(alarms_module, "update", update_later)
    (counted,) = take(alarms, "3", limit=2).shares
    thread.join(30)
    assert not thread.is_alive()
    assert (counted.others, alarms.held("")) == (1, {A: 1})


def test_one_alarm_many_times_at_once_is_one(alarms: Alarms) -> None:
    taken = at_once(6, lambda number: take(alarms, "1", A, B))
    assert [each.is_new for each in taken].count(True) == 1


def test_texts_and_phones_are_kept_no_longer_and_no_alarm_goes_out_again(alarms: Alarms, ledger: Ledger) -> None:
    take(alarms, "1", A, B, limit=1)
    take(alarms, "2", A, limit=1)
    age(ledger, timedelta(days=30))
    take(alarms, "3", B)
    before = times.now() - timedelta(days=20)
    assert upkeep.is_due(ledger, before)
    found = upkeep.count_purgeable(ledger, before)
    # The first one's process ended without a word.
    assert (found.alarms, found.untold) == (2, 2 + 1)
    removed = upkeep.purge(ledger, before, lambda so_far: None)
    assert (removed.alarms, removed.untold) == (2, 3)
    assert not upkeep.is_due(ledger, before)
    with ledger.reading() as connection:
        assert connection.execute(select(alarm_table.c.content).order_by(alarm_table.c.id)).scalars().all() == [
            *(None, None),
            "【云通信】3",
        ]
        assert connection.execute(select(alarm_gate_table.c.phone)).scalars().all() == [B]
        table = alarm_phone_table
        rows = connection.execute(select(table.c.phone, table.c.state, table.c.others).order_by(table.c.alarm_id)).all()
    # How many were told nothing is known, and not who.
    assert [tuple(row) for row in rows] == [("", "untold", 2), ("", "untold", 1), (B, "taken", 0)]
    assert upkeep.purge(ledger, before, lambda so_far: None).untold == 0
    assert take(alarms, "1", A, B) == Taken(False, ())
    assert alarms.flush("", "held back") == ()


def test_of_what_a_text_told_or_was_to_tell_each_is_counted_once(
    alarms: Alarms, ends: AlarmEnds, ledger: Ledger
) -> None:
    for key in ("1", "2", "3"):
        send(ends, *take(alarms, key, A, B, limit=1).shares)
    # The flush was killed before it had told A; B was told.
    shares = alarms.flush("", "held back")
    assert told(shares) == [(2, (A, B))]
    send(ends, replace(shares[0], phones=(B,)))
    age(ledger, timedelta(days=30))
    assert upkeep.purge(ledger, times.now() - timedelta(days=20), lambda so_far: None).untold == 2
