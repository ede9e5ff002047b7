"""The notifier as Airflow itself calls it: from all callbacks of tasks and DAGs, deadlines, a human in the loop.

A deadline's callbacks are run by the very code of Airflow's executors and triggerer, with the context that its
scheduler makes; that they come to be run is in tests/live/test_deadlines.py.
"""

from __future__ import annotations

import asyncio
import importlib
import runpy
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG
from airflow.utils.session import create_session

from airflow_provider_sms import alarm_sending
from airflow_provider_sms.notifications.sms import SmsNotifier
from airflow_provider_sms.operators.sms import SmsAlarmFlushOperator
from tests.dags.test_approvals import has_hitl
from tests.support.airflow import EXAMPLES, airflow_home, put_dag, run_dag, states, write_dag, xcom
from tests.support.fixtures import SetConnection
from tests.support.simulator import Simulator

FILE = """
from datetime import timedelta

from airflow.providers.common.compat.sdk import DAG, AirflowSkipException, task

from airflow_provider_sms.notifications.sms import SmsNotifier


def tell(number):
    return SmsNotifier(phones=f"1380013{number:04d}", sms_conn_id="sms_simulator")


with DAG("alarms", schedule=None, on_failure_callback=tell(90), on_success_callback=tell(91)) as dag:

    @task(on_execute_callback=tell(1), on_success_callback=[tell(2), tell(2)])
    def succeeds(): ...

    @task(on_failure_callback=[SmsNotifier(phones="nobody"), tell(3)])
    def fails():
        raise ValueError("the task's own error")

    @task(on_skipped_callback=tell(4))
    def skips():
        raise AirflowSkipException

    @task(retries=1, retry_delay=timedelta(0), on_retry_callback=tell(5), on_failure_callback=tell(6))
    def retries():
        raise ValueError

    @task(on_failure_callback=tell(7))
    def maps(number):
        raise ValueError

    succeeds(), fails(), skips(), retries(), maps.expand(number=[1, 2])
"""
FINE = """
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_sms.notifications.sms import SmsNotifier

with DAG(
    "alarms_when_fine",
    schedule=None,
    on_success_callback=SmsNotifier(phones="13800130092", sms_conn_id="sms_simulator"),
) as dag:

    @task(on_success_callback=SmsNotifier(phones="{{ nobody / 0 }}", content="{{ 1 / 0 }}"))
    def succeeds(): ...

    succeeds()
"""

KILLED = """
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_sms.notifications.sms import SmsNotifier


def tell(number):
    return SmsNotifier(phones=f"1380013{number:04d}", sms_conn_id="sms_simulator")


with DAG("alarms_when_killed", schedule=None, on_failure_callback=tell(90)) as dag:

    @task(on_retry_callback=tell(1), on_failure_callback=tell(2))
    def dies(): ...

    dies()
"""

pytestmark = pytest.mark.usefixtures("sms_simulator")


@pytest.fixture(autouse=True)
def often(simulator: Simulator, sms_simulator: SetConnection) -> None:
    simulator.settings(one_per_minute=False)
    sms_simulator("sms_simulator", extra={"signature": "云通信"})


def said(simulator: Simulator) -> dict[int, list[str]]:
    """By the phones' last digits, the texts without their time and link."""
    found: dict[int, list[str]] = {}
    for batch in simulator.accepted():
        (phone,) = batch["phones"]
        text = " ".join(part for part in batch["content"].split() if "/" not in part)
        found.setdefault(int(phone[-4:]), []).append(text.rpartition(" ")[0].rpartition(" ")[0])
    return found


