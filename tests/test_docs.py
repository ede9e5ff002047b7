"""The docs do what they say: every block of code in them is run or read by what it is for."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from airflow_provider_sms import cli
from airflow_provider_sms.gateway.texts import length
from airflow_provider_sms.get_provider_info import get_provider_info
from airflow_provider_sms.ledger.database import Ledger
from tests.support import docs
from tests.support.airflow import ROOT
from tests.support.docs import Block
from tests.support.pushed import note_first_push
from tests.support.simulator import Simulator

pytestmark = pytest.mark.once

OPTIONS = get_provider_info()["config"]["sms"]["options"]
SHELL = ("shell", "console")
# A command line of the docs may leave open which campaign it is about.
PLACEHOLDERS = {"N": "2"}


DAGS = [block for block in docs.all_blocks("python") if block.is_dag]
SNIPPETS = [block for block in docs.all_blocks("python") if not block.is_dag]


@pytest.mark.parametrize("block", SNIPPETS, ids=lambda block: block.place)
def test_python_runs(block: Block, connection: Callable[..., None], ledger: Ledger) -> None:
    """Against the simulator, on a ledger that has heard of it."""
    note_first_push(ledger)
    exec(compile(block.expanded, block.place, "exec"), {})


def test_every_dag_is_read_by_airflow_as_one(tmp_path: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag

    for block in DAGS:
        # A folder each: several blocks are versions of the same DAG.
        (tmp_path / block.name).mkdir()
        file = tmp_path / block.name / "dag.py"
        file.write_text(block.expanded, encoding="utf-8")
        bag = DagBag(file, bundle_path=file.parent, bundle_name="docs")
        assert bag.import_errors == {}, block.place
        assert bag.dags, block.place


def test_commands_of_shell_yaml_and_ini_are_there() -> None:
    lines = [(words, block) for block in docs.all_blocks(*SHELL) for words in docs.commands(block.text)]
    lines += [(words, block) for block in docs.all_blocks("yaml") for words in _commands_in(block.expanded)]
    starts = [
        (start, block) for block in docs.all_blocks("ini") for start in re.findall("^ExecStart=(.*)$", block.text, re.M)
    ]
    lines += [(words, block) for start, block in starts for words in docs.commands(start)]
    assert len(lines) > 100
    parser = cli._parser()
    for words, block in lines:
        try:
            parser.parse_args([PLACEHOLDERS.get(word, word) for word in words if word != "…"])
        except SystemExit:
            pytest.fail(f"{block.place}: airflow-sms {' '.join(words)}")


def _commands_in(text: str) -> Iterator[list[str]]:
    for found in re.findall(r"^ *command: (\[.*\])$", text, re.MULTILINE):
        program, *words = json.loads(found)
        assert program == "airflow-sms"
        yield words


@pytest.mark.parametrize("language", docs.LANGUAGES)
def test_the_tutorial_s_dry_run_prints_what_the_page_shows(
    language: str, connection: Callable[..., None], ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    page = docs.DOCS / language / "tutorial.md"
    (words,) = [
        words for block in docs.blocks(page, *SHELL) for words in docs.commands(block.text) if "--dry-run" in words
    ]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    (shown,) = [block.text for block in docs.blocks(page, "text") if block.text.startswith("Dry run")]
    # The account is part of what a campaign of the command line is named by.
    assert _nameless(printed).strip() == _nameless(shown).strip()


def _nameless(text: str) -> str:
    return re.sub(r"\b[0-9a-f]{16}\b", "…", text)


def test_texts_of_the_dry_runs_are_as_long_as_the_pages_say() -> None:
    shown = [
        found.groups()
        for block in docs.all_blocks("text")
        for found in re.finditer(r"^text: +(.*)\nlength: +(\d+) characters", block.text, re.MULTILINE)
    ]
    assert len(shown) == 4
    assert [(text, length(text)) for text, _ in shown] == [(text, int(said)) for text, said in shown]


def test_shell_blocks_are_shell() -> None:
    everything = "\n".join(f": {block.place}\n{block.text}" for block in docs.all_blocks(*SHELL))
    checked = subprocess.run(["bash", "-n"], input=everything, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_orders_to_the_simulator_are_taken(simulator: Simulator) -> None:
    orders = [
        (order, page)
        for block in docs.all_blocks(*SHELL)
        for order, page in re.findall(r"curl --data '([^']+)' http://127\.0\.0\.1:10658/_simulator/(\w+)", block.text)
    ]
    assert orders
    for order, page in orders:
        assert simulator.ask_page("POST", page, order.encode())[0] == 200, order


def test_json_yaml_and_ini_are_that() -> None:
    for block in docs.all_blocks("json"):
        json.loads(block.text)
    for block in docs.all_blocks("yaml"):
        assert all(isinstance(each, dict | list) for each in yaml.safe_load_all(block.expanded)), block.place
    for block in docs.all_blocks("ini"):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(block.text)
        assert parser.sections(), block.place
        if parser.has_section("sms"):
            # As Airflow takes them: a secret also from a command.
            secrets = [name for name, option in OPTIONS.items() if option.get("sensitive")]
            known = {*OPTIONS, *(f"{name}_{form}" for name in secrets for form in ("cmd", "secret"))}
            assert set(parser["sms"]) <= known, block.place


def test_variables_that_are_set_are_options() -> None:
    """In shell, YAML and Dockerfiles: `AIRFLOW__SMS__…`."""
    names = {
        name: block.place
        for block in docs.all_blocks()
        for name in re.findall(r"\bAIRFLOW__SMS__([A-Z_]+?)(?:_CMD|_SECRET)?\b", block.text)
    }
    assert {name: place for name, place in names.items() if name.lower() not in OPTIONS} == {}


def test_every_block_says_what_it_is_and_is_of_a_kind_that_is_looked_at() -> None:
    known = {"python", *SHELL, "json", "yaml", "ini", "text", "nginx", "dockerfile"}
    assert [each.place for each in docs.all_blocks() if each.language not in known] == []


def test_what_is_shown_of_the_repository_is_there() -> None:
    shown = [name for block in docs.all_blocks() for name in block.snippets]
    assert [name for name in shown if not (ROOT / name).is_file()] == []
