"""`make airflow`: Airflow's own user interface on this machine, with a simulated platform connected.

The four parts of `airflow standalone`, started one by one: standalone itself does not end its parts on
SIGTERM, and has its scheduler and triggerer serve log files to the whole network.
"""

from __future__ import annotations

import argparse
import json
import secrets
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

from scripts.processes import Child, ChildFailed, Children, Interrupted
from scripts.sandbox import (
    AIRFLOW,
    HOST,
    Steps,
    airflow_home,
    free_port,
    fresh_log,
    last_lines,
    push_address,
    start_simulator,
)

USUAL_PORT = 8080
_READY_WITHIN = 300
_PARTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}


class PortTaken(Exception):
    """The port that was asked for is in use."""


def choose_port(wanted: int | None) -> int:
    """Take the port that was asked for, or else the usual one, or else any free one.

    :raises PortTaken: it was asked for, and is in use.
    """
    if wanted is not None:
        if not _is_free(wanted):
            raise PortTaken(f"Port {wanted} on {HOST} is in use or not allowed; name another: make airflow PORT=8090")
        return wanted
    return USUAL_PORT if _is_free(USUAL_PORT) else free_port()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def settings(port: int) -> dict[str, str]:
    """What differs from Airflow's defaults: this machine only, no log-in, small, and a *Test* button."""
    address = f"http://{HOST}:{port}"
    return {
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    }


def run_airflow(children: Children, port: int, steps: Steps) -> None:
    """Bring everything up, and keep it up until a signal comes.

    :raises ChildFailed: a part did not come up, or went away.
    :raises Interrupted: always, in the end.
    """
    log = fresh_log("airflow.log")
    token = secrets.token_urlsafe(32)
    with steps.step("Starting the simulated platform"):
        # Receipts, and a reply from every third phone, arrive at the receiver in Airflow's API server.
        flags = ["--push-url", push_address(port, token), "--receipt-delay", "5", "--reply-share", "0.34"]
        flags += ["--reply-delay", "5", "--reply-text", "1", "--push-repeats", "20"]
        simulator = start_simulator(children, fresh_log("airflow-simulator.log"), *flags)
    with airflow_home(children, **settings(port), AIRFLOW__SMS__PUSH_TOKENS=token) as env:
        try:
            with steps.step("Making Airflow's database"):
                children.run("airflow db migrate", [*AIRFLOW, "db", "migrate"], env, log)
            with steps.step("Adding the connection sms_simulator"):
                add = [*AIRFLOW, "connections", "add", "sms_simulator", "--conn-json", simulator.connection]
                children.run("airflow connections add", add, env, log)
            with steps.step("Starting Airflow (up to a minute)"):
                parts = [
                    children.start(f"airflow {name}", [*AIRFLOW, *command], env, log)
                    for name, command in _PARTS.items()
                ]
                _wait_until_healthy(children, parts, port, log)
            print(_ready(port, simulator.address, log), flush=True)
            _keep_up(children, [simulator.child, *parts])
        finally:
            print("\nStopping ... ", end="", flush=True)
            children.stop_all()
            print("all stopped.", flush=True)


def _wait_until_healthy(children: Children, parts: list[Child], port: int, log: Path) -> None:
    def healthy() -> bool:
        for part in parts:
            part.check_alive()
        return all(_health(port).get(name) == "healthy" for name in ("scheduler", "dag_processor", "triggerer"))

    if not children.wait_until(healthy, _READY_WITHIN):
        raise ChildFailed(f"Airflow was not healthy within {_READY_WITHIN} s ({_health(port) or 'no answer'})", log)


def _health(port: int) -> dict[str, str | None]:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"http://{HOST}:{port}/api/v2/monitor/health", timeout=5) as answer:
            return {name: part.get("status") for name, part in json.load(answer).items()}
    except (OSError, ValueError, urllib.error.URLError):
        return {}


def _keep_up(children: Children, parts: list[Child]) -> None:
    while True:
        children.wait_until(lambda: False, 1)
        for part in parts:
            part.check_alive()


def _ready(port: int, simulator: str, log: Path) -> str:
    return f"""
Airflow is ready: http://{HOST}:{port}   (no log-in; open to this machine only)

  the connection    http://{HOST}:{port}/connections, sms_simulator; its Test button works
  the example DAGs  http://{HOST}:{port}/dags; trigger example_sms_campaign, or
                    example_sms_delivery, whose receipts arrive a few seconds later
  what was "sent"   {simulator}/_simulator/accepted   (nothing is really sent)
  Airflow's log     {log}

Ctrl-C stops everything; nothing of it is kept but the logs."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make airflow", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, help=f"of the user interface (default: {USUAL_PORT}, or a free one)")
    args = parser.parse_args()
    try:
        port = choose_port(args.port)
        with Children(patience=6) as children:
            run_airflow(children, port, Steps())
    except PortTaken as mistake:
        print(mistake, file=sys.stderr)
        return 2
    except Interrupted:
        return 0
    except ChildFailed as failure:
        print(
            f"{last_lines(failure.log)}\nAirflow did not run: {failure}. Its log: {failure.log}",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
