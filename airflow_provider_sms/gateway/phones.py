"""Phones: brought to one form, each once, and what was left out with the reason. Pure functions."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from airflow_provider_sms.gateway.errors import PhonesError

_MOBILE = re.compile(r"1[3-9][0-9]{9}", re.ASCII)
_PLAIN = re.compile(r"1[3-9][0-9]{9}\Z", re.ASCII)
_PREFIX = re.compile(r"(?:\+?86|0086)(?=1[3-9][0-9]{9}\Z)", re.ASCII)
_FILLERS = re.compile(r"[\s'\"\-\u2010-\u2015\u2212()\u00b7.\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]+")
_SEPARATORS = re.compile(r"[,\uff0c\u3001;\uff1b\r\n]+")
_INSIDE_TEXT = re.compile(r"(?<![0-9])(1[3-9][0-9])[0-9]{4}([0-9]{4})(?![0-9])", re.ASCII)


class Reason(StrEnum):
    """Why a phone is left out."""

    DUPLICATE = "duplicate"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class Excluded:
    """One phone that is left out.

    :param position: where it stood in what was handed in, from 1.
    :param shown: the phone, masked.
    :param reason: why it is left out.
    """

    position: int
    shown: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Phones:
    """What was handed in, sorted into what can be sent to and what can not.

    :param included: mainland mobiles, eleven digits each, each once, in the order they came.
    :param excluded: all others.
    """

    included: tuple[str, ...] = field(repr=False)
    excluded: tuple[Excluded, ...]

    def counted(self) -> dict[str, int]:
        """Count what is left out by reason."""
        return dict(Counter(each.reason.value for each in self.excluded))

    def explained(self, most: int = 5) -> str:
        """Say in words what is left out: counts and a few masked samples.

        :param most: how many samples.
        """
        counts = ", ".join(f"{count} {reason}" for reason, count in self.counted().items())
        shown = "; ".join(f"item {each.position}: {each.shown}, {each.reason}" for each in self.excluded[:most])
        more = len(self.excluded) - most
        return f"{counts} ({shown}{f'; and {more} more' if more > 0 else ''})"


def read(phones: object) -> Phones:
    """Read phones as people hand them in.

    :param phones: comma text (Chinese commas, semicolons or a line each will do), or any iterable of texts or
        whole numbers.
    :returns: normalised phones, each once, and what was left out.
    :raises PhonesError: not a list of phones at all, or none of them can be sent to.

    Interface document: 1.发送接口, `phone`.
    """
    seen: dict[str, None] = {}
    excluded: list[Excluded] = []
    for position, item in enumerate(_items(phones), 1):
        phone = normalise(item)
        if phone is None:
            excluded.append(Excluded(position, mask(item), Reason.MALFORMED))
        elif phone in seen:
            excluded.append(Excluded(position, mask(phone), Reason.DUPLICATE))
        else:
            seen[phone] = None
    found = Phones(tuple(seen), tuple(excluded))
    if not found.included:
        if not excluded:
            raise PhonesError("phones: there is none; hand in at least one mobile, such as 13800130001.")
        raise PhonesError(
            f"phones: none of {len(excluded)} is a mainland mobile: {found.explained()}. "
            "Write eleven digits beginning with 13 to 19, with or without +86."
        )
    return found


def normalise(item: object) -> str | None:
    """Bring one phone to its eleven digits.

    :param item: text such as `+86 138-0013-0001`, or a whole number.
    :returns: the eleven digits, or None if it is no mainland mobile.
    """
    if isinstance(item, str):
        if _PLAIN.match(item):
            return item
        text = item
    elif isinstance(item, bool):
        return None
    elif isinstance(item, int):
        text = str(item)
    elif isinstance(item, float) and item.is_integer():
        text = str(int(item))
    else:
        return None
    bare = _FILLERS.sub("", unicodedata.normalize("NFKC", text))
    bare = _PREFIX.sub("", bare)
    return bare if _MOBILE.fullmatch(bare) else None


def mask(item: object) -> str:
    """Show a phone without showing it: `138****0001`; of anything else its kind and length alone.

    :param item: a phone, or what stood in its place.
    """
    phone = normalise(item)
    if phone is not None:
        return f"{phone[:3]}****{phone[-4:]}"
    if isinstance(item, str):
        digits = sum(character.isdigit() for character in item)
        return f"a text of {len(item)} characters, {digits} of them digits" if item.strip() else "an empty text"
    if isinstance(item, int | float) and not isinstance(item, bool):
        return f"a number of {len(str(item))} characters"
    return f"a {type(item).__name__}"


def mask_inside(text: str) -> str:
    """Mask every mobile that stands inside a text.

    :param text: any text.
    """
    return _INSIDE_TEXT.sub(r"\1****\2", text)


def _items(phones: object) -> Iterator[object]:
    if isinstance(phones, str):
        # A list that went through a template arrives as "['13800130001', '13800130002']".
        text = phones.strip().removeprefix("[").removesuffix("]")
        return (item for item in _SEPARATORS.split(text) if item.strip())
    if isinstance(phones, int) and not isinstance(phones, bool):
        return iter((phones,))
    if isinstance(phones, Iterable) and not isinstance(phones, bytes | bytearray | dict):
        return iter(phones)
    raise PhonesError(
        f"phones: expected a list or comma text such as 13800130001,13800130002, got {type(phones).__name__}."
    )
