"""Mapped, deferred, rescheduled and templated tasks, run to their end by Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_sms import send_patience, send_settling
from tests.support.airflow import put_dag, rendered_fields, run_dag, states, xcom
from tests.support.simulator import Simulator


@pytest.mark.usefixtures("connection")
def test_every_shape(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0.txt").write_text("13800130071\n13800130072\n")
    (tmp_path / "1.txt").write_text("13800130072\n13800130073\n")
    monkeypatch.setenv("AIRFLOW_VAR_SMS_FOLDER", str(tmp_path))
    simulator.fault("refuse", message="相同手机号码一分钟之内只可发送一次", phone="13800130061")
    # What would be waited for in place is waited for outside the process, and not for a whole minute.
    monkeypatch.setattr(send_patience, "IN_PLACE", 0.5)
    monkeypatch.setattr(send_settling, "ONE_MINUTE", 1.0)
    run = run_dag(put_dag(Path(__file__).with_name("shapes.py")))
    assert set(states(run).values()) == {"success"}, states(run)
    sent = {tuple(batch["phones"]): batch["taskId"] for batch in simulator.accepted()}
    # The two files share a phone: whichever instance comes first has it.
    from_files = [batch for batch in sent if batch[0].startswith("1380013007")]
    assert sorted(phone for batch in from_files for phone in batch) == ["13800130071", "13800130072", "13800130073"]
    assert set(sent).difference(from_files) == {
        ("13800130031", "13800130032"),
        ("13800130033",),
        ("13800130041",),
        ("13800130042",),
        ("13800130051",),
        ("13800130061",),
    }
    assert xcom(run, "templated", "taskId") == [sent["13800130041",], sent["13800130042",]]
    assert _shown(run, "mapped") == {"2 phones, first 138****0031", "1 phone, first 138****0033"}
    assert _shown(run, "templated") == {"2 phones, first 138****0041"}
    assert xcom(run, "waits")["accepted"] == 1
    assert _shown(run, "files") == {f"file {tmp_path}/0.txt", f"file {tmp_path}/1.txt"}
    assert xcom(run, "enough") == 10_000
    assert xcom(run, "rescheduled") == 10_000


def _shown(run: Any, task_id: str) -> set[str]:
    return {fields["phones"] for fields in rendered_fields(run, task_id)}
