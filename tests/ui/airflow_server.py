"""Airflow's API server with its user interface, in a home of its own, for the browser."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.simulator import REPOSITORY, wait_until

_SETTINGS = {
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
}


@contextmanager
def airflow_server(home: Path) -> Iterator[str]:
    """Run one; its address.

    :param home: an AIRFLOW_HOME with a migrated database.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    env |= _SETTINGS | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags")}
    # Behind what is there: an environment may name the copy of the provider to look at.
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(REPOSITORY)]))
    airflow = [sys.executable, "-m", "airflow"]
    log = home / "api-server.log"
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    command = [*airflow, "api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            env=env,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:

        def answers() -> bool:
            assert server.poll() is None, log.read_text(errors="replace")[-4000:]
            try:
                with opener.open(f"{address}/api/v2/monitor/health", timeout=10) as answer:
                    return answer.status == 200  # type: ignore[no-any-return]
            except (urllib.error.URLError, OSError):
                return False

        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        wait_until(answers, 180)
        yield address
    finally:
        _stop(server)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and its workers: it leads a process group of its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
            server.wait(20)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
