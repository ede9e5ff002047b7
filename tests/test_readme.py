"""The READMEs say what the code does: their DAG parses, their connection reads, their commands and pictures exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_sms import cli
from airflow_provider_sms.gateway.answers import _REFUSALS
from airflow_provider_sms.hooks.sms import SmsHook
from tests.support.airflow import ROOT

READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]

pytestmark = pytest.mark.parametrize("readme", READMES, ids=lambda file: file.name)


def blocks(readme: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", readme.read_text(), re.MULTILINE | re.DOTALL)


def test_the_first_dag_is_one(readme: Path) -> None:
    source, recipients, receipts = blocks(readme, "python")
    exec(recipients, {})
    names: dict[str, object] = {}
    exec(receipts, names)
    with DAG("receipts"):
        names["campaign_with_receipts"]()  # type: ignore[operator]
    exec(source.replace("from airflow.sdk import", "from airflow.providers.common.compat.sdk import"), names)
    assert names["send"].upstream_task_ids == {"enough_points"}  # type: ignore[attr-defined]


def test_the_connection_by_environment_is_usable(readme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (exported,) = [block for block in blocks(readme, "shell") if "AIRFLOW_CONN_SMS_DEFAULT" in block]
    name, _, value = shlex.split(exported)[1].partition("=")
    monkeypatch.setenv(name, value)
    account = SmsHook().account
    assert (account.signature, account.base_url) == ("云通信", "https://cloud.10658.com.cn")


def test_the_summary_has_the_keys_that_the_code_gives(readme: Path) -> None:
    from airflow_provider_sms.ledger.reports import Report

    (shown,) = [json.loads(block) for block in blocks(readme, "json")]
    report = Report("", (), 0, 0, 0, 0, 0, {}, 0, 0, 1, 0, None, 1)
    assert list(shown) == list(report.summary())


def test_the_commands_are_there(readme: Path) -> None:
    (shown,) = [block for block in blocks(readme, "shell") if "airflow-sms balance" in block]
    for line in shown.splitlines():
        cli._parser().parse_args(shlex.split(line)[1:])


def test_every_message_of_the_document_is_explained(readme: Path) -> None:
    text = readme.read_text()
    for message in _REFUSALS:
        assert re.split("[,,]", message)[0] in text


def test_pictures_links_and_make_targets_are_there(readme: Path) -> None:
    text = readme.read_text()
    for target in re.findall(r"\]\(([^)h][^)]*)\)", text):
        file, _, part = target.partition("#")
        assert (ROOT / file).exists(), target
        headings = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(), re.MULTILINE) if part else [""]
        assert part in {heading.lower().replace(" ", "-") for heading in headings}, target
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z-]+)", text):
        assert f"\n{target}:" in makefile, target


def test_both_languages_have_the_same_parts(readme: Path) -> None:
    shape = [[line.split()[0] for line in each.read_text().splitlines() if line.startswith("#")] for each in READMES]
    assert shape[0] == shape[1]
