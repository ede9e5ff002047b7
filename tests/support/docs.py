"""The docs as tests read them: pages, their code blocks, and the same page in the other language."""

from __future__ import annotations

import io
import re
import shlex
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.airflow import ROOT

DOCS = ROOT / "docs"
LANGUAGES = ("en", "zh")
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_SNIPPET = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)
_OPERATORS = ("|", "||", "&&", ";", ">", ">>", "2>&1")


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    :param language: what stands behind the three backticks.
    :param text: what stands in it, without the indentation that all of it has.
    """

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def name(self) -> str:
        """The same as a file's name."""
        return re.sub(r"\W+", "_", self.place)

    @property
    def snippets(self) -> list[str]:
        """The repository's files that are shown here."""
        return _SNIPPET.findall(self.text)

    @property
    def expanded(self) -> str:
        """As the site shows it."""
        return _SNIPPET.sub(lambda found: (ROOT / found[1]).read_text(encoding="utf-8"), self.text)

    @property
    def is_dag(self) -> bool:
        return self.language == "python" and bool(re.search(r"^with DAG\(|^@dag\b", self.text, re.MULTILINE))


def pages(language: str = "*") -> list[Path]:
    """All pages, of one language or of both."""
    return sorted((DOCS).glob(f"{language}/**/*.md"))


def names(language: str) -> list[str]:
    """The pages of a language by the path that they have in both."""
    return [page.relative_to(DOCS / language).as_posix() for page in pages(language)]


def blocks(page: Path, *languages: str) -> list[Block]:
    """The code blocks of a page, of some languages or of all."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(page, text.count("\n", 0, each.start()) + 1, each["language"], textwrap.dedent(each["text"]))
        for each in _BLOCK.finditer(text)
    ]
    return [each for each in found if not languages or each.language in languages]


def all_blocks(*languages: str) -> list[Block]:
    """The code blocks of all pages and of the READMEs."""
    return [each for page in (*pages(), *READMES) for each in blocks(page, *languages)]


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def commands(text: str) -> Iterator[list[str]]:
    """The words of every `airflow-sms …` and `airflow sms …` of a shell block, without the program's name."""
    line = ""
    for part in text.replace("\\\n", " ").splitlines():
        line += part + "\n"
        try:
            words = _words(line)
        except ValueError:
            # A quotation that goes on in the next line.
            continue
        line = ""
        for at, word in enumerate(words):
            if Path(word).name == "airflow-sms" and _begins(words, at):
                yield _until_operator(words[at + 1 :])
            elif word == "airflow" and words[at + 1 : at + 2] == ["sms"] and _begins(words, at):
                yield _until_operator(words[at + 2 :])
    assert not line, line


def _begins(words: list[str], at: int) -> bool:
    """Whether a command begins here: at the start, after an operator, or after what runs another command."""
    before = [word for word in words[:at] if "=" not in word]
    return not before or before[-1] in (*_OPERATORS, "exec", "sudo", "--") or before[0] in ("docker", "kubectl", "sudo")


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&>")
    lexer.whitespace_split = True
    return list(lexer)


def _until_operator(words: list[str]) -> list[str]:
    end = next((at for at, word in enumerate(words) if word in _OPERATORS), len(words))
    return words[:end]


def skeleton(block: Block) -> object:
    """What has to be the same in both languages: all but texts for people and comments."""
    if block.snippets:
        return block.snippets
    if block.language == "python":
        return _python_skeleton(block.text)
    if block.language == "text":
        return "text"
    if block.language == "json":
        return re.sub(r"[^\x00-\x7f]+", "", block.text)
    lines = (re.sub(r"(^|\s)#.*$", "", line).rstrip() for line in block.text.splitlines())
    return [re.sub(r"(['\"]).*?\1", "''", line) for line in lines if line]


def _python_skeleton(text: str) -> list[str]:
    kept = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.NL):
            continue
        # The latter are pieces of an f-string, from Python 3.12 on.
        is_text = token.type == tokenize.STRING or tokenize.tok_name[token.type] == "FSTRING_MIDDLE"
        kept.append("''" if is_text else token.string)
    return kept


class _Loader(yaml.SafeLoader):
    """Of mkdocs.yml, whose tags name what only the docs' own environment has."""


_Loader.add_multi_constructor("", lambda loader, suffix, node: None)


def site() -> dict[str, Any]:
    """mkdocs.yml."""
    return yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)


def navigation(site: object) -> Iterator[str]:
    """The pages that the navigation leads to."""
    match site:
        case str():
            yield site
        case dict():
            for inner in site.values():
                yield from navigation(inner)
        case list():
            for inner in site:
                yield from navigation(inner)
