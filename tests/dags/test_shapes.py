"""Mapped, deferred, rescheduled and templated tasks, run to their end by Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow import put_dag, rendered_fields, run_dag, states, xcom
from tests.support.simulator import Simulator


@pytest.mark.usefixtures("connection")
def test_every_shape(simulator: Simulator) -> None:
    run = run_dag(put_dag(Path(__file__).with_name("shapes.py")))
    assert set(states(run).values()) == {"success"}, states(run)
    sent = {tuple(batch["phones"]): batch["taskId"] for batch in simulator.accepted()}
    assert set(sent) == {
        ("13800130031", "13800130032"),
        ("13800130033",),
        ("13800130041",),
        ("13800130042",),
    }
    assert xcom(run, "templated", "taskId") == [sent["13800130041",], sent["13800130042",]]
    assert _shown(run, "mapped") == {"2 phones, first 138****0031", "1 phone, first 138****0033"}
    assert _shown(run, "templated") == {"2 phones, first 138****0041"}
    assert xcom(run, "enough") == 10_000
    assert xcom(run, "rescheduled") == 10_000


def _shown(run: Any, task_id: str) -> set[str]:
    return {fields["phones"] for fields in rendered_fields(run, task_id)}
