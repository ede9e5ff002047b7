"""DAGs of the docs, run to their end by Airflow against the simulator. That all of them are DAGs, tests/test_docs.py
sees; in Chinese they are the same but for their texts, which is seen there too."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_sms import cli
from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.ledger.database import Ledger
from airflow_provider_sms.send_judging import CampaignError
from tests.dags.test_waits import accepted, meanwhile
from tests.support import docs
from tests.support.airflow import put_dag, run_dag, states
from tests.support.pushed import listen, receipts, receive
from tests.support.simulator import Simulator, wait_until

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("connection")]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], Any]:
    """Run the DAG of this name, as the English pages have it."""

    def run(dag_id: str) -> Any:
        (block,) = [
            block
            for page in docs.pages("en")
            for block in docs.blocks(page, "python")
            if re.search(rf'dag_id="{dag_id}"', block.text)
        ]
        file = tmp_path / f"{dag_id}.py"
        file.write_text(block.text, encoding="utf-8")
        return run_dag(put_dag(file))

    return run


def test_the_tutorial_ends_as_it_says(
    run: Callable[[str], Any], ledger: Ledger, simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    listen(ledger)

    def answer() -> None:
        wait_until(lambda: len(accepted(ledger)) == 1, 120)
        receive(ledger, *receipts(accepted(ledger)[0], ["13800130001", "13800130002"]))

    with meanwhile(answer):
        finished = run("first_sms")
    assert finished.state == "success", states(finished)
    assert "2 of 2 delivered" in capsys.readouterr().out
    # The page shows how to look up what the first campaign of a new ledger was.
    shown = [block for block in docs.blocks(docs.DOCS / "en" / "tutorial.md", "shell") if "status" in block.text]
    for words in docs.commands(shown[0].text):
        assert cli.main(words) == 0, words


@pytest.mark.parametrize(
    ("dag_id", "sent"),
    [
        ("daily_report_sms", [["13800130001", "13800130002"]]),
        ("text_those_on_duty", [["13800130011", "13800130012"]]),
        ("regions", [["13800130021", "13800130022"], ["13800130023"]]),
        ("watch_balance", []),
    ],
)
def test_it_sends_what_it_says(
    dag_id: str, sent: list[list[str]], run: Callable[[str], Any], simulator: Simulator
) -> None:
    finished = run(dag_id)
    assert finished.state == "success", states(finished)
    assert sorted(batch["phones"] for batch in simulator.accepted()) == sent


def test_a_low_balance_fails_the_watch(run: Callable[[str], Any], simulator: Simulator) -> None:
    simulator.settings(balance=999)
    assert run("watch_balance").state == "failed"


def test_who_needs_somebody_is_told(
    run: Callable[[str], Any],
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The command's own output, without the ten seconds that a new process with Airflow in it takes.
    program, output = tmp_path / "airflow-sms", tmp_path / "campaigns.json"
    program.write_text(f"#!/bin/sh\ncat {output}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def look() -> str:
        capsys.readouterr()
        assert cli.main(["campaigns", "--limit", "200", "--output", "json"]) == 0
        output.write_text(capsys.readouterr().out)
        return str(run("sms_needs_somebody").state)

    SmsHook().send_group(["13800130001"], "【云通信】您好")
    assert look() == "success"
    simulator.fault("cut_after", on="send")
    with pytest.raises(CampaignError, match="1 in doubt"):
        SmsHook().send_group(["13800130002"], "【云通信】您好")
    assert look() == "failed"
