"""The docs say what the code does: their commands parse, their Python runs, their links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_sms import cli, waiting
from airflow_provider_sms.get_provider_info import get_provider_info
from airflow_provider_sms.ledger.deliveries import Deliveries
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


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("personal*.md")), ids=lambda page: page.stem)
def test_the_page_on_personal_texts(page: Path) -> None:
    (block,) = blocks(page, "python")
    names: dict[str, Any] = {}
    exec(block, names)
    assert {"from_a_task", "from_a_csv", "from_a_database", "pairs"} < set(names["dag"].task_ids)
    (commands,) = blocks(page, "shell")
    for line in commands.splitlines():
        args = cli._parser().parse_args(shlex.split(line)[1:])
        assert args.messages.endswith(".csv")


def test_every_option_of_the_section_is_explained() -> None:
    options = get_provider_info()["config"]["sms"]["options"]
    for readme in ("README.md", "README.zh-CN.md"):
        text = (ROOT / readme).read_text()
        assert [name for name in options if f"`{name}`" not in text] == [], readme


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)h#][^)#]*)[^)]*\)", page.read_text()):
        assert (page.parent / target).exists(), target
