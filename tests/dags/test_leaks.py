"""Every failure mode once; then nothing secret is anywhere: not in AIRFLOW_HOME, logs, output or exceptions."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.airflow import ROOT, new_home
from tests.support.simulator import Simulator

FIRST = 13800137000
WRONG_KEY = "FAKE-WRONG-KEY-7d793037"
PROXY_PASSWORD = "fake/proxy pw-a0768"
QUOTED_PASSWORD = "fake%2Fproxy%20pw-a0768"
FAULTS = {
    1: ("cut_before", {}),
    2: ("cut_after", {}),
    3: ("status", {"status": 500, "accept": True}),
    4: ("status", {"status": 307, "location": "http://127.0.0.1:9/"}),
    5: ("html", {"accept": True}),
    6: ("truncated", {}),
    7: ("empty", {}),
    8: ("no_task_id", {}),
    9: ("unknown_reason", {"accept": True}),
    10: ("refuse", {"message": f"号码{FIRST + 10}已被列入黑名单"}),
    11: ("garbage", {}),
    12: ("slow", {"seconds": 5}),
}
SUCCEED = {"succeeds", "duplicates"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An AIRFLOW_HOME of its own, migrated already."""
    return new_home(tmp_path / "home")


def test_nothing_secret_is_left_anywhere(
    simulator: Simulator, connection: Callable[..., None], home: Path, tmp_path: Path
) -> None:
    proxy = f"http://somebody:{QUOTED_PASSWORD}@127.0.0.1:9"
    connection("sms_wrong_key", password=WRONG_KEY)
    connection("sms_nobody_there", host="http://127.0.0.1:9")
    connection("sms_dead_proxy", extra={"proxy": proxy})
    connection("sms_broken_proxy", extra={"proxy": proxy.replace("http://", "socks5://")})
    connection("sms_unknown_extra", extra={"proxy": proxy, "appKey": simulator.app_key})
    for number, (kind, fields) in FAULTS.items():
        simulator.fault(kind, phone=str(FIRST + number), on="send", **fields)

    output = _run(home)

    states = json.loads(re.search(r"^STATES (.*)$", output, re.MULTILINE)[1])  # type: ignore[index]
    assert {name for name, state in states.items() if state == "success"} == SUCCEED
    assert {state for name, state in states.items() if name not in SUCCEED} == {"failed"}
    assert simulator.faults() == []
    for sentence in (
        "The platform refused: 号码138****7010已被列入黑名单",
        "The request left, but no answer came",
        "AirflowTaskTimeout: nothing more is sent",
        "execution_timeout (0:00:01) is over",
        "HTTP status 500",
        "extra: unknown field 'appKey'",
        "proxy: not a proxy's address",
        "there is no connection 'sms_nowhere'",
        "content: no signature",
        "is past",
        "phones: the template fails",
        "content: the template fails",
        "账号或密码错误",
    ):
        assert sentence in output, sentence

    secrets = [simulator.app_key, WRONG_KEY, PROXY_PASSWORD, QUOTED_PASSWORD]
    secrets.append(base64.b64encode(f"somebody:{PROXY_PASSWORD}".encode()).decode())
    phone = re.compile(rb"(?<!\d)13800137[0-9]{3}(?!\d)")
    (tmp_path / "output.txt").write_text(output)
    for file in [tmp_path / "output.txt", *home.rglob("*")]:
        if not file.is_file():
            continue
        data = file.read_bytes()
        for secret in secrets:
            assert secret.encode() not in data, f"{secret} in {file.name}: {_around(data, secret.encode())}"
        if file.name.startswith("sms_ledger.db"):
            continue  # the place where phones belong
        found = phone.search(data)
        assert found is None, f"a phone in {file.name}: {_around(data, found[0])}"
    assert b"1 phone, first 138****7000" in (home / "airflow.db").read_bytes()


def _run(home: Path) -> str:
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "AIRFLOW_VAR_SMS_FIRST": str(FIRST),
        "AIRFLOW_VAR_SMS_LAST": str(FIRST + 99),
        "AIRFLOW_VAR_SMS_TEXT": f"【云通信】您好,请致电{FIRST + 98}",
    }
    command = [sys.executable, "-m", "tests.dags.run_failures", str(Path(__file__).with_name("failures.py"))]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]
    # Airflow's own in-process runner of dag.test() logs what it is told to mask, at level DEBUG, and on 3.0 always.
    lines = (finished.stdout + finished.stderr).splitlines(keepends=True)
    return "".join(line for line in lines if "msg=MaskSecret(" not in line)


def _around(data: bytes, needle: bytes) -> str:
    at = data.index(needle)
    return repr(data[max(0, at - 300) : at + 100])
