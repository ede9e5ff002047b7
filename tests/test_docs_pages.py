"""Pages of the docs: both languages say the same, and the reference has what the code has.

What `mkdocs build --strict` sees, links within the site above all, is not looked at here again.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_sms import waiting
from airflow_provider_sms.gateway.answers import _REFUSALS
from airflow_provider_sms.get_provider_info import get_provider_info
from airflow_provider_sms.hooks.sms import SmsHook
from airflow_provider_sms.ledger.deliveries import Deliveries
from airflow_provider_sms.ledger.schema import metadata
from airflow_provider_sms.notifications.sms import SmsNotifier
from airflow_provider_sms.operators.sms import SmsAlarmFlushOperator, SmsApprovalOperator, SmsGroupSendOperator
from airflow_provider_sms.pipelines import sms_pipeline
from airflow_provider_sms.sensors.sms import SmsBalanceSensor, SmsDeliverySensor, SmsReplySensor
from airflow_provider_sms.triggers.sms import SmsReplyTrigger
from benchmarks import other_providers
from scripts import docs_chinese, docs_site
from tests.support import docs
from tests.support.airflow import ROOT
from tests.support.docs import DOCS, LANGUAGES

pytestmark = pytest.mark.once

OPTIONS = get_provider_info()["config"]["sms"]["options"]


# Both languages


def test_both_languages_have_the_same_pages_and_the_navigation_leads_to_all_of_them() -> None:
    english, chinese = (docs.names(language) for language in LANGUAGES)
    assert english == chinese
    assert sorted(docs.navigation(docs.site()["nav"])) == english
    assert list(DOCS.glob("*.md")) == []


@pytest.mark.parametrize("name", docs.names("en"))
class TestBothLanguages:
    def test_have_the_same_code(self, name: str) -> None:
        english, chinese = ([docs.skeleton(each) for each in docs.blocks(DOCS / one / name)] for one in LANGUAGES)
        assert english == chinese

    def test_have_the_same_parts_tables_and_references(self, name: str) -> None:
        english, chinese = (_shape(DOCS / language / name) for language in LANGUAGES)
        assert english == chinese

    def test_chinese_is_chinese(self, name: str) -> None:
        """Each heading of more than one word, and each paragraph that is not for the site's generator."""
        text = docs.prose(DOCS / "zh" / name)
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert [each for each in headings if len(_words(each)) > 1 and not _is_chinese(each)] == []
        paragraphs = [each for each in re.split(r"\n\s*\n", text) if not each.startswith((":::", "<!--", "!["))]
        assert [each for each in paragraphs if len(_words(each)) > 5 and not _is_chinese(each)] == []

    def test_lists_are_such_as_the_generator_takes_for_lists(self, name: str) -> None:
        """Nested by four, and with an empty line between an item and what is not its own: else they run together."""
        for language in LANGUAGES:
            page = DOCS / language / name
            lines = docs.prose(page).splitlines()
            for before, line in zip(["", *lines], lines, strict=False):
                if found := re.match(r"( *)(?:[*-]|\d+\.) ", line):
                    indent = len(found[1])
                    assert indent in (0, 4, 8), line
                    own = rf" {{{indent}}}(?:[*-] |\d+\. |  +\S)"
                    assert not before or (re.match(own, before) and before[: indent + 4].strip()), (before, line)
            assert re.findall(r"^ {1,3}```.*", page.read_text(), re.MULTILINE) == []

    def test_english_is_whole(self, name: str) -> None:
        assert re.search(r"\b(TODO|FIXME|TBD)\b", (DOCS / "en" / name).read_text()) is None


def _shape(page: Path) -> list[str]:
    """The levels of headings, the rows and columns of tables, what is read from docstrings and from the code."""
    text = docs_site.filled(docs.prose(page))
    shape = re.findall(
        r"^<!-- .*|^::: .*",
        docs.prose(page).replace("<!-- fields -->", "").replace("<!-- options -->", ""),
        re.MULTILINE,
    )
    for line in text.splitlines():
        if line.startswith("|"):
            shape.append(f"row of {line.count('|') - line.count(chr(92) + '|')}")
        elif found := re.match(r" *((?:#+|[*-]|\d+\.|!!!)(?= )|!\[)", line):
            shape.append(re.sub(r"\d+", "1", found[1]))
    return shape


def _words(text: str) -> list[str]:
    """Latin words, but for code and the targets of links."""
    return re.findall(r"[A-Za-z]{2,}", re.sub(r"`[^`]*`|\]\([^)]*\)", "", text))


