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
        """Put values in the place of names, such as `"fail"` for `OnInDoubt.FAIL.value`, and arguments where they go.

        :param pkg: the provider's package.
        """
        everything = list(_all(pkg))
        for found in everything:
            if found.is_class and "__init__" in found.members:
                _take_over(found)
        for found in everything:
            if found.is_function:
                for parameter in found.parameters:
                    parameter.default = _value(found, parameter.default)
            elif found.is_attribute and found.parent.is_class:
                # A dataclass's field.
                found.value = _value(found, found.value)


def _fenced(found: re.Match[str]) -> str:
    return f"```{found[1]}\n{textwrap.dedent(found[2]).strip()}\n```\n\n"


def _all(found: Any) -> Iterator[Any]:
    for member in found.members.values():
        if not member.is_alias:
            yield member
            yield from _all(member)


def _take_over(found: Any) -> None:
    """Show the arguments that a class hands on to ours that it comes from."""
    own = found.members["__init__"]
    handed_on = [each for each in own.parameters if each.kind is griffe.ParameterKind.var_keyword]
    if not handed_on:
        return
    parameters = {each.name: each for each in own.parameters if each not in handed_on}
    for base in found.mro():
        if "__init__" in base.members:
            named = (
                each for each in base.members["__init__"].parameters if each.kind is griffe.ParameterKind.keyword_only
            )
            parameters = {**{each.name: each for each in named}, **parameters}
    first = [each for each in parameters.values() if each.kind is not griffe.ParameterKind.keyword_only]
    rest = [each for each in parameters.values() if each not in first]
    own.parameters = griffe.Parameters(*first, *rest, *handed_on)


def _value(place: Any, default: Any) -> Any:
    if str(default).startswith("conf.getboolean("):
        # Airflow's own option, and its default.
        return "False"
    name = _NAME.fullmatch(str(default)) if isinstance(default, griffe.Expr) else None
    if name is None:
        return default
    try:
        # A default may also name what stands in the class.
        path = f"{place.parent.path}.{name[1]}" if name[1] in place.parent.members else place.resolve(name[1])
        named = place.modules_collection[path + name[2]]
    except (griffe.GriffeError, KeyError):
        # Of another package.
        return default
    return str(named.value) if named.is_attribute else default
