"""For the docs site: what is read from the source, in the shape that readers want. Loaded by mkdocstrings.

Examples of docstrings, written for Sphinx, become Markdown; defaults that are names become what they stand for.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^\.\. code-block:: (\w+)\n\n((?:(?: {4}.*)?\n)+)", re.MULTILINE)
_NAME = re.compile(r"(\w+)((?:\.\w+)*?)(?:\.value)?")


class AsReadersWantIt(griffe.Extension):
    """Rewrites docstrings as they are read, and defaults once all is read."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Turn `.. code-block:: python` into a fenced block.

        :param obj: a module, class, function or attribute.
        """
        if obj.docstring:
            obj.docstring.value = _EXAMPLE.sub(_fenced, obj.docstring.value + "\n")

    def on_package(self, *, pkg: Any, **_: Any) -> None:
        """Put values in the place of names, such as `"fail"` for `OnInDoubt.FAIL.value`.

        :param pkg: the provider's package.
        """
        for function in _functions(pkg):
            for parameter in function.parameters:
                parameter.default = _value(function, parameter.default)


def _fenced(found: re.Match[str]) -> str:
    return f"```{found[1]}\n{textwrap.dedent(found[2]).strip()}\n```\n\n"


def _functions(found: Any) -> Iterator[Any]:
    for member in found.members.values():
        if member.is_alias:
            continue
        if member.is_function:
            yield member
        elif member.is_class or member.is_module:
            yield from _functions(member)


def _value(function: Any, default: Any) -> Any:
    if str(default).startswith("conf.getboolean("):
        # Airflow's own option, and its default.
        return "False"
    name = _NAME.fullmatch(str(default)) if isinstance(default, griffe.Expr) else None
    if name is None:
        return default
    try:
        named = function.modules_collection[f"{function.resolve(name[1])}{name[2]}"]
    except (griffe.GriffeError, KeyError):
        # Of another package.
        return default
    return str(named.value) if named.is_attribute else default
