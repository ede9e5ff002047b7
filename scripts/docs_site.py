"""For the docs site: what is made of the code when it is built. Loaded by mkdocs; knows no Airflow and nothing of it.

A page asks by a comment of its own line: `<!-- help: ledger purge -->` for what that command says of itself,
`<!-- options -->` for the section `[sms]`, `<!-- fields -->` for the connection's extras.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from airflow_provider_sms import cli
from airflow_provider_sms.get_provider_info import get_provider_info
from scripts import docs_chinese

_MARKER = re.compile(r"^<!-- (help|options|fields)(?:: (.+?))? -->$", re.MULTILINE)
# What a page loads, not what it links to.
_LOADED = re.compile(r"<(?:link|script|img|iframe)\b[^>]*?(?:href|src)=[\"']?(?:https?:)?//[^>]*>")
_COLUMNS = "80"


def on_startup(command: str, **_: Any) -> None:
    """Say nothing but warnings, and keep the dictionary that cuts Chinese into words where `make` keeps the rest."""
    if command == "build":
        # `--quiet` would hide the warnings, too, and not fail because of them.
        logging.getLogger("mkdocs").setLevel(logging.WARNING)
    import jieba

    jieba.setLogLevel(logging.WARNING)
    jieba.dt.tmp_dir = sys.prefix


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in what a page asks for, and set Chinese as it is set."""
    made = filled(markdown)
    return docs_chinese.set_in_type(made) if page.file.src_uri.startswith("zh/") else made


def filled(markdown: str) -> str:
    """Fill in what a page asks for."""
    return _MARKER.sub(lambda found: _MADE[found[1]](found[2]), markdown)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Translate what was written around docstrings."""
    return docs_chinese.translate_heads(html) if page.file.src_uri.startswith("zh/") else html


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """See that a page loads nothing from elsewhere.

    :raises ValueError: it does.
    """
    if found := _LOADED.search(output):
        raise ValueError(f"{page.file.src_uri} loads from the network: {found[0]}")
    return output


@cache
def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command of `airflow-sms`, such as `ledger purge`, and its parser."""
    return dict(_below(cli._parser(), ""))


def _below(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    inner = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    for action in inner:
        for word, sub in action.choices.items():
            yield from _below(sub, f"{name} {word}".strip())
    if not inner:
        yield name, parser


def _help(name: str) -> str:
    parser = commands()[name]
    parser.epilog = None
    os.environ["COLUMNS"] = _COLUMNS
    return f"```text\n{parser.format_help().strip()}\n```"


def _options(_: object) -> str:
    options = get_provider_info()["config"]["sms"]["options"]
    rows = [
        (f"`{name}`", option["description"], f"`{option['default']}`" if option["default"] else "empty")
        for name, option in options.items()
    ]
    return _table(("option", "meaning", "default"), rows)


def _fields(_: object) -> str:
    fields = get_provider_info()["connection-types"][0]["conn-fields"]
    rows = [
        (f"`{name}`", field["label"], field["description"], f"`{json.dumps(field['schema'].get('default'))}`")
        for name, field in fields.items()
    ]
    return _table(("extra", "in the form", "meaning", "default"), rows)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *cells])


_MADE = {"help": _help, "options": _options, "fields": _fields}