def _is_chinese(text: str) -> bool:
    return re.search(r"[\u4e00-\u9fff]", text) is not None


# Reference


@pytest.mark.parametrize("language", LANGUAGES)
class TestReference:
    def test_every_command_is_explained(self, language: str) -> None:
        text = (DOCS / language / "reference" / "cli.md").read_text()
        helped = re.findall(r"^<!-- help: (.*) -->$", text, re.MULTILINE)
        assert sorted(helped) == sorted(docs_site.commands())

    def test_every_option_of_the_section_is_there_with_its_default(self, language: str) -> None:
        text = docs_site.filled((DOCS / language / "reference" / "settings.md").read_text())
        for name, option in OPTIONS.items():
            row = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |")), "")
            default = row.rstrip(" |").rpartition("|")[2].strip()
            assert default == (f"`{option['default']}`" if option["default"] else {"en": "empty", "zh": "空"}[language])

    def test_every_field_of_the_connection_is_there_with_its_default(self, language: str) -> None:
        text = docs_site.filled((DOCS / language / "reference" / "connection.md").read_text())
        for name, field in get_provider_info()["connection-types"][0]["conn-fields"].items():
            row = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |")), "")
            assert row.endswith(f"| `{json.dumps(field['schema'].get('default'))}` |"), name

    def test_every_example_dag_is_shown(self, language: str) -> None:
        shown = {
            Path(name).name
            for block in docs.blocks(DOCS / language / "reference" / "examples.md")
            for name in block.snippets
        }
        assert shown == {file.name for file in (ROOT / "example_dags").glob("*.py")}

    def test_every_table_of_the_ledger_is_named(self, language: str) -> None:
        text = (DOCS / language / "reference" / "tables.md").read_text()
        assert [table for table in metadata.tables if f"`{table}`" not in text] == []

    def test_every_module_that_airflow_lists_has_its_classes_there(self, language: str) -> None:
        text = "".join(page.read_text() for page in docs.pages(language) if page.parent.name == "reference")
        info = get_provider_info()
        for kind in ("operators", "sensors", "triggers", "hooks"):
            for module in info[kind][0]["python-modules"]:
                assert f"::: {module.rpartition('.')[0]}." in text, module
        for notifier in info["notifications"]:
            assert f"::: {notifier}" in text

    def test_every_message_of_the_document_is_explained(self, language: str) -> None:
        text = (DOCS / language / "explanation" / "reliability.md").read_text()
        for message in _REFUSALS:
            assert re.split("[,,]", message)[0] in text

    def test_what_other_providers_do_is_as_it_was_measured(self, language: str) -> None:
        english, here = (
            (DOCS / each / "explanation" / "reliability.md").read_text().partition(other_providers.BEGIN)[2]
            for each in ("en", language)
        )
        measured = english.partition(other_providers.END)[0]
        if language == "zh":
            measured = other_providers.in_chinese(measured)
        assert measured.count("\n| ") == 16
        assert here.startswith(measured)

    def test_the_summary_of_deliveries_has_the_keys_that_the_code_gives(self, language: str) -> None:
        page = DOCS / language / "howto" / "delivery.md"
        (shown,) = [json.loads(block.text) for block in docs.blocks(page, "json")]
        counts = Deliveries(2, 2, 1, {"blacklist": 1}, 0, 0)
        assert {"batches": ["3313746"], **waiting.summary(counts)} == shown


class TestMakingPages:
    def test_a_page_that_loads_from_the_network_is_refused(self) -> None:
        page = type("Page", (), {"file": type("File", (), {"src_uri": "index.md"})})
        fine = '<a href="https://airflow.example.com">there</a> <script src="../assets/it.js"></script>'
        assert docs_site.on_post_page(fine, page) == fine
        for bad in ('<script src="https://cdn.example/x.js">', '<link rel=stylesheet href="//fonts.example/css">'):
            with pytest.raises(ValueError, match=r"index\.md loads from the network"):
                docs_site.on_post_page(bad, page)

    def test_the_help_of_a_command_is_put_in(self) -> None:
        made = docs_site.filled("before\n<!-- help: ledger purge -->\nafter")
        assert made.startswith("before\n```text\nusage: airflow-sms ledger purge")
        assert "--older-than" in made


