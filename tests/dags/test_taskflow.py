"""`@task.sms`, found by Airflow under that name, and the usual pipeline; and what the documentation shows of both."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_sms.ledger.database import Ledger
from tests.dags.test_waits import meanwhile
from tests.support.airflow import ROOT, load_dag, put_dag, rendered_fields, run_dag, states, write_dag, xcom
from tests.support.pushed import listen, receipts, receive
from tests.support.simulator import Simulator, wait_until

PAGES = [ROOT / "docs" / language / "howto" / "taskflow.md" for language in ("en", "zh")]


@pytest.mark.usefixtures("connection")
def test_a_function_says_what_to_send(simulator: Simulator) -> None:
    simulator.settings(one_per_minute=False)
    run = run_dag(put_dag(Path(__file__).with_name("taskflow.py")))
    assert states(run) == {
        "found": "success",
        "phones": "success",
        "both": "success",
        "nothing": "skipped",
        "nobody": "skipped",
        "month": "success",
    }
    sent = {(*batch["phones"], batch["content"]): batch["taskId"] for batch in simulator.accepted()}
    assert set(sent) == {
        ("13800130011", "13800130012", "【云通信】您好 taskflow"),
        ("13800130011", "【云通信】优惠 {{ 7 * 7 }}"),
        ("13800130012", "【云通信】优惠 {{ 7 * 7 }}"),
        ("13800130021", "【云通信】1月账单"),
        ("13800130022", "【云通信】2月账单"),
    }
    # As the operator's: the id, or a list of them, and one summary however the function is annotated.
    assert xcom(run, "phones", "taskId") == sent["13800130011", "13800130012", "【云通信】您好 taskflow"]
    assert len(xcom(run, "both", "taskId")) == 2
    assert xcom(run, "both")["campaign"] == f"taskflow {run.run_id}"
    assert xcom(run, "both", "accepted") is None
    # What Airflow shows of it: 2.11 stores that before the function is called.
    (shown,) = rendered_fields(run, "both")
    assert shown["phones"] in ("2 phones, first 138****0011", None)
    assert shown["op_args"] == "1 without a name"
    for task_id in ("phones", "both", "nothing", "month"):
        assert "1380013" not in str(rendered_fields(run, task_id))


def documented(page: Path, number: int) -> Path:
    """A block of a page as a file in the DAGs folder, where every supported Airflow can read it."""
    block = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)[number]
    source = block.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import")
    return write_dag(f"taskflow_{number}.py", source)


@pytest.mark.usefixtures("connection")
def test_the_documented_function(simulator: Simulator) -> None:
    run = load_dag(documented(PAGES[0], 0), "parcels").test()
    assert states(run).keys() == {"arrived", "tell", "warn"}
    assert sorted(each.state for each in run.get_task_instances()) == ["skipped", "success", "success", "success"]
    sent = sorted(tuple(batch["phones"]) for batch in simulator.accepted())
    assert sent == [("13800130001", "13800130002"), ("13800130011",)]


@pytest.mark.usefixtures("connection")
def test_the_documented_pipeline(simulator: Simulator, ledger: Ledger) -> None:
    listen(ledger)

    def carrier() -> None:
        wait_until(lambda: bool(simulator.accepted()), 120)
        (batch,) = simulator.accepted()
        receive(ledger, *receipts(batch["taskId"], batch["phones"]))

    notice = load_dag(documented(PAGES[0], 1), "notice")
    # A documented minute is too long for a test.
    notice.get_task("sms.delivered").poke_interval = 0.1
    with meanwhile(carrier):
        run = notice.test()
    assert set(states(run).values()) == {"success"}
    assert xcom(run, "report") == "2 of 2 delivered"


def test_the_pipeline_is_what_one_would_write_by_hand() -> None:
    notice, by_hand = load_dag(documented(PAGES[0], 1), "notice"), load_dag(documented(PAGES[0], 2), "by_hand")

    def told(dag: Any) -> dict[str, Any]:
        return {
            each.task_id.removeprefix("sms."): (
                type(each),
                {name.removeprefix("sms.") for name in each.upstream_task_ids},
                each.retries,
                getattr(each, "poke_interval", None),
                getattr(each, "min_delivered", None),
                getattr(each, "min_balance", None),
            )
            for each in dag.tasks
            if each.task_id != "report"
        }

    assert told(notice) == told(by_hand)
    assert notice.get_task("report").upstream_task_ids == {"sms.delivered"}


@pytest.mark.once
def test_both_languages_show_the_same_code() -> None:
    english, chinese = (re.findall(r"^```python\n.*?^```$", page.read_text(), re.M | re.S) for page in PAGES)
    assert english == chinese
    assert len(english) == 3
