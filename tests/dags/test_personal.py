"""Personal texts, run to their end by Airflow: every phone its own, and none of them where Airflow shows fields."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow import put_dag, rendered_fields, run_dag, states, xcom
from tests.support.fixtures import Database, sqlite
from tests.support.simulator import Simulator


@pytest.mark.usefixtures("connection")
def test_personal_texts_from_everywhere(
    simulator: Simulator,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "people.csv").write_text("姓名,手机\n王芳,13800130087\n李伟,13800130088\n")
    with closing(sqlite3.connect(tmp_path / "people.db")) as people, people:
        people.execute("CREATE TABLE people (phone TEXT, name TEXT)")
        people.executemany("INSERT INTO people VALUES (?, ?)", [("13800130089", "张敏"), ("1", "personal")])
    database(sqlite(tmp_path / "people.db"))
    monkeypatch.setenv("AIRFLOW_VAR_SMS_FOLDER", str(tmp_path))
    run = run_dag(put_dag(Path(__file__).with_name("personal.py")))
    assert set(states(run).values()) == {"success"}, states(run)
    sent = [(phone, batch["content"]) for batch in simulator.accepted() for phone in batch["phones"]]
    assert sorted(sent) == [
        ("13800130081", f"【云通信】{{{{ ds }}}}{{amount}}:{run.run_id}"),
        ("13800130082", f"【云通信】7:{run.run_id}"),
        ("13800130083", "【云通信】{{ ds }}"),
        ("13800130084", "【云通信】四"),
        ("13800130085", f"【云通信】{run.run_id}"),
        ("13800130086", "【云通信】六"),
        ("13800130087", "【云通信】王芳您好"),
        ("13800130088", "【云通信】李伟您好"),
        ("13800130089", "【云通信】张敏您好"),
    ]
    assert len(xcom(run, "file", "taskId")) == 2
    assert xcom(run, "rows")["points"] == 2
    assert _shown(run, "rows") == {"2 messages, first 138****0081"}
    assert _shown(run, "written") == {"2 messages, first 138****0085"}
    assert _shown(run, "mapped") == {"1 message, first 138****0083", "2 messages, first 138****0084"}
    assert _shown(run, "file") == {f"file {tmp_path}/people.csv, column 手机"}
    assert _shown(run, "query") == {"query on warehouse"}
    everything = json.dumps([rendered_fields(run, name) for name in ("rows", "written", "mapped", "file", "query")])
    assert not [text for _, text in sent if json.dumps(text)[1:-1] in everything]


def _shown(run: Any, task_id: str) -> set[str]:
    return {fields["messages"] for fields in rendered_fields(run, task_id)}
