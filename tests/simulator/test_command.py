"""The command: what it prints, where it listens, how it ends, what it says to a mistake."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_sms.simulator import command
from tests.simulator.client import SEND, balance, post, send_fields
from tests.support.simulator import REPOSITORY, Simulator


def run_to_the_end(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "airflow_provider_sms.simulator", *flags],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "utf-8"},
    )


def test_the_banner_says_loudly_that_nothing_is_sent_and_how_to_connect() -> None:
    with Simulator(app_id="MY-ID", app_key='it\'s "made" up') as simulator:
        text = "\n".join(simulator.banner)
        assert "NOTHING IS REALLY SENT" in text
        assert "App ID:  MY-ID" in text
        assert 'App Key: it\'s "made" up' in text
        name, _, value = next(line for line in simulator.banner if "AIRFLOW_CONN" in line).partition("=")
        assert name == "export AIRFLOW_CONN_SMS_SIMULATOR"
        assert json.loads(shlex.split(value)[0]) == {
            "conn_type": "sms",
            "host": simulator.base_url,
            "port": int(simulator.base_url.rpartition(":")[2]),
            "login": "MY-ID",
            "password": 'it\'s "made" up',
            "extra": {"signature": "云通信"},
        }
        assert simulator.base_url.startswith("http://127.0.0.1:")
        assert balance(simulator)["message"] == "成功"
        assert "warning" not in simulator.log()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_on_a_signal_even_with_requests_and_pushes_under_way(number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with Simulator("--push-url", url) as simulator:
            simulator.fault("slow", seconds=600)
            with pytest.raises(TimeoutError):
                post(simulator, SEND, send_fields(simulator), timeout=0.2)
            simulator.process.send_signal(number)
            assert simulator.process.wait(10) == 0
            assert "Traceback" not in simulator.log()


def test_a_stopped_simulator_frees_its_port_at_once() -> None:
    with Simulator() as first:
        port = first.base_url.rpartition(":")[2]
        balance(first)
    with Simulator("--port", port) as second:
        assert second.base_url == first.base_url


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_to_the_end("--port", str(port))
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == f"simulator: can not listen on 127.0.0.1 port {port}: Address already in use\n"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--port", "x"], "--port must be a whole number, not 'x'"),
        (["--port", "70000"], "--port must be between 0 and 65535, not 70000"),
        (["--balance", "many"], "--balance must be a whole number, not 'many'"),
        (["--latency", "nan"], "--latency must be a number, not nan"),
        (["--fail-share", "2"], "--fail-share must be between 0 and 1, not 2"),
        (["--locked", "perhaps"], "--locked must be true or false (as a flag: on or off), not 'perhaps'"),
        (["--push-url", "nowhere"], "--push-url must be an address such as http://127.0.0.1:8085/sms/push"),
        (["--app-id", ""], "--app-id and --app-key must not be empty"),
        (["--host", ""], "--host must not be empty: 127.0.0.1, or 0.0.0.0 for all addresses"),
        (["--host", "no such host"], "can not listen on no such host port 10658: "),
    ],
)
def test_a_mistake_is_one_clear_line(flags: list[str], sentence: str) -> None:
    ended = run_to_the_end(*flags)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"simulator: {sentence}")
    assert ended.stderr.count("\n") == 1


def test_none_switches_an_optional_flag_off() -> None:
    with Simulator("--phone-daily-cap", "none", "--push-url", "none") as simulator:
        assert simulator.settings()["phone_daily_cap"] is None
        assert simulator.settings()["push_url"] is None


def test_binding_to_more_than_loopback_is_warned_of() -> None:
    with Simulator("--host", "0.0.0.0") as simulator:
        assert simulator.base_url.startswith("http://127.0.0.1:")
        assert balance(simulator)["message"] == "成功"
        assert "warning: not bound to loopback" in simulator.log()


def test_it_can_listen_on_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with Simulator("--host", "::1") as simulator:
        assert simulator.base_url.startswith("http://[::1]:")
        assert balance(simulator)["message"] == "成功"


def test_the_defaults_are_loopback_port_10658_and_a_made_up_account() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args([])
    assert (args.host, args.port, args.app_id, args.app_key) == (
        "127.0.0.1",
        "10658",
        "SIMULATOR-APP-ID",
        "simulator-app-key",
    )


def test_the_help_explains_every_flag() -> None:
    ended = run_to_the_end("--help")
    assert ended.returncode == 0
    assert "--on-phone-refused refuse_batch|partial" in ended.stdout


def test_importing_the_simulator_loads_neither_airflow_nor_requests_nor_the_gateway() -> None:
    script = (
        "import sys, airflow_provider_sms.simulator.command\n"
        "roots = ('airflow', 'requests', 'sqlalchemy')\n"
        "bad = [name for name in sys.modules if name.split('.')[0] in roots]\n"
        "ours = [name for name in sys.modules if name.startswith('airflow_provider_sms.')]\n"
        "print(bad + [name for name in ours if 'simulator' not in name])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert ended.stdout.strip() == "[]"


def test_no_module_of_the_simulator_imports_another_part_of_the_package() -> None:
    package = Path(REPOSITORY, "airflow_provider_sms", "simulator")
    for module in package.glob("*.py"):
        for line in module.read_text(encoding="utf-8").splitlines():
            if line.strip().startswith(("from airflow", "import airflow")):
                assert line.strip().startswith("from airflow_provider_sms.simulator"), module
