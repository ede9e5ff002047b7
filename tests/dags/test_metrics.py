"""Metrics as a StatsD server hears them: of tasks that Airflow runs, and of the receiver, each in its own process."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import airflow
import pytest

from tests.support.airflow import ROOT
from tests.support.forking import Program
from tests.support.otel import Collector
from tests.support.receiver_process import HOST, TOKEN, Receiver
from tests.support.simulator import Simulator
from tests.support.statsd import StatsD

TIME = "2030-01-31 12:00:00"


@pytest.mark.usefixtures("connection")
def test_a_send_its_receipts_and_the_pushes_are_counted(
    simulator: Simulator, ledger_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.fault("refuse", message="手机号码格式不正确", phone="13800130002")
    simulator.fault("cut_after", phone="13800130003")
    with StatsD() as statsd:
        for name, value in statsd.environment.items():
            monkeypatch.setenv(name, value)
        _run_dag(tmp_path / "dag.log")
        of = "conn_id=sms_default"
        expected = {
            f"sms.texts.accepted,{of}": 2,
            f"sms.texts.refused,reason=PhoneFormatError,{of}": 1,
            f"sms.texts.in_doubt,{of}": 1,
        }
        statsd.wait_for(expected)
        # The last that anybody heard of the account, by the sensor or with an answer.
        left = 10_000.0 - 3
        assert statsd.gauges == {f"sms.balance,{of}": left, "sms.balance.sms_default": left}
        durations = {name: len(times) for name, times in statsd.timings.items()}
        assert durations == {
            f"sms.send.duration,outcome=accepted,{of}": 2,
            f"sms.send.duration,outcome=refused,{of}": 1,
            f"sms.send.duration,outcome=in_doubt,{of}": 1,
        }
        assert all(0 < each < 60_000 for times in statsd.timings.values() for each in times)

        statsd.counts.clear()
        accepted = {batch["phones"][0]: batch["taskId"] for batch in simulator.accepted()}
        with Receiver(tmp_path, f"sqlite:///{ledger_file}") as receiver:
            for phone, status, code in (("13800130001", "1", ""), ("13800130004", "0", "MK:0001")):
                fields = {"mobile": phone, "taskid": accepted[phone], "status": status, "code": code}
                assert _push(receiver.port, TOKEN, {**fields, "receivetime": TIME}) == 200
            fields = {"mobile": "13800130001", "taskid": accepted["13800130001"], "content": "收到"}
            assert _push(receiver.port, TOKEN, {**fields, "receivetime": TIME}) == 200
            assert _push(receiver.port, "FAKE-WRONG-TOKEN-0123456789", fields) == 403
            assert _push(receiver.port, TOKEN, {"mobile": "13800130001"}) == 400
            expected = {
                "sms.pushes.receipts": 2,
                "sms.pushes.replies": 1,
                "sms.pushes.refused,status=403": 1,
                "sms.pushes.refused,status=400": 1,
                "sms.texts.delivered": 1,
                "sms.texts.failed,cause=dead_number": 1,
            }
            statsd.wait_for(expected)


@pytest.mark.skipif(
    tuple(map(int, airflow.__version__.split(".")[:2])) < (3, 3),
    reason="this Airflow forgets what a process that ends has counted for OpenTelemetry",
)
@pytest.mark.usefixtures("connection")
def test_opentelemetry_hears_of_a_command_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        command = [sys.executable, "-m", "airflow_provider_sms", "balance"]
        finished = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=280)
        assert finished.stdout == "10000\n", finished.stderr
    assert b"airflow.sms.balance.sms_default" in b"".join(collector.exported), finished.stderr


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def _run_dag(log: Path) -> None:
    """In a process of its own: which Stats there is, is settled once in a process."""
    counted = Path(__file__).with_name("counted.py")
    program = Program("tests.dags.run_failures", [str(counted)], _environment(), log)
    assert program.wait(280) == 0, log.read_text()
    assert 'STATES {"enough": "success", "send": "success"}' in log.read_text(), log.read_text()


def _push(port: int, token: str, fields: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        body = urllib.parse.urlencode(fields)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", f"/sms/push?token={token}", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()
