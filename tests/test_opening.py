"""Which ledger is opened, and which are refused or warned about."""

from __future__ import annotations

import logging
import os
import stat
import threading
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import airflow.settings  # noqa: F401 - before a test names another AIRFLOW_HOME, and before caplog looks
import pytest

from airflow_provider_sms import opening
from airflow_provider_sms.ledger import sqlite_file
from airflow_provider_sms.ledger.errors import (
    LedgerError,
    LedgerLostError,
    LedgerUnreachableError,
    LedgerUnsuitableError,
    LedgerVersionError,
)
from airflow_provider_sms.ledger.keys import CampaignKey, TaskInstanceKey
from airflow_provider_sms.ledger.plans import Plans
from airflow_provider_sms.ledger.sqlite_file import file_system, warning
from airflow_provider_sms.opening import open_for_campaign, open_ledger
from airflow_provider_sms.planning import Try
from tests.support.campaigns import SENDER

LOG = logging.getLogger(__name__)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """A process ends at this very place."""


def patched_away(step: str) -> AbstractContextManager[object]:
    """A step of `opening` at whose beginning the process is killed."""
    return patch.object(opening, step, side_effect=Killed)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
    monkeypatch.delenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    return tmp_path


class TestSqlite:
    def test_it_is_made_on_first_use_for_its_owner_alone(self, home: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO):
            open_ledger(LOG).close()
            open_ledger(LOG).close()
        file = home / "sms_ledger.db"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert caplog.text.count("Made the ledger") == 1
        assert [each.name for each in home.iterdir() if ".new" in each.name] == []

    def test_what_makes_it_for_a_first_try_notes_the_try_in_the_same_step(self, home: Path) -> None:
        key = CampaignKey("", SENDER)
        with patched_away("begin"), pytest.raises(Killed):
            open_for_campaign(LOG, key, Try(1, LONG_AGO))
        ledger = open_for_campaign(LOG, key, Try(2, LONG_AGO))
        assert Plans(ledger, "me").find(key) is not None
        ledger.close()
        with pytest.raises(LedgerLostError):
            open_for_campaign(LOG, CampaignKey("", TaskInstanceKey("dag", "run", "other")), Try(2, LONG_AGO))

    def test_a_later_try_that_makes_it_has_lost_what_the_first_one_knew(self, home: Path) -> None:
        for number in (2, 3):
            with pytest.raises(LedgerLostError, match=f"this is try {number}"):
                open_for_campaign(LOG, CampaignKey("", SENDER), Try(number, LONG_AGO))

    def test_several_that_make_it_at_once_make_one(self, home: Path) -> None:
        made: list[bool] = []
        threads = [threading.Thread(target=lambda: made.append(sqlite_file.make(home / "x.db"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(made) == [False, False, False, True]

    def test_a_folder_that_can_not_be_written_is_named(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (home / "file").touch()
        monkeypatch.setenv("AIRFLOW_HOME", str(home / "file"))
        with pytest.raises(LedgerUnreachableError, match="can not be made"):
            open_ledger(LOG)

    @pytest.mark.parametrize(
        "executor", ["CeleryExecutor", "KubernetesExecutor", "LocalExecutor,CeleryExecutor", "my.own.RemoteExecutor"]
    )
    def test_an_executor_on_other_machines_refuses_it(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, executor: str
    ) -> None:
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
        with pytest.raises(LedgerUnsuitableError) as error:
            open_ledger(LOG)
        assert executor.rpartition(",")[2].rpartition(".")[2] in str(error.value)
        assert "AIRFLOW__SMS__SQL_ALCHEMY_CONN=postgresql" in str(error.value)
        assert "airflow-sms ledger upgrade" in str(error.value)
        assert not (home / "sms_ledger.db").exists()

    def test_so_does_kubernetes_whatever_the_executor_is_called(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
        with pytest.raises(LedgerUnsuitableError, match="runs in Kubernetes"):
            open_ledger(LOG)

    def test_who_knows_better_may_allow_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "192.0.2.1")
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
        monkeypatch.setenv("AIRFLOW__SMS__ALLOW_SQLITE", "True")
        open_ledger(LOG).close()

    def test_a_path_of_one_s_own_is_refused_alike(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", f"sqlite:///{home}/own.db")
        open_ledger(LOG).close()
        assert (home / "own.db").exists()
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
        with pytest.raises(LedgerUnsuitableError):
            open_ledger(LOG)


class TestServers:
    def test_one_without_tables_says_what_to_run(self, postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", postgresql_url)
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
        with pytest.raises(LedgerVersionError, match="airflow-sms ledger upgrade"):
            open_ledger(LOG)

    def test_a_driver_that_is_not_installed_is_named_with_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__SMS__SQL_ALCHEMY_CONN", "postgresql+pg8000://user@host/x")
        with pytest.raises(LedgerError, match=r"airflow-provider-sms\[postgres\]"):
            open_ledger(LOG)


MOUNTS = """\
22 1 254:0 / / rw - overlay overlay rw
23 22 0:5 / /data rw shared:1 - ext4 /dev/sdb rw
24 22 0:6 / /data/share rw - nfs4 server:/share rw
25 22 0:7 / /run rw - tmpfs tmpfs rw
26 22 0:8 / /with\\040blank rw - cifs //server/x rw
"""


class TestPlaces:
    @pytest.mark.parametrize(
        ("path", "kind", "said"),
        [
            ("/opt/airflow/x.db", "overlay", "container's own layer"),
            ("/data/x.db", "ext4", ""),
            ("/data/shared/x.db", "ext4", ""),
            ("/data/share/x.db", "nfs4", "network file system (nfs4)"),
            ("/run/x.db", "tmpfs", "lies in memory"),
            ("/with blank/x.db", "cifs", "network file system (cifs)"),
        ],
    )
    def test_what_lies_where_it_can_be_lost_is_warned_about(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str, said: str
    ) -> None:
        mounts = tmp_path / "mountinfo"
        mounts.write_text(MOUNTS)
        assert file_system(Path(path), mounts) == kind
        monkeypatch.setattr(sqlite_file, "file_system", lambda path: kind)
        assert said in warning(Path(path))
        assert bool(said) == bool(warning(Path(path)))

    def test_a_system_that_does_not_say_is_not_warned_about(self, tmp_path: Path) -> None:
        assert file_system(tmp_path, tmp_path / "nothing") == ""

    def test_the_warning_is_in_the_task_s_log(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(sqlite_file, "file_system", lambda path: "overlay")
        open_ledger(LOG).close()
        assert "is lost with the container" in caplog.text

    def test_this_machine_s_memory_is_known_for_what_it_is(self) -> None:
        if not os.access("/dev/shm", os.W_OK):
            pytest.skip("no /dev/shm")
        assert file_system(Path("/dev/shm/x.db")) == "tmpfs"