def test_every_callback_of_tasks_and_dags(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
    run = run_dag(write_dag("alarms.py", FILE))
    assert states(run) == {
        "succeeds": "success",
        "fails": "failed",
        "skips": "skipped",
        "retries": "failed",
        "maps": "failed",
    }
    texts = said(simulator)
    assert {number: sorted(each) for number, each in texts.items()} == {
        1: ["【云通信】开始:alarms.succeeds 第1次"],
        # Twice the same: one text.
        2: ["【云通信】成功:alarms.succeeds 第1次"],
        3: ["【云通信】失败:alarms.fails 第1次"],
        4: ["【云通信】跳过:alarms.skips 第1次"],
        5: ["【云通信】将重试:alarms.retries 第1次"],
        6: ["【云通信】失败:alarms.retries 第2次"],
        7: ["【云通信】失败:alarms.maps[0] 第1次", "【云通信】失败:alarms.maps[1] 第1次"],
        90: ["【云通信】失败:alarms"],
    }
    (log,) = [batch["content"] for batch in simulator.accepted() if batch["phones"] == ["13800130003"]]
    assert "/dags/alarms/" in log
    assert "fails" in log.partition("/dags/alarms/")[2]
    assert run.run_id.partition("+")[0].partition(":")[0] in log


def test_a_notifier_that_fails_fails_nobody(simulator: Simulator) -> None:
    run = run_dag(write_dag("alarms_when_fine.py", FINE))
    assert run.state == "success", states(run)
    assert said(simulator) == {92: ["【云通信】成功:alarms_when_fine"]}


def test_with_the_ledger_away_callbacks_send_all_the_same(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarm_sending, "PATIENCE", 0.0)
    monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", "postgresql+psycopg2://sms:FAKE@127.0.0.1:1/sms")
    run_dag(write_dag("alarms_when_fine.py", FINE))
    assert said(simulator) == {92: ["【云通信】成功:alarms_when_fine"]}


def test_the_flush_example(simulator: Simulator, ledger: Any) -> None:
    for number in range(3):
        SmsNotifier(phones="13800130093", content=f"【云通信】{number}", sms_conn_id="sms_simulator", storm_limit=1)(
            {"dag": None}
        )
    run = run_dag(put_dag(EXAMPLES / "example_sms_alarm_flush.py"))
    assert states(run) == {"flush": "success"}
    assert xcom(run, "flush") == {"phones": 1, "alarms": 2, "failed": 0}
    assert simulator.accepted()[-1]["content"] == "【云通信】2条告警未单独发送,最近一条:2"
    assert SmsAlarmFlushOperator.template_fields == ("sms_conn_id",)


def has(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


@pytest.mark.skipif(not has("airflow.models.slamiss"), reason="this Airflow has no SLAs")
def test_slas_that_were_missed(simulator: Simulator) -> None:
    slamiss = importlib.import_module("airflow.models.slamiss")
    tell, dag = SmsNotifier(phones="13800130096", sms_conn_id="sms_simulator"), DAG("etl", schedule=None)
    for day in (1, 1, 2):
        sla = slamiss.SlaMiss(task_id="load", dag_id="etl", execution_date=datetime(2030, 1, day, tzinfo=UTC))
        # As Airflow 2's DAG processor calls it.
        tell(dag, "load on …", "", [sla], [])
    assert said(simulator) == {96: ["【云通信】逾期:etl.load"] * 2}


@pytest.fixture
def failed_run() -> Any:
    """A run of which nobody has been told yet."""
    return run_dag(write_dag("alarms_when_killed.py", KILLED))


def called_back(request: str, **fields: Any) -> None:
    """What Airflow 3's scheduler asks of its DAG processor, which then calls back."""
    import structlog
    from airflow.callbacks import callback_requests
    from airflow.dag_processing import processor

    dag = runpy.run_path(str(airflow_home() / "dags" / "alarms_when_killed.py"))["dag"]
    file = {"filepath": "alarms_when_killed.py", "bundle_name": "dags", "bundle_version": None}
    asked = getattr(callback_requests, request)(**file, **fields)
    # As it comes out of the scheduler's database.
    asked = type(asked).from_json(asked.to_json())
    step = {"TaskCallbackRequest": "_execute_task_callbacks", "DagCallbackRequest": "_execute_dag_callbacks"}[request]
    getattr(processor, step)(SimpleNamespace(dags={dag.dag_id: dag}), asked, structlog.get_logger())


@pytest.mark.skipif(not has("airflow.api_fastapi.execution_api"), reason="this Airflow calls back otherwise")
def test_the_dag_processor_calls_back_for_what_was_killed(simulator: Simulator, failed_run: Any) -> None:
    from airflow.api_fastapi.execution_api.datamodels import taskinstance
    from airflow.callbacks.callback_requests import DagRunContext

    with create_session() as session:
        run = session.merge(failed_run)
        (ti,) = run.get_task_instances(session=session)
        of_run = {"dag_id": run.dag_id, "run_id": run.run_id, "is_failure_callback": True, "msg": "task_failure"}
        server = {
            "dag_run": taskinstance.DagRun.model_validate(run, from_attributes=True),
            "variables": [],
            "connections": [],
            "xcom_keys_to_clear": [],
        }
        # A callback is known to come twice.
        for _ in range(2):
            for kind, tries in (("up_for_retry", 1), ("failed", 0)):
                context = taskinstance.TIRunContext(max_tries=tries, **server)
                called_back("TaskCallbackRequest", ti=ti, task_callback_type=kind, context_from_server=context)
            # With the last of its tasks, and without any.
            for of_server in (DagRunContext(dag_run=run, last_ti=ti), None):
                called_back("DagCallbackRequest", **of_run, context_from_server=of_server)
    assert said(simulator) == {
        1: ["【云通信】将重试:alarms_when_killed.dies 第1次"],
        2: ["【云通信】失败:alarms_when_killed.dies 第1次"],
        90: ["【云通信】失败:alarms_when_killed"],
    }


PATH = "airflow_provider_sms.notifications.sms.SmsNotifier"
KWARGS = {"phones": "13800130094", "sms_conn_id": "sms_simulator"}


def missed(run: Any, callback: Any) -> dict[str, Any]:
    """A deadline of a run is missed: what Airflow's scheduler hands to its callback."""
    from airflow.models.deadline import Deadline

    with create_session() as session:
        deadline = Deadline(datetime(2030, 1, 31, 20, 5, tzinfo=UTC), callback, run.id, None)
        session.add(deadline)
        session.flush()
        # As the scheduler has it: its id is as it comes out of the database.
        session.expire(deadline)
        deadline.handle_miss(session)
        kwargs: dict[str, Any] = deadline.callback.data["kwargs"]
        session.rollback()
    return kwargs


LATE = "【云通信】逾期:alarms_when_fine 02-01 04:05 https://airflow.example/dags/alarms_when_fine/runs/"


@pytest.fixture
def run(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run that has ended, and nobody knows of it."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
    run = run_dag(write_dag("alarms_when_fine.py", FINE))
    simulator.reset()
    simulator.settings(one_per_minute=False)
    return run


@pytest.mark.skipif(not has("airflow.triggers.callback"), reason="this Airflow has no deadlines")
def test_a_deadline_s_asynchronous_callback(simulator: Simulator, run: Any) -> None:
    from airflow.sdk.definitions.callback import AsyncCallback
    from airflow.triggers.callback import CallbackTrigger

    kwargs = missed(run, AsyncCallback(SmsNotifier, kwargs=KWARGS))

    async def main() -> list[Any]:
        return [event.payload async for event in CallbackTrigger(PATH, dict(kwargs)).run()]

    # It may run twice.
    for _ in range(2):
        assert [payload["state"] for payload in asyncio.run(main())] == ["running", "success"]
    (batch,) = simulator.accepted()
    assert batch["content"].startswith(LATE)


@pytest.mark.skipif(
    not has("airflow.sdk.execution_time.callback_supervisor"), reason="this Airflow has no deadlines on executors"
)
def test_a_deadline_s_synchronous_callback(simulator: Simulator, run: Any) -> None:
    import structlog
    from airflow.sdk.definitions.callback import SyncCallback
    from airflow.sdk.execution_time.callback_supervisor import execute_callback

    kwargs = missed(run, SyncCallback(SmsNotifier, kwargs=KWARGS))
    for _ in range(2):
        assert execute_callback(PATH, kwargs, "", None, structlog.get_logger()) == (True, None)
    (batch,) = simulator.accepted()
    assert batch["content"].startswith(LATE)


@pytest.mark.skipif(not has_hitl(), reason="this Airflow has no human in the loop")
def test_a_human_in_the_loop(simulator: Simulator, ti: Any) -> None:
    from airflow.providers.standard.operators.hitl import ApprovalOperator

    notifier = SmsNotifier(phones="13800130095", sms_conn_id="sms_simulator")
    ti.state, ti.task = "running", ApprovalOperator(task_id="approve", subject="Publish?", notifiers=notifier)
    for _ in range(2):
        ti.task.notifiers[0]({"ti": ti, "dag": None})
    assert said(simulator) == {95: ["【云通信】待处理:dag.send 第1次"]}
