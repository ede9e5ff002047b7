"""The plugin: cheap to load, never in Airflow's way, and mounted in a real API server (SMS_LIVE=1)."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from airflow_provider_sms.receiver.plugin import SmsPlugin
from scripts.processes import Children
from tests.receiver.conftest import FORM, RECEIPT, TOKEN
from tests.support import forking
from tests.support.airflow_rest import airflow_with_dags, start_airflow
from tests.test_import_cost import newly_imported, packages

LOADED = "import airflow.plugins_manager, importlib.metadata"


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> list[set[str]]:
    """What loading the plugin imports, and what mounting it does."""
    return newly_imported(
        "import airflow_provider_sms.receiver.plugin as it; it.SmsPlugin()",
        "import airflow_provider_sms.receiver.plugin as it; assert it.SmsPlugin().fastapi_apps",
        after=LOADED,
        home=tmp_path_factory.mktemp("home"),
    )


def test_loading_it_imports_nothing_but_the_plugin(imported: list[set[str]]) -> None:
    new, _ = imported
    # Airflow may have come across the package itself before.
    assert new - {"airflow_provider_sms"} == {"airflow_provider_sms.receiver", "airflow_provider_sms.receiver.plugin"}


def test_mounting_it_imports_no_database_and_reads_no_settings(imported: list[set[str]]) -> None:
    _, new = imported
    assert "airflow_provider_sms.receiver.app" in new
    assert packages(new) & {"fastapi", "requests", "sqlalchemy", "starlette", "uvicorn"} == set()


def test_loading_it_takes_no_time() -> None:
    # The best of a few: what other processes take is not the plugin's.
    program = f"""if True:
        {LOADED}
        import os, sys, time
        assert "airflow_provider_sms.receiver" not in sys.modules
        for _ in range(5):
            if not os.fork():
                begun = time.perf_counter()
                import airflow_provider_sms.receiver.plugin as it
                it.SmsPlugin()
                print(time.perf_counter() - begun, flush=True)
                os._exit(0)
            assert os.wait()[1] == 0
    """
    done = forking.run("-c", program)
    assert done.returncode == 0, done.stderr
    assert min(map(float, done.stdout.splitlines()[-5:])) < 0.020


def test_airflow_finds_it_by_its_entry_point() -> None:
    from importlib.metadata import entry_points

    (found,) = (each for each in entry_points(group="airflow.plugins") if each.name == "sms")
    assert found.load() is SmsPlugin


def test_it_is_mounted_once_however_often_airflow_asks() -> None:
    (first,) = SmsPlugin().fastapi_apps
    (second,) = SmsPlugin().fastapi_apps
    assert first["url_prefix"] == "/sms"
    assert first["app"] is second["app"]


def test_it_never_raises(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(SmsPlugin, "_mounted", [])
    monkeypatch.setitem(sys.modules, "airflow_provider_sms.receiver.app", None)
    assert SmsPlugin().fastapi_apps == []
    assert "is not mounted" in caplog.text


@pytest.fixture
def children() -> Iterator[Children]:
    with Children(patience=10) as children:
        yield children


@pytest.mark.live
@pytest.mark.timeout(600)
@pytest.mark.parametrize("wrong", [{}, {"AIRFLOW__SMS__ALLOWED_NETWORKS": "nonsense"}], ids=["right", "wrong settings"])
def test_a_real_api_server_has_it_and_starts_whatever_the_settings(
    children: Children, tmp_path: Path, wrong: dict[str, str]
) -> None:
    changes = {"AIRFLOW__SMS__PUSH_TOKENS": TOKEN, **wrong}
    with airflow_with_dags(children, [], tmp_path, **changes) as env:
        airflow = start_airflow(children, env, tmp_path)
        airflow.until("it is ready", airflow.is_ready, 180)
        address = urlsplit(env["AIRFLOW__API__BASE_URL"])

        def push(path: str) -> int:
            with closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)) as connection:
                connection.request("POST", path, urlencode(RECEIPT), {"Content-Type": FORM})
                return connection.getresponse().status

        expected = 503 if wrong else 200
        airflow.until("it answers", lambda: push(f"/sms/push?token={TOKEN}") == expected, 60)
        assert push("/sms/push?token=wrong") == (503 if wrong else 403)
        assert push(f"/sms/receipts/APP?token={TOKEN}") == expected
        assert airflow.is_ready()
        logs = b"".join(file.read_bytes() for file in tmp_path.glob("*.log"))
        # Airflow's own access log leaves out a parameter of this name.
        assert TOKEN.encode() not in logs
