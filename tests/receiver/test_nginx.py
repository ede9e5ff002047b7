"""The recipe in docs/receiver-nginx.conf, run by a real nginx: HTTPS in front of the receiver, the token in no log."""

from __future__ import annotations

import http.client
import os
import pwd
import re
import shutil
import sqlite3
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trustme

from tests.receiver.conftest import FORM, HOST, RECEIPT, TOKEN, Served, SetOptions
from tests.support.airflow import ROOT
from tests.support.databases import _free_port
from tests.support.simulator import wait_until

pytestmark = pytest.mark.once

RECIPE = ROOT / "docs" / "receiver-nginx.conf"


def _nginx() -> str:
    found = shutil.which("nginx", path=os.pathsep.join([*os.get_exec_path(), "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        if os.environ.get("SMS_REQUIRE_NGINX") == "1":
            pytest.fail("there is no nginx here: apt-get install nginx")
        pytest.skip("there is no nginx here: apt-get install nginx")
    return found


class Nginx:
    """nginx with the recipe, in front of a port."""

    def __init__(self, program: str, folder: Path, upstream: int) -> None:
        self.port = _free_port()
        self.folder = folder
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", HOST)
        issued.cert_chain_pems[0].write_to_path(folder / "fullchain.pem")
        issued.private_key_pem.write_to_path(folder / "privkey.pem")
        self.tls = ssl.create_default_context()
        authority.configure_trust(self.tls)
        self._file = folder / "nginx.conf"
        self._file.write_text(self._around(self._changed(RECIPE.read_text(), upstream)))
        with (folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [program, "-p", str(folder), "-c", str(self._file), "-e", str(folder / "start.log")],
                stdin=subprocess.DEVNULL,
                stderr=output,
                stdout=output,
            )

    def _changed(self, recipe: str, upstream: int) -> str:
        """As its head says: the host, the certificate, the upstream; beside them only where nginx may write."""
        changes = {
            "127.0.0.1:8085;": f"127.0.0.1:{upstream};",
            "listen 443 ssl;": f"listen 127.0.0.1:{self.port} ssl;",
            "server_name sms.example.com;": "server_name localhost;",
            "/etc/ssl/sms.example.com/": f"{self.folder}/",
            "/var/log/nginx/": f"{self.folder}/",
        }
        for old, new in changes.items():
            assert old in recipe, old
            recipe = recipe.replace(old, new)
        return recipe

    def _around(self, recipe: str) -> str:
        paths = "".join(
            f"{name}_temp_path {self.folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
        return (
            f"daemon off; {user} pid {self.folder}/pid; worker_processes 1; events {{ worker_connections 256; }}\n"
            f"http {{ {paths}\n{recipe}\n}}"
        )

    def push(self, target: str, fields: dict[str, str] | bytes = RECEIPT, **headers: str) -> int:
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=30, context=self.tls)
        with closing(connection):
            body: Any = fields if isinstance(fields, bytes) else urlencode(fields)
            connection.request("POST", target, body, {"Content-Type": FORM, **headers})
            return connection.getresponse().status

    def is_ready(self) -> bool:
        assert self._process.poll() is None, self.logs()
        try:
            return self.push("/sms/push") == 403
        except OSError:
            return False

    def logs(self) -> str:
        files = [*self.folder.glob("*.log"), self.folder / "output"]
        return "\n".join(file.read_text(errors="replace") for file in files)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture
def nginx(receiver: Served, tmp_path: Path) -> Iterator[Nginx]:
    folder = tmp_path / "nginx"
    folder.mkdir()
    nginx = Nginx(_nginx(), folder, receiver.port)
    try:
        wait_until(nginx.is_ready, 30)
        yield nginx
    finally:
        nginx.stop()


@pytest.fixture
def set_options(set_options: SetOptions) -> SetOptions:
    set_options(trusted_proxies="127.0.0.1", allowed_networks="127.0.0.0/8")
    return set_options


def test_pushes_come_through_and_their_token_is_in_no_log(nginx: Nginx, ledger_file: Path) -> None:
    assert nginx.push(f"/sms/receipts/APP?token={TOKEN}") == 200
    assert nginx.push("/sms/receipts/APP?token=wrong") == 403
    assert nginx.push(f"/sms/push?token={TOKEN}", b"nonsense") == 400
    assert nginx.push(f"/sms/push?token={TOKEN}", b"a" * 70_000) == 413
    assert nginx.push(f"/?token={TOKEN}") == 404
    with closing(sqlite3.connect(ledger_file)) as connection:
        assert connection.execute("SELECT account, taskid FROM sms_receipt").fetchall() == [("APP", "3313746")]
    wait_until(lambda: nginx.logs().count('"POST /sms/push" 413') == 1, 10)
    assert re.search(r'^127\.0\.0\.1 \[\S+\] "POST /sms/receipts/APP" 200 ', nginx.logs(), re.MULTILINE)
    assert TOKEN not in nginx.logs()


def test_what_the_sender_writes_of_himself_is_not_believed(nginx: Nginx, receiver: Served) -> None:
    target = f"/sms/push?token={TOKEN}"
    # Through nginx the sender is this machine, whatever he says; without it he would be believed.
    assert nginx.push(target, **{"X-Forwarded-For": "203.0.113.7"}) == 200
    assert receiver.push(RECEIPT, target, **{"X-Forwarded-For": "203.0.113.7"}) == (403, "forbidden")


def test_a_receiver_that_is_gone_shows_no_token(receiver: Served, nginx: Nginx, tmp_path: Path) -> None:
    folder = tmp_path / "another"
    folder.mkdir()
    # Nobody listens there.
    alone = Nginx(_nginx(), folder, _free_port())
    try:

        def answers() -> bool:
            try:
                return alone.push(f"/sms/push?token={TOKEN}") == 502
            except OSError:
                return False

        wait_until(answers, 30)
    finally:
        alone.stop()
    assert TOKEN not in alone.logs()
