"""A throw-away Airflow and a simulated platform, for the scripts that show the provider at work."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.environment import ROOT
from scripts.processes import Child, ChildFailed, Children

HOST = "127.0.0.1"
KEPT = ROOT / ".demo"
# Not by the installed script: its first line can not name a path that is long or has a blank in it.
AIRFLOW = (sys.executable, "-m", "airflow")
_LOOPBACK = "127.0.0.1,localhost,::1"
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Simulator:
    """A running platform.

    :param address: its base URL.
    :param connection: the Airflow connection to it, as JSON.
    """

    child: Child
    address: str
    connection: str


def start_simulator(children: Children, log: Path, *flags: str) -> Simulator:
    """Start the simulated platform on a free port, and wait until it answers.

    :param flags: more of its flags.
    :raises ChildFailed: it does not come up.
    """
    command = [sys.executable, "-u", "-m", "airflow_provider_sms.simulator", "--port", "0", *flags]
    child = children.start("the simulator", command, _plain_environment(), log)

    def address() -> str | None:
        child.check_alive()
        found = re.search(r"^listening on (\S+)$", log.read_text(errors="replace"), re.MULTILINE)
        return found and found[1]

    if not children.wait_until(lambda: address() is not None, 60):
        raise ChildFailed("the simulator did not say where it listens", log)
    exported = re.search(r"^export AIRFLOW_CONN_SMS_SIMULATOR=(.*)$", log.read_text(), re.MULTILINE)
    if exported is None:
        raise ChildFailed("the simulator did not print its connection", log)
    return Simulator(child, str(address()), shlex.split(exported[1])[0])


def start_receiver(children: Children, port: int, env: dict[str, str], log: Path) -> Child:
    """Start the receiver on its own, and wait until it is well.

    :param env: an Airflow's, as `airflow_home` gives it, with a push token.
    :raises ChildFailed: it does not come up.
    """
    command = [sys.executable, "-m", "airflow_provider_sms", "receiver", "--host", HOST, "--port", str(port)]
    child = children.start("the receiver", command, env, log)

    def is_well() -> bool:
        child.check_alive()
        try:
            with _DIRECT.open(f"http://{HOST}:{port}/sms/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    if not children.wait_until(is_well, 60):
        raise ChildFailed("the receiver is not well", log)
    return child


def push_address(port: int, token: str) -> str:
    """Where the simulated platform pushes to on this machine."""
    return f"http://{HOST}:{port}/sms/push?token={token}"


def free_port() -> int:
    """A port that nothing listens on right now."""
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def airflow_home(children: Children, **settings: str) -> Iterator[dict[str, str]]:
    """Make a new AIRFLOW_HOME with the example DAGs in it; it is gone afterwards.

    :param children: who may run in it; all are stopped first, since they would write into it again.
    :param settings: more variables for Airflow.
    :returns: the environment to run Airflow in; nothing of the caller's own Airflow is in it.
    """
    home = Path(tempfile.mkdtemp(prefix="airflow-sms-"))
    try:
        dags = home / "dags"
        dags.mkdir()
        for file in (ROOT / "example_dags").glob("*.py"):
            shutil.copy(file, dags)
        yield {
            **_plain_environment(),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            # All of it runs on this machine, even if that is a pod.
            "AIRFLOW__SMS__ALLOW_SQLITE": "True",
            **settings,
        }
    finally:
        children.stop_all()
        shutil.rmtree(home, ignore_errors=True)


def _plain_environment() -> dict[str, str]:
    """This process's environment without its Airflow settings, and with no proxy before this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    own_path = os.pathsep.join((str(Path(sys.executable).parent), kept.get("PATH", os.defpath)))
    return {**kept, "PATH": own_path, "PYTHONPATH": str(ROOT), "NO_PROXY": _LOOPBACK, "no_proxy": _LOOPBACK}


def fresh_log(name: str) -> Path:
    """Begin a log file that stays after the script's end, in place of the last run's."""
    KEPT.mkdir(exist_ok=True)
    log = KEPT / name
    log.write_bytes(b"")
    return log


class Steps:
    """Tell what is going on, with the seconds that each step took."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Print `text` now, and its duration when the block is done."""
        print(f"{text} ... ", end="", flush=True)
        started = time.monotonic()
        try:
            yield
        except BaseException:
            print(flush=True)
            raise
        print(f"{time.monotonic() - started:.1f} s", flush=True)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._started


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log, indented."""
    lines = log.read_text(errors="replace").splitlines()[-count:]
    return "\n".join(f"  | {line}" for line in lines)
