"""The notifier: whom it texts, what with, and that a callback that fires twice texts once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_sms.notifications.sms import SmsNotifier, send_sms_notification
from tests.support.fixtures import TaskInstance
from tests.support.simulator import Simulator

PHONES = ["13800130001", "13800130002"]
TEXT = "【云通信】{{ ti.task_id }} failed"

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture(autouse=True)
def often(simulator: Simulator) -> None:
    """A phone may be texted more than once a minute."""
    simulator.settings(one_per_minute=False)


def notifier(**changes: Any) -> SmsNotifier:
    return SmsNotifier(**{"phones": "{{ who }}", "content": TEXT, **changes})


def happened(state: str = "failed", **changes: Any) -> dict[str, Any]:
    ti: Any = TaskInstance(changes.pop("map_index", -1), changes.pop("try_number", 1))
    ti.state = state
    # Airflow before 3.0 renders by the DAG, and asks for it.
    return {"ti": ti, "who": ",".join(PHONES), "dag": None, **changes}


def texts(simulator: Simulator) -> list[Any]:
    return simulator.accepted()


def test_it_texts(simulator: Simulator) -> None:
    notifier()(happened())
    (batch,) = texts(simulator)
    assert (batch["phones"], batch["content"]) == (PHONES, "【云通信】send failed")


def test_the_alias() -> None:
    assert send_sms_notification is SmsNotifier


def test_a_callback_that_fires_ten_times_texts_once(simulator: Simulator) -> None:
    one = notifier()
    for _ in range(5):
        one(happened())
        notifier()(happened())
    assert len(texts(simulator)) == 1


def test_so_does_one_whose_rendered_text_differs(simulator: Simulator) -> None:
    for number in range(2):
        notifier(content="【云通信】{{ now }}")(happened(now=f"at {number}"))
    assert len(texts(simulator)) == 1


@pytest.mark.parametrize(
    "other",
    [
        happened(try_number=2),
        happened(map_index=1),
        happened("success"),
        happened(who=PHONES[0]),
        happened(reason="task_failure"),
    ],
    ids=["try", "map index", "event", "recipients", "of the DAG"],
)
def test_something_else_is_another_text(simulator: Simulator, other: dict[str, Any]) -> None:
    notifier()(happened())
    notifier()(other)
    assert len(texts(simulator)) == 2


def test_another_template_is_another_text(simulator: Simulator) -> None:
    notifier()(happened())
    notifier(content="【云通信】again")(happened())
    assert len(texts(simulator)) == 2


def test_an_object_that_tasks_share_is_rendered_for_each(simulator: Simulator) -> None:
    shared = notifier()
    shared(happened())
    other = happened(who=PHONES[1])
    other["ti"].task_id = "load"
    shared(other)
    assert [batch["content"] for batch in texts(simulator)] == ["【云通信】send failed", "【云通信】load failed"]
    assert texts(simulator)[1]["phones"] == [PHONES[1]]


def test_a_dag_s_own_callback_texts_once_whichever_task_comes_with_it(simulator: Simulator) -> None:
    for task_id in ("send", "load"):
        context = happened(reason="task_failure")
        context["ti"].task_id = task_id
        notifier(content="【云通信】failed")(context)
    assert len(texts(simulator)) == 1


def test_a_deadline_that_brings_a_run_alone(simulator: Simulator) -> None:
    for number in (1, 1, 2):
        run = {"dag_id": "dag", "run_id": "run"}
        notifier(phones=PHONES, content="【云通信】late")({"dag": None, "dag_run": run, "deadline": {"id": number}})
    assert len(texts(simulator)) == 2


def test_what_says_nothing_of_itself_is_texted_each_time(simulator: Simulator) -> None:
    for _ in range(2):
        notifier(phones=PHONES, content="【云通信】hello")({"dag": None})
    assert len(texts(simulator)) == 2


def test_a_key_of_one_s_own(simulator: Simulator) -> None:
    for number in (1, 2):
        notifier(campaign_key="once a day {{ day }}")(happened(try_number=number, day="2030-01-31"))
    assert len(texts(simulator)) == 1


def test_nothing_shows_a_phone(logged: Callable[[], str], simulator: Simulator) -> None:
    one = notifier()
    one(happened())
    assert str(one.phones) == "2 phones, first 138****0001"
    notifier(phones="{{ 13800130001 / 0 }}")(happened())
    shown = logged()
    assert "phones: the template fails" in shown
    assert "13800130001" not in shown
    assert len(texts(simulator)) == 1


def test_it_says_that_it_failed_and_fails_nobody(simulator: Simulator, logged: Callable[[], str]) -> None:
    simulator.settings(locked=True)
    notifier()(happened())
    assert "The alarm was not sent" in logged()
    assert texts(simulator) == []
