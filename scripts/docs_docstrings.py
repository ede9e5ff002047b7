"""For the docs site: the examples of docstrings, written for Sphinx, as Markdown has them. Loaded by mkdocstrings."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:(?: {4}.*)?\n)+)", re.MULTILINE)


class ExamplesAsMarkdown(griffe.Extension):
    """Turns `.. code-block:: python` into a fenced block."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Rewrite a docstring as soon as it has been read.

        :param obj: a module, class, function or attribute.
        """
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(_fenced, obj.docstring.value + "\n")


def _fenced(found: re.Match[str]) -> str:
    return f"```{found[1]}\n{textwrap.dedent(found[2]).strip()}\n```\n\n"
