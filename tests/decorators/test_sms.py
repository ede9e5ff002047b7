"""`@task.sms`, try by try: what the function says now, beside what the ledger has from before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, AirflowSkipException, TaskDeferred

from airflow_provider_sms.decorators.sms import sms_task
from tests.support.fixtures import TaskInstance
from tests.support.simulator import Simulator

PHONES = ["13800130001", "13800130002", "13800130003", "13800130004"]
TEXT = "【云通信】您好"
NO_MONEY = "余额不足"

pytestmark = pytest.mark.usefixtures("connection")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_sms.sending.time.sleep", lambda seconds: None)


def operator(function: Callable[..., Any], **arguments: Any) -> Any:
    """The task that the decorator makes."""
    with DAG(dag_id="dag", schedule=None):
        made: Any = sms_task(**arguments)(function)
        return made().operator


def try_of(number: int) -> dict[str, Any]:
    return {"ti": TaskInstance(try_number=number)}


class Returns:
    """A function that returns one thing after another, and counts its calls."""

    __name__ = "tell"

    def __init__(self, *returned: Any) -> None:
        self.returned = list(returned)
        self.calls = 0

    def function(self) -> Any:
        def tell() -> Any:
            self.calls += 1
            return self.returned.pop(0)

        return tell


def half_sent(simulator: Simulator, *returned: Any, **arguments: Any) -> tuple[Returns, Any]:
    """The first try sends to the first two phones; for the others there is no money, until somebody tops it up."""
    calls = Returns(*returned)
    task = operator(calls.function(), batch_size=2, **arguments)
    simulator.fault("refuse", message=NO_MONEY, phone=PHONES[2])
    with pytest.raises(AirflowFailException, match=NO_MONEY):
        task.execute(try_of(1))
    assert texted(simulator) == PHONES[:2]
    return calls, task


def texted(simulator: Simulator) -> list[str]:
    return sorted(phone for batch in simulator.accepted() for phone in batch["phones"])


class TestTheNextTry:
    def test_it_asks_the_function_again_and_texts_nobody_twice(self, simulator: Simulator) -> None:
        calls, task = half_sent(simulator, PHONES, PHONES, content=TEXT)
        assert task.execute(try_of(2))["accepted"] == 4
        assert (calls.calls, texted(simulator)) == (2, PHONES)

    def test_another_text_is_an_error_unless_the_stored_one_shall_go_on(self, simulator: Simulator) -> None:
        first, second = ({"phones": PHONES, "content": f"【云通信】{each}"} for each in ("一", "二"))
        _, task = half_sent(simulator, first, second, second)
        with pytest.raises(AirflowFailException, match="has begun with another content"):
            task.execute(try_of(2))
        task.on_changed = "resume"
        assert task.execute(try_of(3))["accepted"] == 4
        assert {batch["content"] for batch in simulator.accepted()} == {"【云通信】一"}

    @pytest.mark.parametrize("nothing", [None, [], {}, {"phones": [], "content": TEXT}], ids=str)
    def test_a_function_that_finds_nobody_any_more_strands_nobody(self, simulator: Simulator, nothing: object) -> None:
        _, task = half_sent(simulator, {"phones": PHONES, "content": TEXT}, nothing)
        assert task.execute(try_of(2))["accepted"] == 4
        assert texted(simulator) == PHONES

    def test_where_nothing_was_planned_nothing_is_still_nothing(self, simulator: Simulator) -> None:
        with pytest.raises(AirflowSkipException):
            operator(Returns(None).function(), content=TEXT).execute(try_of(2))
        assert texted(simulator) == []

    def test_what_was_deferred_goes_on_without_another_call(self, simulator: Simulator) -> None:
        calls = Returns({"phones": PHONES, "content": TEXT})
        arguments = {"max_wait": timedelta(days=2), "valid_for": timedelta(days=3), "campaign_key": "mine"}
        simulator.fault("refuse", message="当日发送量已超出最大发送限制")
        with pytest.raises(TaskDeferred) as deferred:
            operator(calls.function(), **arguments).execute(try_of(1))
        waited = deferred.value.trigger.waited
        assert operator(calls.function(), **arguments).resume(try_of(1), {"waited": waited})["accepted"] == 4
        assert calls.calls == 1

    def test_nor_are_personal_texts_asked_for_again(self, simulator: Simulator) -> None:
        rows = [{"phone": phone, "name": f"客户{number}"} for number, phone in enumerate(PHONES)]
        returned = {"messages": rows, "content": "【云通信】{name}您好"}
        _, task = half_sent(simulator, returned, None)
        assert task.execute(try_of(2))["accepted"] == 4
        assert [(batch["phones"], batch["content"]) for batch in simulator.accepted()] == [
            ([phone], f"【云通信】客户{number}您好") for number, phone in enumerate(PHONES)
        ]

    def test_where_it_finds_nobody_the_guards_of_now_hold_the_rest_back(self, simulator: Simulator) -> None:
        half_sent(simulator, PHONES, content=TEXT)
        again = operator(Returns(None).function(), batch_size=2, content=TEXT, max_points=3)
        with pytest.raises(AirflowFailException, match="^max_points: the plan costs 4 points, and it may cost 3"):
            again.execute(try_of(2))
        assert texted(simulator) == PHONES[:2]
        again = operator(Returns(None).function(), batch_size=2, content=TEXT, max_points=4)
        assert again.execute(try_of(3))["guards"] == {"maxPoints": 4}


@pytest.mark.parametrize("returned", [iter([]), {"phones": iter([])}, {"messages": iter([])}, "", {}, [], None])
def test_a_function_that_finds_nobody_skips_whatever_it_returns(simulator: Simulator, returned: object) -> None:
    with pytest.raises(AirflowSkipException, match="the function returned nothing"):
        operator(Returns(returned).function(), content=TEXT).execute(try_of(1))


class TestMistakes:
    def test_what_the_function_may_not_return_is_named(self, simulator: Simulator) -> None:
        task = operator(Returns({"phones": PHONES, "text": TEXT, "campaign_key": "x"}).function(), content=TEXT)
        with pytest.raises(AirflowFailException) as error:
            task.execute(try_of(1))
        assert str(error.value) == (
            "@task.sms: the function returned 'campaign_key', 'text'; it may return the phones, or a dict of phones, "
            "content, messages, send_time. Everything else is an argument of the decorator."
        )

    @pytest.mark.parametrize("returned", [{"phones": PHONES, "content": None}, PHONES], ids=["None", "not said"])
    def test_a_text_that_is_missing_is_no_reason_to_skip(self, simulator: Simulator, returned: object) -> None:
        with pytest.raises(AirflowFailException, match="content"):
            operator(Returns(returned).function()).execute(try_of(1))

    def test_phones_beside_messages_are_not_passed_over(self, simulator: Simulator) -> None:
        rows = [(PHONES[0], TEXT)]
        with pytest.raises(AirflowFailException, match="phones, messages: hand in one of them"):
            operator(Returns(PHONES).function(), messages=rows).execute(try_of(1))
        with pytest.raises(AirflowFailException, match="phones, messages: hand in one of them"):
            operator(Returns({"messages": rows}).function(), phones=PHONES, content=TEXT).execute(try_of(1))
        assert texted(simulator) == []
        # One that is not there is none.
        task = operator(Returns({"phones": None, "messages": rows}).function())
        assert task.execute(try_of(1))["accepted"] == 1

    def test_an_async_function_is_refused_when_the_dag_is_read(self) -> None:
        async def tell() -> None: ...

        with pytest.raises(TypeError, match="tell is async"):
            operator(tell)

    def test_so_is_a_wrong_choice(self) -> None:
        with pytest.raises(ValueError, match="on_changed"):
            operator(Returns().function(), on_changed="never")
