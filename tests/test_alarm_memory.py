"""What a process remembers of its alarms: bounded, and right when many ask at once."""

from __future__ import annotations

import threading

from airflow_provider_sms.alarm_memory import Admitted, AlarmMemory

A, B = "13800130001", "13800130002"


def admit(memory: AlarmMemory, key: object, *phones: str, now: float = 0.0) -> Admitted | None:
    return memory.admit(key, phones or (A,), limit=2, seconds=600, now=now)  # type: ignore[arg-type]


def test_each_once_and_so_many_a_phone() -> None:
    memory = AlarmMemory()
    assert admit(memory, "1", A, B) == Admitted({A: 0, B: 0}, 0)
    assert admit(memory, "1", A, B) is None
    assert admit(memory, "2") == Admitted({A: 0}, 0)
    assert admit(memory, "3", A, B) == Admitted({B: 0}, 1)
    assert admit(memory, None) == Admitted({}, 1)
    assert admit(memory, None, now=599.9) == Admitted({}, 1)
    assert admit(memory, "4", now=600) == Admitted({A: 3}, 0)


def test_what_was_not_sent_is_forgotten() -> None:
    memory = AlarmMemory()
    for key in ("1", "2", "3"):
        admit(memory, key)
    assert admit(memory, "4", now=600) == Admitted({A: 1}, 0)
    memory.forget("4", {A: 1})
    assert admit(memory, "4", now=600) == Admitted({A: 1}, 0)


def test_what_the_ledger_knows_is_no_reason_not_to_ask_it() -> None:
    memory = AlarmMemory()
    memory.note("1")
    assert not memory.knows("1")
    assert admit(memory, "1") is None
    admit(memory, "2")
    memory.note("2")
    assert memory.knows("2")


def test_it_does_not_grow() -> None:
    memory = AlarmMemory(most=3)
    for number in range(10):
        admit(memory, number, f"1380013{number:04d}")
    assert [memory.knows(number) for number in range(10)] == [False] * 7 + [True] * 3
    assert len(memory._texted) == 3


def test_of_many_at_once_as_many_get_a_place_as_there_are() -> None:
    memory, admitted = AlarmMemory(), []
    barrier = threading.Barrier(16)

    def ask(number: int) -> None:
        barrier.wait(30)
        admitted.append(admit(memory, number // 2))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len([each for each in admitted if each is None]) == 8
    assert len([each for each in admitted if each is not None and each.others]) == 2
