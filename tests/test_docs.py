"""The docs say what the code does: their commands parse, their Python runs, their links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_sms import cli, waiting
from airflow_provider_sms.gateway.categories import Category
from airflow_provider_sms.get_provider_info import get_provider_info
from airflow_provider_sms.guards import Guards
from airflow_provider_sms.ledger.deliveries import Deliveries
from airflow_provider_sms.notifications.sms import SmsNotifier
from tests.support.airflow import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
PUSHES = ROOT / "docs" / "pushes.md"

pytestmark = pytest.mark.once


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_every_command_of_the_page_on_pushes_parses() -> None:
    lines = [line.strip() for block in blocks(PUSHES, "shell") for line in block.splitlines()]
    lines += re.findall(r"`(airflow-sms [^`]*)`", PUSHES.read_text())
    assert len(lines) > 5
    for line in lines:
        words = shlex.split(line)[1:]
        cli._parser().parse_args(words)


def test_its_python_compiles_and_its_names_are_there() -> None:
    (block,) = blocks(PUSHES, "python")
    names: dict[str, object] = {}
    exec(block, names)
    assert callable(names["act_on_replies"])


def test_the_summary_has_the_keys_that_the_code_gives() -> None:
    (shown,) = [json.loads(block) for block in blocks(PUSHES, "json")]
    counts = Deliveries(2, 2, 1, {"blacklist": 1}, 0, 0)
    assert {"batches": ["3313746"], **waiting.summary(counts)} == shown


@pytest.mark.parametrize(
    "page", [ROOT / "docs" / "guards.md", ROOT / "docs" / "guards.zh.md"], ids=lambda page: page.name
)
def test_the_pages_on_guards(page: Path) -> None:
    for block in blocks(page, "python"):
        exec(block, {})
    (command,) = [line for block in blocks(page, "shell") for line in block.splitlines()]
    cli._parser().parse_args(shlex.split(command)[1:])
    (shown,) = [json.loads(block) for block in blocks(page, "json")]
    guards = Guards(max_per_phone=3, max_points=20_000, min_balance_after=1_000)
    assert {**guards.told(Category.MARKETING), "optOutWording": "added"} == shown


def test_every_option_of_the_section_is_explained() -> None:
    options = get_provider_info()["config"]["sms"]["options"]
    for readme in ("README.md", "README.zh-CN.md"):
        text = (ROOT / readme).read_text()
        assert [name for name in options if f"`{name}`" not in text] == [], readme


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)h#][^)#]*)[^)]*\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", ["alarms", "alarms.zh"])
def test_the_python_of_the_pages_on_alarms_runs(name: str) -> None:
    first, _, flush = map(executed, blocks(ROOT / "docs" / f"{name}.md", "python"))
    assert first["dag"].on_failure_callback is first["on_duty"]
    assert flush["dag"].task_ids == ["flush"]


def executed(block: str) -> dict[str, Any]:
    """Run a page's Python, the notifier at hand; its names."""
    names: dict[str, Any] = {"SmsNotifier": SmsNotifier}
    exec(block, names)
    return names
