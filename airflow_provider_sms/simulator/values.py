"""Kinds of values that a person may set, by flag or JSON, each checked with a sentence for what is wrong.

Knows nothing of what the values are for.
"""

from __future__ import annotations

import math
import urllib.parse
from dataclasses import dataclass
from typing import Any, Protocol


class BadValue(Exception):
    """A value that can not be taken. Its text is one sentence that names the field; nothing was changed."""


class Kind(Protocol):
    """How a value is read from JSON, and how from the text of a flag."""

    @property
    def metavar(self) -> str: ...

    def read(self, name: str, value: object) -> Any:
        """The checked value; raises BadValue."""

    def from_text(self, text: str) -> object:
        """What JSON would have held for this text of a flag."""


@dataclass(frozen=True)
class Switch:
    metavar: str = "on|off"

    def read(self, name: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise BadValue(f"{name} must be true or false (as a flag: on or off), not {_shown(value)}")
        return value

    def from_text(self, text: str) -> object:
        return {"on": True, "true": True, "off": False, "false": False}.get(text.lower(), text)


@dataclass(frozen=True)
class Whole:
    minimum: int
    maximum: int
    metavar: str = "N"

    def read(self, name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadValue(f"{name} must be a whole number, not {_shown(value)}")
        if not self.minimum <= value <= self.maximum:
            raise BadValue(f"{name} must be between {self.minimum} and {self.maximum}, not {value}")
        return value

    def from_text(self, text: str) -> object:
        try:
            return int(text)
        except ValueError:
            return text


@dataclass(frozen=True)
class Number:
    minimum: float
    maximum: float
    metavar: str = "N"

    def read(self, name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadValue(f"{name} must be a number, not {_shown(value)}")
        if not self.minimum <= value <= self.maximum:
            raise BadValue(f"{name} must be between {self.minimum:g} and {self.maximum:g}, not {value:g}")
        return float(value)

    def from_text(self, text: str) -> object:
        try:
            return float(text)
        except ValueError:
            return text


@dataclass(frozen=True)
class Choice:
    choices: tuple[str, ...]

    @property
    def metavar(self) -> str:
        return "|".join(self.choices)

    def read(self, name: str, value: object) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise BadValue(f"{name} must be one of {', '.join(self.choices)}, not {_shown(value)}")
        return value

    def from_text(self, text: str) -> object:
        return text


@dataclass(frozen=True)
class Text:
    metavar: str = "TEXT"

    def read(self, name: str, value: object) -> str:
        if not isinstance(value, str):
            raise BadValue(f"{name} must be a text, not {_shown(value)}")
        return value

    def from_text(self, text: str) -> object:
        return text


@dataclass(frozen=True)
class Address:
    """An http or https address. Its text may hold a secret token, so no message repeats it."""

    metavar: str = "URL"

    def read(self, name: str, value: object) -> str:
        problem = BadValue(f"{name} must be an address such as http://127.0.0.1:8085/sms/push")
        if not isinstance(value, str) or not value.isprintable() or " " in value:
            raise problem
        try:
            parts = urllib.parse.urlsplit(value)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise problem
        return value

    def from_text(self, text: str) -> object:
        return text


@dataclass(frozen=True)
class OrNone:
    """Another kind, or nothing: null in JSON, `none` as a flag."""

    kind: Kind

    @property
    def metavar(self) -> str:
        return self.kind.metavar

    def read(self, name: str, value: object) -> Any:
        return None if value is None else self.kind.read(name, value)

    def from_text(self, text: str) -> object:
        return None if text.lower() == "none" else self.kind.from_text(text)


MONTH_OF_SECONDS = 31 * 86400.0
SECONDS = Number(0, MONTH_OF_SECONDS, "SECONDS")
SHARE = Number(0, 1, "0..1")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
