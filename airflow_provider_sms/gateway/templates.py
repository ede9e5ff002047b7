"""A text with places for each recipient's own words, such as `{name}`: read once, filled once. Pure functions.

What is filled in is never read as a template, can not sign the text, and stays on its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from enum import StrEnum
from numbers import Integral

from airflow_provider_sms.gateway.errors import TextError

_PLACE = re.compile(r"\{([^\W\d]\w*)\}")
_BRACES = re.compile(r"[{}]")
# A line break or another control character, with the blanks around it.
_BREAKS = re.compile(r" *[\x00-\x1f\x7f-\x9f\u2028\u2029][\x00-\x20\x7f-\x9f\u2028\u2029]*")
_SIGNATURE = re.compile(r"[【】]")
# No text takes a longer one; of 5,000 digits Python makes no text at all, and of a huge exponent a huge one.
_MOST_DIGITS = 1000


class Flaw(StrEnum):
    """Why a row's fields make no text; worded to go on after the field's name."""

    MISSING = "is missing"
    EMPTY = "is empty"
    KIND = "is no text, number or date"
    DIGITS = "has too many digits for a text"
    SIGNATURE = "holds a bracket 【 or 】, which is for the signature alone"


class FlawsError(Exception):
    """A row's fields make no text.

    :param flaws: what is wrong, by field.
    """

    def __init__(self, flaws: Mapping[str, Flaw]) -> None:
        super().__init__(", ".join(f"{name} {flaw}" for name, flaw in flaws.items()))
        self.flaws = flaws


@dataclass(frozen=True, slots=True)
class Template:
    """A text with places.

    :param texts: what stands before, between and behind the places.
    :param places: the fields' names, in their order; one may be there more than once.
    """

    texts: tuple[str, ...] = field(repr=False)
    places: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields' names, each once."""
        return tuple(dict.fromkeys(self.places))

    def fill(self, row: Mapping[str, object]) -> str:
        """Put a row's words into the places.

        :param row: by field; there may be others.
        :raises FlawsError: fields are missing, empty or not usable.
        """
        words: dict[str, str] = {}
        flaws: dict[str, Flaw] = {}
        for name in self.fields:
            found = word(row[name]) if name in row else Flaw.MISSING
            if isinstance(found, Flaw):
                flaws[name] = found
            else:
                words[name] = found
        if flaws:
            raise FlawsError(flaws)
        between = iter(self.texts)
        return next(between) + "".join(words[name] + text for name, text in zip(self.places, between, strict=True))


def read_template(content: str) -> Template:
    """Read a text with places: `{name}`, a plain name of letters, digits and underscores, Chinese ones too.

    Nothing else may stand in braces: no attribute, index or format, and no brace by itself.

    :param content: the text; the words that are filled in later may hold braces.
    :raises TextError: a brace is there that makes no place.
    """
    if not isinstance(content, str):
        raise TextError(f"content: expected text, got {type(content).__name__}.")
    pieces = _PLACE.split(content)
    texts, places = pieces[::2], pieces[1::2]
    at = 0
    for text, place in zip(texts, [*places, ""], strict=True):
        if found := _BRACES.search(text):
            raise TextError(
                f"content: the brace at character {at + found.start() + 1} makes no place for a field; write a plain "
                "name such as {name}, without blanks, points, indices and formats. A brace of its own can not be in "
                "such a text."
            )
        at += len(text) + len(place) + 2
    return Template(tuple(texts), tuple(places))


def word(value: object) -> str | Flaw:
    """Write a field's value in one line, or tell why it can not be in a text.

    :param value: text, a whole or broken number, a date or a time.
    """
    match value:
        case str():
            text = value
        case None:
            return Flaw.EMPTY
        case bool():
            return Flaw.KIND
        case float() | Decimal():
            number = Decimal(repr(float(value))) if isinstance(value, float) else value
            if not number.is_finite():
                # What a table's library makes of an empty cell.
                return Flaw.EMPTY
            if abs(number.adjusted()) > _MOST_DIGITS:
                return Flaw.DIGITS
            text = format(number, "f")
        case Integral():
            if abs(int(value)) >= 10**_MOST_DIGITS:
                return Flaw.DIGITS
            text = str(int(value))
        case date() | time():
            # Of a missing time pandas makes one that is not itself.
            if value != value:
                return Flaw.EMPTY
            text = str(value)
        case _:
            return Flaw.KIND
    text = _BREAKS.sub(" ", text).strip()
    # A spreadsheet's empty cell may hold a byte order mark or a blank without width.
    if not any(each.isprintable() and not each.isspace() for each in text):
        return Flaw.EMPTY
    return Flaw.SIGNATURE if _SIGNATURE.search(text) else text
