"""Before anything imports Airflow: a throw-away AIRFLOW_HOME, and nothing of the caller's own Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import certifi
import pytest

for _name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[_name]
# The tests may run in a pod; what they test does not.
os.environ.pop("KUBERNETES_SERVICE_HOST", None)


def _remove(home: str, owner: int) -> None:
    # Forked children leave by the same door; only the test run itself tidies up.
    if os.getpid() == owner:
        shutil.rmtree(home, ignore_errors=True)


def _temporary_folder() -> str:
    folder = tempfile.mkdtemp(prefix="airflow-sms-tests-")
    atexit.register(_remove, folder, os.getpid())
    return folder


def _one_authority(folder: str) -> str:
    """A file with the first of the public authorities: no test asks a server that any of them speaks for.

    To read them all takes 30 ms for each TLS context, such as that of each connection of PyMySQL, encrypted or not.
    """
    end = "-----END CERTIFICATE-----"
    file = Path(folder, "authority.pem")
    if not file.exists():
        file.write_text(Path(certifi.where()).read_text("utf-8").partition(end)[0] + end + "\n", "utf-8")
    return str(file)


os.environ["AIRFLOW_HOME"] = _temporary_folder()
# The processes that share the tests of a run find here what one of them has made for all.
if "SMS_TESTS_SHARED" not in os.environ:
    os.environ["SMS_TESTS_SHARED"] = _temporary_folder()
os.environ["SSL_CERT_FILE"] = _one_authority(os.environ["SMS_TESTS_SHARED"])
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
os.environ["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] = "False"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts Airflow's own servers takes minutes: it runs only if it is asked for."""
    if os.environ.get("SMS_LIVE") == "1":
        return
    for item in items:
        if item.get_closest_marker("live"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: SMS_LIVE=1"))


def pytest_configure(config: pytest.Config) -> None:
    """Bring in the fixtures, and with them Airflow, where tests run: who only hands them out need not wait for it."""
    if config.getoption("dist", "no") == "no" or hasattr(config, "workerinput"):
        for name in ("tests.support.fixtures", "tests.support.databases"):
            config.pluginmanager.import_plugin(name)
