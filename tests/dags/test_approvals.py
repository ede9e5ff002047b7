"""The example DAGs that wait for a person, run to their end by Airflow; the person is played by a thread."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowOptionalProviderFeatureException

from airflow_provider_sms.ledger.database import Ledger
from tests.dags.test_waits import meanwhile
from tests.support.airflow import EXAMPLES, load_dag, put_dag, rendered_fields, run_dag, states, xcom
from tests.support.pushed import listen, match, receive, reply
from tests.support.simulator import Simulator, wait_until

APPROVAL = EXAMPLES / "example_sms_approval.py"
HITL = EXAMPLES / "example_sms_hitl.py"
PHONES = ["13800130041", "13800130042"]

pytestmark = pytest.mark.usefixtures("sms_simulator")


def answering(ledger: Ledger, simulator: Simulator, *answers: tuple[str, str]) -> AbstractContextManager[None]:
    """Answer the question once it has been asked; `CODE` stands for its code."""

    def answer() -> None:
        wait_until(lambda: bool(simulator.accepted()), 120)
        (batch,) = simulator.accepted()
        found = re.search("Y ([0-9]{6})", batch["content"])
        assert found is not None
        for phone, text in answers:
            receive(ledger, reply(batch["taskId"], phone, text.replace("CODE", found[1])))
            match(ledger)

    return meanwhile(answer)


def run_approval(ledger: Ledger, simulator: Simulator, *answers: tuple[str, str]) -> Any:
    listen(ledger)
    with answering(ledger, simulator, *answers):
        return run_dag(put_dag(APPROVAL))


def test_somebody_agrees(ledger: Ledger, simulator: Simulator) -> None:
    run = run_approval(ledger, simulator, ("13800130099", "Y CODE"), (PHONES[0], "N"), (PHONES[1], "y CODE"))
    assert run.state == "success", states(run)
    assert states(run) == {"approve": "success", "drop": "success"}
    assert xcom(run, "approve")["by"] == "138****0042"
    (batch,) = simulator.accepted()
    assert batch["phones"] == PHONES
    (fields,) = rendered_fields(run, "approve")
    assert fields["phones"] == "2 phones, first 138****0041"
    assert "{code}" in fields["question"]


def test_somebody_does_not(ledger: Ledger, simulator: Simulator) -> None:
    run = run_approval(ledger, simulator, (PHONES[0], "N CODE"), (PHONES[1], "Y CODE"))
    assert states(run) == {"approve": "skipped", "drop": "skipped"}


def test_nobody_is_asked_where_no_answer_can_come(ledger: Ledger, simulator: Simulator) -> None:
    run = run_dag(put_dag(APPROVAL))
    assert states(run)["approve"] == "failed"
    assert simulator.accepted() == []


def has_hitl() -> bool:
    """Whether this Airflow has a human in the loop."""
    try:
        importlib.import_module("airflow.providers.standard.operators.hitl")
    except (ImportError, AirflowOptionalProviderFeatureException):
        return False
    return True


def test_airflow_without_a_human_in_the_loop_reads_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.standard.operators.hitl", None)
    with pytest.raises(KeyError, match="dag"):
        load_dag(HITL)


@pytest.mark.skipif(not has_hitl(), reason="this Airflow has no human in the loop")
def test_who_shall_decide_is_texted_once(simulator: Simulator, context: dict[str, Any]) -> None:
    simulator.settings(one_per_minute=False)
    task: Any = load_dag(HITL).get_task("approve")
    ti: Any = context["ti"]
    ti.state = "running"
    notify: Callable[[Any], None] = task.notifiers[0]
    for _ in range(2):
        notify({**context, "params": {"on_duty": "13800130043"}, "dag": task.dag})
    (batch,) = simulator.accepted()
    assert batch["phones"] == ["13800130043"]
    assert batch["content"] == "【云通信】报表待审批:example_sms_hitl send,请登录Airflow处理。"
