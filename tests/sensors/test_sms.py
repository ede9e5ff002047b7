"""The balance sensor in a worker: when it is done, what it waits for, what it gives up on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException, TaskDeferred

from airflow_provider_sms.gateway.errors import UnsentError
from airflow_provider_sms.sensors.sms import SmsBalanceSensor
from airflow_provider_sms.triggers.sms import SmsBalanceTrigger
from tests.support.simulator import Simulator

pytestmark = pytest.mark.usefixtures("connection")


def sensor(**changes: Any) -> SmsBalanceSensor:
    return SmsBalanceSensor(**{"task_id": "wait", "min_balance": 100, "poke_interval": 60, **changes})


@pytest.mark.parametrize(("balance", "done"), [(99, False), (100, True), (101, True), (0, False)])
def test_it_is_done_when_there_is_enough(simulator: Simulator, context: Any, balance: int, done: bool) -> None:
    simulator.settings(balance=balance)
    result = sensor().poke(context)
    assert (result.is_done, result.xcom_value) == (done, balance)


def test_it_returns_the_balance(simulator: Simulator, context: Any) -> None:
    simulator.settings(balance=241)
    assert sensor().execute(context) == 241


def test_the_wanted_balance_may_be_a_template(simulator: Simulator, context: Any) -> None:
    simulator.settings(balance=241)
    task = sensor(min_balance="{{ n * 2 }}")
    task.render_template_fields({"n": 121})
    assert not task.poke(context).is_done


def test_a_wanted_balance_that_is_no_number(context: Any) -> None:
    with pytest.raises(AirflowFailException, match="min_balance: expected points as a whole number, got 'much'"):
        sensor(min_balance="much").poke(context)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"locked": True}, "锁定"), ({"ip_barred": True}, "IP受限")],
)
def test_what_a_person_has_to_mend_fails_at_once(
    simulator: Simulator, context: Any, changes: dict[str, Any], said: str
) -> None:
    simulator.settings(**changes)
    with pytest.raises(AirflowFailException, match=said):
        sensor().poke(context)


def test_a_wrong_key_fails_at_once(connection: Callable[..., None], context: Any) -> None:
    connection(password="FAKE-WRONG-KEY")
    with pytest.raises(AirflowFailException, match="账号或密码错误"):
        sensor().poke(context)


@pytest.mark.parametrize("fields", [{"extra": {"unknown": 1}}, {"password": ""}])
def test_a_connection_that_is_not_usable_fails_at_once(
    connection: Callable[..., None], context: Any, fields: dict[str, Any]
) -> None:
    connection(**fields)
    with pytest.raises(AirflowFailException):
        sensor().poke(context)


def test_a_missing_connection_fails_at_once(context: Any) -> None:
    with pytest.raises(AirflowFailException, match="sms_conn_id: there is no connection 'sms_nowhere'"):
        sensor(sms_conn_id="sms_nowhere").poke(context)


@pytest.mark.parametrize(
    ("fault", "fields"),
    [
        ("cut_before", {}),
        ("status", {"status": 503}),
        ("status", {"status": 429}),
        ("html", {}),
        ("empty", {}),
        ("unknown_reason", {}),
    ],
)
def test_what_may_pass_keeps_it_waiting(simulator: Simulator, context: Any, fault: str, fields: dict[str, Any]) -> None:
    simulator.fault(fault, **fields)
    task = sensor()
    assert not task.poke(context).is_done
    assert task.poke(context).is_done


def test_it_gives_up_after_so_many_failures_in_a_row(simulator: Simulator, context: Any) -> None:
    task = sensor(max_errors=2)
    simulator.fault("cut_before", times=2)
    assert not task.poke(context).is_done
    assert not task.poke(context).is_done
    assert task.poke(context).is_done
    simulator.fault("cut_before", times=3)
    assert not task.poke(context).is_done
    assert not task.poke(context).is_done
    with pytest.raises(Exception, match="no answer came"):
        task.poke(context)


def test_soft_fail_skips(connection: Callable[..., None], context: Any) -> None:
    connection(password="FAKE-WRONG-KEY")
    with pytest.raises(AirflowSkipException):
        sensor(soft_fail=True).execute(context)


class TestDeferrable:
    def test_it_defers_at_once_without_asking(self, simulator: Simulator, context: Any) -> None:
        with pytest.raises(TaskDeferred) as deferred:
            sensor(deferrable=True, timeout=3600, max_errors=7).execute(context)
        assert isinstance(deferred.value.trigger, SmsBalanceTrigger)
        assert deferred.value.trigger.serialize() == (
            "airflow_provider_sms.triggers.sms.SmsBalanceTrigger",
            {"sms_conn_id": "sms_default", "min_balance": 100, "poke_interval": 60.0, "max_errors": 7},
        )
        assert deferred.value.timeout is not None
        assert deferred.value.timeout.total_seconds() == 3600
        assert deferred.value.method_name == "execute_complete"
        assert simulator.requests()["requests"] == []

    def test_enough(self, context: Any) -> None:
        assert sensor().execute_complete(context, {"status": "enough", "balance": 241}) == 241

    def test_refused(self, context: Any) -> None:
        with pytest.raises(AirflowFailException, match="账号或密码错误"):
            sensor().execute_complete(context, {"status": "refused", "message": "账号或密码错误"})

    def test_unreachable_may_be_retried(self, context: Any) -> None:
        with pytest.raises(UnsentError, match="Gave up after 11 failures in a row; the last: x"):
            sensor().execute_complete(context, {"status": "unreachable", "message": "x", "errors": 11})

    def test_a_refusal_with_soft_fail_skips(self, context: Any) -> None:
        event = {"status": "refused", "message": "账号或密码错误"}
        with pytest.raises(AirflowSkipException):
            sensor(soft_fail=True).resume_execution("execute_complete", {"event": event}, context)