class TestChinese:
    @pytest.mark.parametrize(
        ("source", "shown"),
        [
            ("第一,第二:1,000 个(10658)。", "第一\uff0c第二\uff1a1,000 个\uff0810658\uff09。"),
            ("`a`,`b`;见[表](a.md#b):", "`a`\uff0c`b`\uff1b见[表](a.md#b)\uff1a"),
            ("App ID(login)", "App ID\uff08login\uff09"),
            ("一(二,\n`c`)\n(三)四", "一\uff08二\uff0c\n`c`\uff09\uff08三\uff09四"),
            ("*(templated)* 一 (b)", "*(templated)* 一 (b)"),
            ("HTTPS,token 二", "HTTPS\uff0ctoken 二"),
            ("![图](a.png) 21:00", "![图](a.png) 21:00"),
            ("```text\n甲,乙\n丙\n```\n\n甲,乙", "```text\n甲,乙\n丙\n```\n\n甲\uff0c乙"),
            ("第一行,\n第二行", "第一行\uff0c第二行"),
            ("* 一\n* 二,\n  三", "* 一\n* 二\uff0c三"),
            (
                "::: a.b\n    options:\n      filters: [甲]\n\n甲:",
                "::: a.b\n    options:\n      filters: [甲]\n\n甲\uff1a",
            ),
            (
                "| 甲 | 乙 |\n| --- | :-: |\n| 一(x) | `(y)` |",
                "| 甲 | 乙 |\n| --- | :-: |\n| 一\uff08x\uff09 | `(y)` |",
            ),
            ("An English sentence, in (English): as it was.", "An English sentence, in (English): as it was."),
        ],
    )
    def test_is_set_as_it_is_set(self, source: str, shown: str) -> None:
        assert docs_chinese.set_in_type(source) == shown


# What is said of options and pages elsewhere


def test_every_option_of_the_section_is_explained_in_the_readmes() -> None:
    for readme in docs.READMES:
        text = readme.read_text()
        assert [name for name in OPTIONS if f"`{name}`" not in text] == [], readme.name


_DAG_WRITERS_TAKE = (
    SmsGroupSendOperator,
    SmsApprovalOperator,
    SmsAlarmFlushOperator,
    SmsBalanceSensor,
    SmsDeliverySensor,
    SmsReplySensor,
    SmsNotifier,
    SmsReplyTrigger,
    SmsHook.claim_replies,
    SmsHook.send_group,
    sms_pipeline,
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_argument_is_explained_where_people_read(language: str) -> None:
    """In prose, a table or an example; that the reference has all of them is the docstrings' part."""
    text = "".join(page.read_text() for page in docs.pages(language))
    for taken in _DAG_WRITERS_TAKE:
        names = _arguments(taken)
        assert [name for name in names if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`|\b{name}=", text)] == [], taken


@pytest.mark.parametrize("taken", _DAG_WRITERS_TAKE, ids=lambda taken: taken.__qualname__)
def test_every_argument_is_in_the_docstring_that_the_reference_shows(taken: Callable[..., object]) -> None:
    told = re.sub(r"\s+", " ", inspect.getdoc(taken) or "").partition(":param")[2]
    names = _arguments(taken)
    assert [name for name in names if not re.search(rf":param {name}:|^ {name}:|`{name}`", told)] == []


def _arguments(taken: Callable[..., object]) -> list[str]:
    """Ours, those of a class that it comes from too; not what is handed on to Airflow or to the operator."""
    ours = [each for each in getattr(taken, "__mro__", ()) if each.__module__.startswith("airflow_provider_sms.")]
    inits = [vars(each)["__init__"] for each in ours if "__init__" in vars(each)] or [taken]
    parameters = [each for one in inits for each in inspect.signature(one).parameters.values()]
    return [each.name for each in parameters if each.name != "self" and each.kind is not each.VAR_KEYWORD]


@pytest.mark.parametrize("page", docs.pages(), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_commands_and_targets_named_in_a_line_are_there(page: Path) -> None:
    text = docs.prose(page)
    for line in re.findall(r"`(airflow-sms [^`]*)`", text):
        _parse_as_far_as_it_goes(line)
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert f"\n{target}:" in makefile, target


def _parse_as_far_as_it_goes(line: str) -> None:
    """A line in a sentence may leave things out; its command and its options have to be there."""
    words = line.split()[1:]
    known = docs_site.commands()
    name = next((" ".join(words[:length]) for length in (2, 1) if " ".join(words[:length]) in known), None)
    if name is None:
        # A group by itself, or several of its commands at once.
        assert any(each.startswith(words[0]) for each in known), line
        return
    flags = {flag for action in known[name]._actions for flag in action.option_strings}
    assert {word for word in words if word.startswith("--")} <= flags, line
