"""Before anything imports Airflow: a throw-away AIRFLOW_HOME, and nothing of the caller's own Airflow."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

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


os.environ["AIRFLOW_HOME"] = _temporary_folder()
# The processes that share the tests of a run find here what one of them has made for all.
os.environ.setdefault("SMS_TESTS_SHARED", _temporary_folder())
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"
os.environ["AIRFLOW__USAGE_DATA_COLLECTION__ENABLED"] = "False"

pytest_plugins = ["tests.support.fixtures", "tests.support.databases"]
