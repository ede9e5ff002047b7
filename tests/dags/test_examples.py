"""Every example DAG, run to its end by Airflow against the simulator."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_sms.operators.campaign import CampaignOperator
from tests.dags.test_approvals import has_hitl
from tests.support.airflow import EXAMPLES, put_dag, rendered_fields, run_dag, states, xcom
from tests.support.simulator import Simulator

pytestmark = pytest.mark.usefixtures("sms_simulator")

FILES = sorted(EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_texts_nobody_by_accident(file: Path) -> None:
    dags = [each for each in runpy.run_path(str(file)).values() if isinstance(each, DAG)]
    assert dags or (file.stem == "example_sms_hitl" and not has_hitl())
    for dag in dags:
        if type(dag.timetable).__name__ == "AssetTriggeredTimetable":
            # Run by what comes in; so it may not send, and nobody has it run without having asked for it.
            assert dag.is_paused_upon_creation
            assert not [task for task in dag.tasks if isinstance(task, CampaignOperator)]
        else:
            assert not getattr(dag.timetable, "can_be_scheduled", False)
    assert "sms_default" not in file.read_text()


def test_every_example_is_run_here() -> None:
    assert {file.stem for file in FILES} == {
        "example_sms_campaign",
        "example_sms_bill",
        "example_sms_alarm",
        "example_sms_delivery",  # these two in test_waits.py
        "example_sms_replies",
        "example_sms_approval",  # these in test_approvals.py
        "example_sms_hitl",
        "example_sms_alarm_flush",  # in test_alarms.py
        "example_sms_failure_alarm",  # and these in test_pipelines.py
        "example_sms_low_balance",
        "example_sms_marketing",
        "example_sms_replies_table",
    }


def test_the_campaign(simulator: Simulator) -> None:
    run = run_dag(put_dag(EXAMPLES / "example_sms_campaign.py"))
    assert run.state == "success"
    (batch,) = simulator.accepted()
    assert batch["phones"] == ["13800130001", "13800130002", "13800130003"]
    assert xcom(run, "send", "taskId") == batch["taskId"]
    assert xcom(run, "send")["taskIds"] == [batch["taskId"]]
    assert xcom(run, "enough_points") == simulator.settings()["balance"] + batch["points"]
    (fields,) = rendered_fields(run, "send")
    assert fields["phones"] == "3 phones, first 138****0001"
    assert fields["sms_conn_id"] == "sms_simulator"


def test_the_campaign_with_phones_and_text_of_one_s_own(simulator: Simulator) -> None:
    conf = {"phones": ["13800130021"], "content": "【云通信】您好,请致电13800130099"}
    run = run_dag(put_dag(EXAMPLES / "example_sms_campaign.py"), conf)
    assert run.state == "success"
    assert simulator.accepted()[0]["content"] == conf["content"]
    (fields,) = rendered_fields(run, "send")
    assert fields["content"] == "【云通信】您好,请致电138****0099"


def test_the_bills(simulator: Simulator) -> None:
    run = run_dag(put_dag(EXAMPLES / "example_sms_bill.py"))
    assert run.state == "success"
    assert sorted((batch["phones"], batch["content"]) for batch in simulator.accepted()) == [
        (["13800130061"], "【云通信】王芳您好,您2030-01月账单为128.50元,请及时缴费。"),
        (["13800130062"], "【云通信】李伟您好,您2030-01月账单为96.00元,请及时缴费。"),
    ]
    (fields,) = rendered_fields(run, "send")
    assert fields["messages"] == "2 messages, first 138****0061"
    assert run_dag(put_dag(EXAMPLES / "example_sms_bill.py")).state == "success"
    assert len(simulator.accepted()) == 2  # the month is the campaign, whichever run it is


def test_a_campaign_that_the_account_can_not_pay_for_does_not_begin(simulator: Simulator) -> None:
    simulator.settings(locked=True)
    run = run_dag(put_dag(EXAMPLES / "example_sms_campaign.py"))
    assert run.state == "failed"
    assert states(run)["enough_points"] == "failed"
    assert states(run)["send"] == "upstream_failed"
    assert simulator.accepted() == []


def test_the_alarm_texts_those_on_duty_when_the_check_fails(simulator: Simulator) -> None:
    run = run_dag(put_dag(EXAMPLES / "example_sms_alarm.py"))
    assert states(run) == {"check_disk": "failed", "alarm": "success"}
    (batch,) = simulator.accepted()
    assert batch["phones"] == ["13800130011", "13800130012"]
    assert batch["content"] == "【云通信】告警:example_sms_alarm 磁盘空间不足,请尽快处理。"


def test_the_alarm_texts_nobody_when_all_is_well(simulator: Simulator) -> None:
    run = run_dag(put_dag(EXAMPLES / "example_sms_alarm.py"), {"least_free_gib": 0})
    assert states(run) == {"check_disk": "success", "alarm": "skipped"}
    assert simulator.accepted() == []
